//! Errors of the network name the address that the client used: a closed port behind a Service is a refusal at once.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;

use crate::lab::{
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
