//! The manifests of `examples/`, applied verbatim with the real kubectl.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::lab::{
    probe::{self, Outcome, Protocol},
    wait,
    world::World,
};

const READY_TIME_MAX: Duration = Duration::from_secs(30);

fn example(name: &str) -> String {
    format!("{}/examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn names(list: &str) -> BTreeSet<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), port)
}

fn jsonpath(world: &World, target: &str, path: &str) -> String {
    world.kubectl(&["get", target, "-o", &format!("jsonpath={{{path}}}")])
}

#[test]
fn kubia_is_answered_by_each_of_its_pods_and_survives_their_loss() {
    let world = World::running(1);
    world.kubectl(&["apply", "-f", &example("kubia.yaml")]);
    world.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod",
        "-l",
        "app=kubia",
        "--timeout=30s",
    ]);

    let table = world.kubectl(&["get", "pods"]);
    assert!(
        table.starts_with("NAME") && table.matches("1/1     Running").count() == 3,
        "{table}"
    );
    let pods = names(&jsonpath(&world, "pods", ".items[*].metadata.name"));
    let cluster_ip = jsonpath(&world, "svc/kubia", ".spec.clusterIP");
    assert!(world.kubectl(&["get", "svc"]).contains(&cluster_ip));

    let url = format!("http://{cluster_ip}");
    let chosen = pods.iter().next().expect("a pod").clone();
    let mut answered_by = BTreeSet::new();
    wait::until("every pod answers", READY_TIME_MAX, || {
        let answer = world.kubectl(&["exec", &chosen, "--", "curl", "-s", "--max-time", "2", &url]);
        let name = answer
            .trim()
            .strip_prefix("You've hit ")
            .unwrap_or_else(|| panic!("odd answer {answer:?}"));
        answered_by.insert(name.to_owned());
        if answered_by == pods {
            Ok(())
        } else {
            Err(answered_by.clone())
        }
    });

    let failures = while_asking(&world, address(&cluster_ip, 80), || {
        world.kubectl(&["delete", "pod", &chosen]);
        wait::until("the pod is replaced", READY_TIME_MAX, || {
            let ready = jsonpath(&world, "rs/kubia", ".status.readyReplicas");
            let now = names(&jsonpath(&world, "pods", ".items[*].metadata.name"));
            if ready == "3" && !now.contains(&chosen) && now.len() == 3 {
                Ok(())
            } else {
                Err((ready, now))
            }
        });
    });
    assert_eq!(failures, Vec::new());
}

/// Asks over and over from the node while `work` goes on; gives every answer that was none.
fn while_asking(world: &World, to: SocketAddr, work: impl FnOnce()) -> Vec<Outcome> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let netns = world.nodes[0].netns.path();
    let asking = std::thread::spawn(move || {
        let mut failures = Vec::new();
        let mut count = 0;
        while !stopped.load(Ordering::Relaxed) {
            match probe::ask_from(&netns, Protocol::Tcp, to) {
                Outcome::Answered { .. } => count += 1,
                other => failures.push(other),
            }
        }
        assert!(count > 20, "only {count} questions were asked");
        failures
    });
    work();
    stop.store(true, Ordering::Relaxed);
    asking.join().expect("the asking thread")
}

#[test]
fn nodeport_answers_on_every_node_from_everywhere() {
    let world = World::running(2);
    world.kubectl(&["apply", "-f", &example("nodeport.yaml")]);
    world.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/my-app",
        "--timeout=30s",
    ]);
    let cluster_ip = jsonpath(&world, "svc/my-service", ".spec.clusterIP");
    assert_eq!(
        jsonpath(&world, "svc/my-service", ".spec.ports[0].nodePort"),
        "30007"
    );

    let by_pod = |what: &str, ask: &dyn Fn() -> Outcome| {
        wait::until(what, READY_TIME_MAX, || match ask() {
            Outcome::Answered { by, .. } if by == "my-app" => Ok(()),
            other => Err(other),
        });
    };
    for node in &world.nodes {
        let to = address(&node.ip, 30007);
        by_pod(&format!("client to {to}"), &|| {
            world.client.run(move || probe::ask(Protocol::Tcp, to))
        });
        for from in &world.nodes {
            by_pod(&format!("{} to {to}", from.netns.name), &|| {
                from.netns.run(move || probe::ask(Protocol::Tcp, to))
            });
        }
        let url = format!("http://{to}");
        let answer = world.kubectl(&[
            "exec",
            "my-app",
            "--",
            "curl",
            "-s",
            "--max-time",
            "2",
            &url,
        ]);
        assert_eq!(answer, "You've hit my-app\n");
        let to = address(&cluster_ip, 80);
        by_pod(&format!("{} to {to}", node.netns.name), &|| {
            node.netns.run(move || probe::ask(Protocol::Tcp, to))
        });
    }
}

#[test]
fn loadbalancer_has_the_addresses_it_asked_for_and_answers_outside() {
    let world = World::running(2);
    world.kubectl(&["apply", "-f", &example("loadbalancer.yaml")]);
    world.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/my-app",
        "--timeout=30s",
    ]);
    assert_eq!(
        jsonpath(&world, "svc/my-loadbalancer", ".spec.clusterIP"),
        "10.0.171.239"
    );
    let ip = wait::until("a load-balancer IP", READY_TIME_MAX, || {
        let ip = jsonpath(
            &world,
            "svc/my-loadbalancer",
            ".status.loadBalancer.ingress[0].ip",
        );
        if ip.starts_with("10.77.0.2") {
            Ok(ip)
        } else {
            Err(ip)
        }
    });
    let node_port: u16 = jsonpath(&world, "svc/my-loadbalancer", ".spec.ports[0].nodePort")
        .parse()
        .expect("a node port");
    assert!((30000..=32767).contains(&node_port));

    let targets = [
        address(&ip, 80),
        address("10.0.171.239", 80),
        address(&world.nodes[1].ip, node_port),
    ];
    for to in targets {
        let mut from = vec![&world.nodes[0].netns, &world.nodes[1].netns];
        if !to.ip().to_string().starts_with("10.0.") {
            from.push(&world.client);
        }
        for machine in from {
            wait::until(
                &format!("{} to {to}", machine.name),
                READY_TIME_MAX,
                || match machine.run(move || probe::ask(Protocol::Tcp, to)) {
                    Outcome::Answered { by, .. } if by == "my-app" => Ok(()),
                    other => Err(other),
                },
            );
        }
    }
}

#[test]
fn a_load_balancer_ip_outside_the_pool_is_ignored_with_an_event() {
    let world = World::running(1);
    let service = |name: &str, ip: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{type: LoadBalancer, loadBalancerIP: {ip}, ports: [{{port: 80}}]}}}}"
        )
    };
    world.apply(&service("inside", "10.77.0.215"));
    world.apply(&service("outside", "192.0.2.1"));
    let ingress = |name: &str| {
        jsonpath(
            &world,
            &format!("svc/{name}"),
            ".status.loadBalancer.ingress[0].ip",
        )
    };
    wait::until(
        "the IP that was asked for",
        READY_TIME_MAX,
        || match ingress("inside") {
            ip if ip == "10.77.0.215" => Ok(()),
            other => Err(other),
        },
    );
    wait::until("another IP of the pool", READY_TIME_MAX, || {
        match ingress("outside") {
            ip if ip.starts_with("10.77.0.2") => Ok(()),
            other => Err(other),
        }
    });
    wait::until("an event that says so", READY_TIME_MAX, || {
        let events = world.kubectl(&[
            "get",
            "events",
            "--field-selector",
            "involvedObject.name=outside",
        ]);
        if events.contains("192.0.2.1") {
            Ok(())
        } else {
            Err(events)
        }
    });
}
