//! Refusals: a closed port behind a Service names the address that the client used, and nobody waits for a refusal.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::json;

use crate::lab::{
    family::{Family, Stack},
    probe::{self, Outcome, Protocol},
    wait,
    world::World,
};

const READY_TIME_MAX: Duration = Duration::from_secs(40);

/// A connected socket hears of an ICMP error only when the packet quoted in it is its own.
#[test]
fn the_error_of_a_closed_port_comes_back_to_the_address_that_was_asked() {
    let world = World::running(2);
    let container = json!({ "name": "echo", "command": ["knarr", "echo"] });
    for (pod, node) in [("web-1", "node-2"), ("shop-1", "node-1")] {
        let spec = json!({
            "nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container],
        });
        let metadata = json!({ "name": pod, "labels": { "pod": pod } });
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec });
        world.post("/api/v1/namespaces/default/pods", &pod);
    }
    world.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod",
        "--all",
        "--timeout=40s",
    ]);
    let port = |name: &str, port: u16, target: u16, protocol: &str| {
        json!({
            "name": name, "port": port, "targetPort": target, "protocol": protocol,
            "nodePort": 30_000 + port,
        })
    };
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": {
            "type": "NodePort", "clusterIP": "10.0.128.130", "externalIPs": ["198.51.100.30"],
            "selector": { "pod": "web-1" },
            "ports": [
                port("open", 80, 8080, "TCP"),
                port("closed", 81, 7777, "UDP"),
                port("shut", 82, 7777, "TCP"),
            ],
        },
    });
    world.post("/api/v1/namespaces/default/services", &service);
    world.wait_for_answer("10.0.128.130:80");
    let shop = world.pod_netns("shop-1");
    let refused = |to: &str, protocol: Protocol, ask: &dyn Fn(SocketAddr) -> Outcome| {
        let to: SocketAddr = to.parse().expect("an address");
        wait::until(
            &format!("{protocol:?} to {to} is refused"),
            READY_TIME_MAX,
            || match ask(to) {
                Outcome::Rejected => Ok(()),
                other => Err((other, world.logs())),
            },
        );
    };
    for (number, protocol) in [(81, Protocol::Udp), (82, Protocol::Tcp)] {
        let from_pod = |to| probe::ask_from(&shop, protocol, to);
        let from_node = |to| world.nodes[0].netns.run(move || probe::ask(protocol, to));
        let from_outside = |to| world.client.run(move || probe::ask(protocol, to));
        let cluster_ip = format!("10.0.128.130:{number}");
        refused(&cluster_ip, protocol, &from_pod);
        refused(&cluster_ip, protocol, &from_node);
        refused(&format!("198.51.100.30:{number}"), protocol, &from_outside);
        refused(&format!("10.77.0.11:300{number}"), protocol, &from_outside);
    }
}

/// How often TCP of this thread's namespace had to send something again.
fn resent_count() -> u64 {
    let counters = std::fs::read_to_string("/proc/thread-self/net/snmp").expect("counters");
    let mut tcp = counters.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (tcp.next().expect("names"), tcp.next().expect("values"));
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let (_, resent) = pairs.find(|(name, _)| *name == "RetransSegs").expect("TCP");
    resent.parse().expect("a number")
}

/// Connects without a time limit; what became of it, and how many SYNs more than one it took.
fn connect(to: SocketAddr) -> (std::io::ErrorKind, u64) {
    let before = resent_count();
    let error = TcpStream::connect(to).expect_err("nobody is there");
    (error.kind(), resent_count() - before)
}

/// An ICMP error that comes while the client's TCP still sends is lost on it, and it asks again a second later.
#[test]
fn a_refused_connection_asks_once() {
    let world = World::running_with(Stack::Dual, 1);
    let container = json!({ "name": "echo", "command": ["knarr", "echo"] });
    world.post(
        "/api/v1/namespaces/default/pods",
        &json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "shop-1" },
            "spec": { "terminationGracePeriodSeconds": 1, "containers": [container] },
        }),
    );
    world.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/shop-1",
        "--timeout=40s",
    ]);
    world.post(
        "/api/v1/namespaces/default/services",
        &json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "nobody" },
            "spec": {
                "type": "NodePort", "clusterIP": "10.0.128.131", "clusterIPs": ["10.0.128.131", "fd64::10.0.128.131"],
                "ipFamilyPolicy": "RequireDualStack", "selector": { "app": "nobody" },
                "ports": [{ "port": 80, "nodePort": 30131 }],
            },
        }),
    );
    let shop = world.pod_netns("shop-1");
    for family in [Family::V4, Family::V6] {
        let service = SocketAddr::new(family.address([10, 0, 128, 131].into()), 80);
        let node = SocketAddr::new(world.nodes[0].ip_in(family).parse().expect("an IP"), 30131);
        wait::until(
            "the Service is known",
            READY_TIME_MAX,
            || match probe::ask_from(&shop, Protocol::Tcp, service) {
                Outcome::Rejected => Ok(()),
                other => Err((other, world.logs())),
            },
        );
        let at_once = (std::io::ErrorKind::ConnectionRefused, 0);
        assert_eq!(
            probe::run_in(&shop, move || connect(service)),
            at_once,
            "{family:?}: pod"
        );
        let from_node = world.nodes[0].netns.run(move || connect(service));
        assert_eq!(from_node, at_once, "{family:?}: node");
        let from_outside = world.client.run(move || connect(node));
        assert_eq!(from_outside, at_once, "{family:?}: outside");
    }
}
