//! Churn under load: endpoints come and go, rules are flushed, a node is lost, while clients connect without pause.
//!
//! A request may fail only where Kubernetes could not have answered either: while rules are gone, or a node that still counts is.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::signal::Signal,
};
use serde_json::{Value, json};

use crate::lab::{wait, world::World};

const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// Longer than a lost packet takes to be sent again, and short enough that a client soon asks anew.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);
/// The promise is a second; slow machines get some more.
const REPAIR_TIME_MAX: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(4);
/// Fewer would not be load.
const ANSWERED_MIN: usize = 50;
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/web";

/// One client that asks again and again, until told to stop.
struct Client {
    way: &'static str,
    thread: JoinHandle<Tally>,
}

#[derive(Default)]
struct Tally {
    answered: usize,
    failures: Vec<Failure>,
}

struct Failure {
    from: Instant,
    until: Instant,
    why: String,
}

/// A time in which requests may fail, and why.
struct Trouble {
    why: &'static str,
    from: Instant,
    until: Instant,
}

impl Trouble {
    fn explains(&self, failure: &Failure) -> bool {
        failure.from <= self.until && failure.until >= self.from
    }
}

impl Client {
    fn start(way: &'static str, netns: PathBuf, to: String, stop: &Arc<AtomicBool>) -> Self {
        let netns =
            File::open(&netns).unwrap_or_else(|error| panic!("{}: {error}", netns.display()));
        let to: SocketAddr = to.parse().expect("an address");
        let stop = stop.clone();
        let thread = std::thread::spawn(move || {
            setns(netns, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
            let mut tally = Tally::default();
            while !stop.load(Ordering::Relaxed) {
                let from = Instant::now();
                match ask(to) {
                    Ok(()) => tally.answered += 1,
                    Err(error) => tally.failures.push(Failure {
                        from,
                        until: Instant::now(),
                        why: error.to_string(),
                    }),
                }
                std::thread::park_timeout(PAUSE);
            }
            tally
        });
        Self { way, thread }
    }
}

fn ask(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, ANSWER_TIME_MAX)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.contains("You've hit web-") {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("answered {answer:?}")))
    }
}

fn deployment() -> Value {
    let container = json!({
        "name": "echo", "command": ["knarr", "echo", "--drain-ms", "3000"],
        "readinessProbe": { "tcpSocket": { "port": 8080 }, "periodSeconds": 1 },
    });
    let spec = json!({ "terminationGracePeriodSeconds": 20, "containers": [container] });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "replicas": 4, "selector": { "matchLabels": { "app": "web" } },
            "strategy": { "rollingUpdate": { "maxUnavailable": 1, "maxSurge": 1 } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": spec },
        },
    })
}

/// A pod that asks, on the node that stays.
fn shop() -> Value {
    let container = json!({ "name": "shop", "command": ["sleep", "infinity"] });
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "shop" },
        "spec": {
            "nodeName": "node-1", "terminationGracePeriodSeconds": 1, "containers": [container],
        },
    })
}

fn rolled_out(world: &World) {
    let limit = format!("--timeout={}s", READY_TIME_MAX.as_secs());
    world.kubectl(&["rollout", "status", "deployment/web", &limit]);
}

fn scaled_to(world: &World, replicas: usize) {
    world.merge(DEPLOYMENT, &json!({ "spec": { "replicas": replicas } }));
    rolled_out(world);
}

/// Flushes a node's rules, and waits until knarr has put them back.
fn flushed(world: &World, node: usize) -> Trouble {
    let netns = &world.nodes[node].netns;
    let from = Instant::now();
    netns.sh("nft flush ruleset");
    wait::until("the rules are back", REPAIR_TIME_MAX, || {
        let table = netns.try_sh("nft list map ip knarr frontends");
        let back = String::from_utf8_lossy(&table.stdout).contains("10.0.128.110 . tcp . 80");
        if back { Ok(()) } else { Err(world.logs()) }
    });
    let until = Instant::now();
    Trouble {
        why: "rules were flushed",
        from,
        until,
    }
}

/// Cuts a node off and has the cluster forget it, as its operator would.
fn lost(world: &World) -> Trouble {
    let from = Instant::now();
    world.router.sh("ip link set to-node-2 down");
    world.kubectl(&["delete", "node", "node-2", "--wait=false"]);
    wait::until("its endpoints are gone", READY_TIME_MAX, || {
        let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        let slices = world.get(path).to_string();
        if slices.contains("\"nodeName\":\"node-2\"") {
            Err(slices)
        } else {
            Ok(())
        }
    });
    let until = Instant::now();
    Trouble {
        why: "a node was cut off",
        from,
        until,
    }
}

#[test]
fn no_request_fails_that_kubernetes_would_have_answered() {
    let mut world = World::running(2);
    world.post(
        "/apis/apps/v1/namespaces/default/deployments",
        &deployment(),
    );
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.0.128.110", "loadBalancerIP": "10.77.0.210",
            "selector": { "app": "web" },
            "ports": [{ "port": 80, "targetPort": 8080, "nodePort": 30110 }],
        },
    });
    world.post("/api/v1/namespaces/default/services", &service);
    rolled_out(&world);
    world.wait_for_answer("10.0.128.110:80");
    world.wait_for_answer("10.77.0.210:80");
    let stop = Arc::new(AtomicBool::new(false));
    world.post("/api/v1/namespaces/default/pods", &shop());
    world.kubectl(&["wait", "--for=condition=Ready", "pod/shop", "--timeout=60s"]);
    let outside = world.client.path();
    let pod = world.pod_netns("shop");
    let node = world.nodes[0].netns.path();
    let start =
        |way, netns: &PathBuf, to: &str| Client::start(way, netns.clone(), to.to_owned(), &stop);
    let clients = [
        start("cluster IP from a node", &node, "10.0.128.110:80"),
        start("cluster IP from a pod", &pod, "10.0.128.110:80"),
        start("load-balancer IP from a pod", &pod, "10.77.0.210:80"),
        start("node port from outside", &outside, "10.77.0.11:30110"),
        start("load-balancer IP from outside", &outside, "10.77.0.210:80"),
    ];
    for replicas in [7, 2, 5] {
        scaled_to(&world, replicas);
    }
    world.kubectl(&["rollout", "restart", "deployment/web"]);
    rolled_out(&world);
    let mut troubles = vec![flushed(&world, 0)];
    world.nodes[1].stop(Signal::SIGKILL);
    scaled_to(&world, 5);
    world.start_agent(1);
    world.wait_for_nodes();
    troubles.push(flushed(&world, 1));
    troubles.push(lost(&world));
    world.wait_for_answer("10.0.128.110:80");
    stop.store(true, Ordering::Relaxed);
    let unexplained = count(clients, &troubles);
    world.router.sh("ip link set to-node-2 up");
    assert_eq!(unexplained, Vec::<String>::new(), "{}", world.logs());
}

/// Prints what became of each client's requests, and gives the failures that nothing explains.
fn count(clients: [Client; 5], troubles: &[Trouble]) -> Vec<String> {
    let mut unexplained = Vec::new();
    for Client { way, thread } in clients {
        let Tally { answered, failures } = thread.join().expect("the client ran to its end");
        println!("{way}: {answered} answered, {} failed", failures.len());
        for trouble in troubles {
            let while_it_lasted = failures.iter().filter(|one| trouble.explains(one)).count();
            let took = trouble.until - trouble.from;
            println!(
                "  {while_it_lasted} while {} ({} ms)",
                trouble.why,
                took.as_millis()
            );
        }
        let others = failures
            .iter()
            .filter(|one| !troubles.iter().any(|t| t.explains(one)));
        unexplained.extend(others.map(|one| format!("{way}: {}", one.why)));
        assert!(
            answered >= ANSWERED_MIN,
            "{way}: only {answered} requests were answered"
        );
    }
    unexplained
}
