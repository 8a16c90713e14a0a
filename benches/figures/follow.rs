//! How soon packets follow the API while 5,000 Services are there: an endpoint that moves, a pod that becomes ready, a node that starts cold.

use std::{
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    Row, Samples, crowd, idle,
    lab::{netns::Netns, world::World},
    show,
};

const SERVICES: usize = 5_000;
const ENDPOINTS: usize = 2;
const ROUNDS: usize = 100;
const COLD_ROUNDS: usize = 3;
const OTHER_CHANGE_INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(20);
/// The Service whose only endpoint moves between two listeners, and the one of a pod that is ready or not.
const MOVING: &str = "10.0.128.91:80";
const GATED: &str = "10.0.128.92:80";
const PORTS: [u16; 2] = [9001, 9002];

pub(crate) fn measure() -> Vec<Row> {
    let mut world = World::running(2);
    listen(&world.nodes[0].netns);
    listen(&world.nodes[1].netns);
    make_services(&world);
    answers_on(&world, 1, MOVING);
    let empty = idle::pss_mib(world.nodes[1].pid());
    crowd::fill(&world, SERVICES, ENDPOINTS);
    // One transaction is all or nothing, so the newest Service shows that every older one is there.
    crowd_is_programmed(&world);
    let full = idle::pss_mib(world.nodes[1].pid());
    let quiet = moves(&world);
    let others = Others::start(&world);
    let busy = moves(&world);
    others.stop();
    let gated = readiness(&world);
    let cold = cold_starts(&mut world);
    let row = |what: String, figure, floor: String, floor_is| Row {
        what,
        figure,
        floor,
        floor_is,
    };
    let change = "the answer to the change itself, flushed to disk";
    vec![
        row(
            format!("endpoint change → packets follow, {SERVICES} Services (p50 / p99 / max)"),
            quiet.followed.show_max(),
            quiet.answered.show_max(),
            change,
        ),
        row(
            "the same with 10 other changes a second (p50 / p99 / max)".into(),
            busy.followed.show_max(),
            busy.answered.show_max(),
            change,
        ),
        row(
            "a pod's readiness → packets follow (p50 / p99 / max)".into(),
            gated.followed.show_max(),
            gated.answered.show_max(),
            change,
        ),
        row(
            format!("start of an agent → {SERVICES} Services x {ENDPOINTS} programmed"),
            show(cold.programmed.median()),
            show(cold.listed.median()),
            "one list of the same Services and EndpointSlices",
        ),
        row(
            format!("agent with {SERVICES} Services x {ENDPOINTS}, PSS"),
            format!("{full:.1} MiB"),
            format!("{empty:.1} MiB"),
            "the same agent with 3 Services",
        ),
    ]
}

/// Two listeners that answer with the last digit of their port.
fn listen(netns: &Netns) {
    netns.run(|| {
        for port in PORTS {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a port");
            // The thread ends with the process; its namespace is that of the thread that starts it.
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let digit = [(port % 10) as u8];
                    let _the_client_may_be_gone = stream
                        .and_then(|mut stream| std::io::Write::write_all(&mut stream, &digit));
                }
            });
        }
    });
}

fn make_services(world: &World) {
    let ip = |address: &str| address.split(':').next().expect("an address").to_owned();
    world.post(
        crowd::SERVICES,
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "moving"},
            "spec": {"clusterIP": ip(MOVING), "ports": [{"port": 80}]}}),
    );
    world.post(crowd::SLICES, &moving_slice(PORTS[0]));
    world.post(
        crowd::SERVICES,
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "gated"},
            "spec": {"clusterIP": ip(GATED), "selector": {"app": "gated"}, "ports": [{"port": 80, "targetPort": PORTS[0]}]}}),
    );
}

fn moving_slice(port: u16) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "moving", "labels": {"kubernetes.io/service-name": "moving"}},
        "ports": [{"port": port}], "endpoints": [{"addresses": ["10.77.0.11"]}]})
}

/// Which listener answers, if any.
fn asked(to: &str) -> Option<u8> {
    let to: SocketAddr = to.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(20)).ok()?;
    let mut digit = [0];
    stream.read_exact(&mut digit).ok()?;
    Some(digit[0])
}

fn answers_on(world: &World, node: usize, to: &'static str) {
    world.nodes[node]
        .netns
        .run(move || until(|| asked(to).is_some()));
}

/// Asks about every millisecond: the kernel refuses no more often than that, and a refusal that is lost
/// would cost the second after which TCP tries again.
fn until(holds: impl Fn() -> bool) -> Instant {
    const PAUSE: Duration = Duration::from_micros(900);
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "packets do not follow");
        std::thread::sleep(PAUSE);
    }
    Instant::now()
}

/// A change to a Service that is made last, seen on every node, follows all that was made before.
fn crowd_is_programmed(world: &World) {
    world.merge(
        &format!("{}/moving", crowd::SLICES),
        &json!({"ports": [{"port": PORTS[1]}]}),
    );
    for node in &world.nodes {
        node.netns
            .run(|| until(|| asked(MOVING) == Some((PORTS[1] % 10) as u8)));
    }
}

/// When packets followed, and when the API had answered.
struct Followed {
    followed: Samples,
    answered: Samples,
}

/// A thread in node-1's namespace that sends one patch at a time and says when it was answered.
struct Writer {
    orders: mpsc::Sender<(String, Value)>,
    answers: mpsc::Receiver<Instant>,
}

impl Writer {
    /// To be called inside the namespace.
    fn start(kubeconfig: &Path) -> Self {
        let (orders, inbox) = mpsc::channel::<(String, Value)>();
        let (answer, answers) = mpsc::channel();
        let kubeconfig = kubeconfig.to_owned();
        std::thread::spawn(move || {
            crowd::block_on(async {
                let client = crowd::client(&kubeconfig).await;
                for (path, patch) in inbox {
                    crowd::send(&client, "PATCH", &path, &patch).await;
                    let _nobody_may_wait = answer.send(Instant::now());
                }
            });
        });
        Writer { orders, answers }
    }

    fn send(&self, path: &str, patch: Value) {
        let order = (path.to_owned(), patch);
        self.orders.send(order).expect("the writer runs");
    }
}

fn kubeconfig(world: &World) -> PathBuf {
    world.nodes[0].data_dir().join("kubeconfig.yaml")
}

fn moves(world: &World) -> Followed {
    let path = format!("{}/moving", crowd::SLICES);
    follow(world, path, MOVING, |round| {
        let port = PORTS[round % 2];
        let patch = json!({"ports": [{"port": port}]});
        (patch, Some((port % 10) as u8))
    })
}

/// Sends patch after patch, and asks on node-1 until the answer is the one each leads to.
fn follow(
    world: &World,
    path: String,
    to: &'static str,
    change: impl Fn(usize) -> (Value, Option<u8>) + Send + 'static,
) -> Followed {
    let kubeconfig = kubeconfig(world);
    world.nodes[0].netns.run(move || {
        let writer = Writer::start(&kubeconfig);
        let (mut followed, mut answered) = (Vec::new(), Vec::new());
        // The first round opens the connection.
        for round in 0..=ROUNDS {
            let (patch, wanted) = change(round);
            let began = Instant::now();
            writer.send(&path, patch);
            let seen = until(|| asked(to) == wanted);
            let answer = writer.answers.recv().expect("the writer runs");
            if round > 0 {
                followed.push(seen - began);
                answered.push(answer - began);
            }
        }
        Followed {
            followed: Samples::new(followed),
            answered: Samples::new(answered),
        }
    })
}

/// Ten changes a second to Services that nobody asks.
struct Others {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Others {
    fn start(world: &World) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (seen, kubeconfig) = (ended.clone(), kubeconfig(world));
        let thread = world.nodes[0].netns.run(move || {
            std::thread::spawn(move || {
                crowd::block_on(async {
                    let client = crowd::client(&kubeconfig).await;
                    let mut beat = tokio::time::interval(OTHER_CHANGE_INTERVAL);
                    for round in 1.. {
                        if seen.load(Ordering::Relaxed) {
                            return;
                        }
                        beat.tick().await;
                        let patch = crowd::slice(round % SERVICES, ENDPOINTS, round);
                        let path = format!("{}/crowd-{}", crowd::SLICES, round % SERVICES);
                        crowd::send(&client, "PATCH", &path, &patch).await;
                    }
                });
            })
        });
        Others { ended, thread }
    }

    fn stop(self) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("the other changes were made");
    }
}

/// The status of a pod that no agent runs is written as an agent would, once ready and once not.
fn readiness(world: &World) -> Followed {
    world.post(
        "/api/v1/nodes",
        &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "ghost"}}),
    );
    let pods = "/api/v1/namespaces/default/pods";
    world.post(
        pods,
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gated", "labels": {"app": "gated"}},
            "spec": {"nodeName": "ghost", "containers": [{"name": "c", "command": ["sleep", "1000"]}]}}),
    );
    let gated = follow(world, format!("{pods}/gated/status"), GATED, |round| {
        let ready = round % 2 == 1;
        let word = if ready { "True" } else { "False" };
        let patch = json!({"status": {"phase": "Running", "podIP": "10.77.0.11", "podIPs": [{"ip": "10.77.0.11"}],
            "conditions": [{"type": "Ready", "status": word}]}});
        (patch, ready.then_some((PORTS[0] % 10) as u8))
    });
    world.delete(&format!("{pods}/gated?gracePeriodSeconds=0"));
    world.delete("/api/v1/nodes/ghost");
    gated
}

struct Cold {
    programmed: Samples,
    listed: Samples,
}

/// Ends node-2's agent, removes what it put on the host, and starts it anew.
fn cold_starts(world: &mut World) -> Cold {
    let token = world.nodes[0].knarr(&["token"]);
    let server = format!("https://{}:6443", world.nodes[0].ip);
    let mut programmed = Vec::new();
    for _ in 0..COLD_ROUNDS {
        world.nodes[1].stop(Signal::SIGTERM);
        world.nodes[1].knarr(&["down"]);
        let began = Instant::now();
        world.nodes[1].start(&["agent", "--server", &server, "--token", token.trim()]);
        let seen = world.nodes[1]
            .netns
            .run(|| until(|| asked(MOVING).is_some()));
        programmed.push(seen - began);
    }
    let listed = Samples::take(COLD_ROUNDS, || {
        let began = Instant::now();
        world.get("/api/v1/services");
        world.get("/apis/discovery.k8s.io/v1/endpointslices");
        began.elapsed()
    });
    Cold {
        programmed: Samples::new(programmed),
        listed,
    }
}
