//! What a Service costs a packet: through its cluster IP against straight to the pod.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::{Row, Samples, lab::world::World, show};

const ROUNDS: usize = 3000;
const BULK_BYTES: usize = 1 << 30;
const BULK_PORT: u16 = 9000;

pub(crate) fn measure() -> Vec<Row> {
    let world = World::running(1);
    world.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}}, spec: {containers: [{name: c, command: [knarr, echo]}]}}",
    );
    world.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.0.128.78, selector: {app: web}, \
         ports: [{name: web, port: 80, targetPort: 8080}, {name: bulk, port: 9000}]}}",
    );
    world.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=30s"]);
    let pod_ip = world.kubectl(&["get", "pod/web", "-o", "jsonpath={.status.podIP}"]);
    world.wait_for_answer("10.0.128.78:80");
    let service: SocketAddr = "10.0.128.78:80".parse().expect("an address");
    let direct: SocketAddr = format!("{pod_ip}:8080").parse().expect("an address");

    let (connect_service, connect_direct) = in_turn(&world, service, direct, connect_and_close);
    let (request_service, request_direct) = requests(&world, service, direct);
    let sink = bulk_sink(&world, "web");
    let (bulk_service, bulk_direct) = bulk(
        &world,
        SocketAddr::new(service.ip(), BULK_PORT),
        SocketAddr::new(direct.ip(), BULK_PORT),
    );
    sink.join().expect("the bulk sink ended");
    let row = |what: &str, through: String, straight: String, ratio: f64| Row {
        what: what.into(),
        figure: format!("{through} (× {ratio:.3})"),
        floor: straight,
        floor_is: "straight to the pod",
    };
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    vec![
        row(
            "connect and close through a cluster IP, p50",
            show(connect_service.median()),
            show(connect_direct.median()),
            ratio(connect_service.median(), connect_direct.median()),
        ),
        row(
            "request and response through a cluster IP, p50",
            show(request_service.median()),
            show(request_direct.median()),
            ratio(request_service.median(), request_direct.median()),
        ),
        row(
            "bulk throughput through a cluster IP",
            format!("{bulk_service:.2} GB/s"),
            format!("{bulk_direct:.2} GB/s"),
            bulk_service / bulk_direct,
        ),
    ]
}

/// A B A B …, so that drift of the machine hits both alike.
fn in_turn(
    world: &World,
    a: SocketAddr,
    b: SocketAddr,
    ask: fn(SocketAddr) -> Duration,
) -> (Samples, Samples) {
    world.nodes[0].netns.run(move || {
        let pairs: Vec<(Duration, Duration)> = (0..ROUNDS).map(|_| (ask(a), ask(b))).collect();
        let (a, b) = pairs.into_iter().unzip();
        (Samples::new(a), Samples::new(b))
    })
}

fn connect_and_close(to: SocketAddr) -> Duration {
    let began = Instant::now();
    drop(TcpStream::connect(to).expect("a connection"));
    began.elapsed()
}

fn requests(world: &World, a: SocketAddr, b: SocketAddr) -> (Samples, Samples) {
    world.nodes[0].netns.run(move || {
        let mut streams = [a, b].map(|to| TcpStream::connect(to).expect("a connection"));
        streams
            .iter()
            .for_each(|stream| stream.set_nodelay(true).expect("a TCP socket"));
        let mut samples = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (stream, samples) in streams.iter_mut().zip(&mut samples) {
                let began = Instant::now();
                stream
                    .write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
                    .expect("a request");
                let mut buffer = [0; 4096];
                let length = stream.read(&mut buffer).expect("an answer");
                assert!(
                    buffer[..length].windows(3).any(|w| w == b"web"),
                    "an odd answer"
                );
                samples.push(began.elapsed());
            }
        }
        let [a, b] = samples;
        (Samples::new(a), Samples::new(b))
    })
}

/// Two connections' worth of a server inside the pod's namespace that reads and forgets.
fn bulk_sink(world: &World, pod: &str) -> std::thread::JoinHandle<()> {
    let (ready, listening) = std::sync::mpsc::channel();
    let netns = world.pod_netns(pod);
    let sink = std::thread::spawn(move || {
        let file = std::fs::File::open(&netns).expect("the pod's namespace");
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("root");
        let listener =
            std::net::TcpListener::bind(("0.0.0.0", BULK_PORT)).expect("a port in the pod");
        ready.send(()).expect("somebody waits");
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut buffer = vec![0; 1 << 18];
            while stream.read(&mut buffer).expect("bytes") > 0 {}
        }
    });
    listening.recv().expect("the sink listens");
    sink
}

fn bulk(world: &World, a: SocketAddr, b: SocketAddr) -> (f64, f64) {
    world.nodes[0].netns.run(move || {
        let send = |to: SocketAddr| {
            let mut stream = TcpStream::connect(to).expect("a connection");
            let chunk = vec![0; 1 << 18];
            let began = Instant::now();
            (0..BULK_BYTES / chunk.len()).for_each(|_| stream.write_all(&chunk).expect("room"));
            BULK_BYTES as f64 / began.elapsed().as_secs_f64() / 1e9
        };
        (send(a), send(b))
    })
}
