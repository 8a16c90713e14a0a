//! Pods and the world beyond the nodes: machines that know no pod answer them all the same, as they would the node.

use std::{net::SocketAddr, path::Path, time::Duration};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::lab::{
    family::{Family, Stack},
    machine::{Layout, Outsider},
    probe::{self, Outcome, Protocol},
    wait,
    world::World,
};

const SEEN_TIME_MAX: Duration = Duration::from_secs(10);

/// One pod on each node.
fn run_pods(world: &World) {
    for number in 1..=world.nodes.len() {
        let container = json!({ "name": "echo", "command": ["knarr", "echo"] });
        world.post(
            "/api/v1/namespaces/default/pods",
            &json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": { "name": format!("shop-{number}") },
                "spec": {
                    "nodeName": format!("node-{number}"), "terminationGracePeriodSeconds": 1,
                    "containers": [container],
                },
            }),
        );
    }
    let ready = ["wait", "--for=condition=Ready", "pod", "--all"];
    world.kubectl(&[&ready[..], &["--timeout=40s"]].concat());
}

fn ip_of(world: &World, pod: &str, family: Family) -> String {
    let ips = world.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIPs[*].ip}"]);
    let mut ips = ips.split_whitespace();
    let found = ips.find(|ip| ip.contains(':') == (family == Family::V6));
    found.expect("an address of the family").to_owned()
}

fn at(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), 8080)
}

/// Waits until somebody sees a pod as this.
fn until_seen(world: &World, pod: &Path, protocol: Protocol, to: SocketAddr, wanted: &str) {
    let what = format!("{to} sees {wanted} over {protocol:?}");
    wait::until(&what, SEEN_TIME_MAX, || {
        match probe::ask_from(pod, protocol, to) {
            Outcome::Answered { seen_as, .. } if seen_as == wanted => Ok(()),
            other => Err((other, world.logs())),
        }
    });
}

#[test]
fn a_pod_reaches_what_its_node_reaches() {
    let world = World::running_with(Stack::Dual, 2);
    run_pods(&world);
    let _client = Outsider::answers(&world.client, "client");
    let _process = Outsider::answers(&world.nodes[1].netns, "node-2");
    for family in [Family::V4, Family::V6] {
        let client = at(&World::client_ip(family));
        for number in [1, 2] {
            let pod = world.pod_netns(&format!("shop-{number}"));
            let node = world.nodes[number - 1].ip_in(family);
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                until_seen(&world, &pod, protocol, client, &node);
            }
        }
        let pod = world.pod_netns("shop-1");
        let own = ip_of(&world, "shop-1", family);
        let others = [
            ip_of(&world, "shop-2", family),
            world.nodes[1].ip_in(family),
        ];
        for other in others {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                until_seen(&world, &pod, protocol, at(&other), &own);
            }
        }
    }
    a_process_of_a_node_is_an_endpoint_like_any(&world);
    let explained = world.nodes[0].knarr(&["explain", "pod/shop-1", "10.78.0.2:8080"]);
    let told = "leaves the cluster, and 10.78.0.2 sees 10.77.0.11";
    assert!(explained.contains(told), "{explained}");
}

/// Whoever asks, and be it the process's own machine: a pod with `hostNetwork` is such an endpoint.
fn a_process_of_a_node_is_an_endpoint_like_any(world: &World) {
    let both = |ip: &str| [Family::V4, Family::V6].map(|family| family.text(ip));
    let ips = both("10.0.128.72");
    world.post(
        "/api/v1/namespaces/default/services",
        &json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "host" },
            "spec": {
                "type": "NodePort", "ipFamilyPolicy": "RequireDualStack", "clusterIP": ips[0], "clusterIPs": ips,
                "ports": [{ "port": 80, "nodePort": 30_072 }],
            },
        }),
    );
    for (family, kind) in [(Family::V4, "IPv4"), (Family::V6, "IPv6")] {
        let endpoint = json!({ "addresses": [world.nodes[1].ip_in(family)], "nodeName": "node-2" });
        let labels = json!({ "kubernetes.io/service-name": "host" });
        world.post(
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            &json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": kind,
                "metadata": { "name": format!("host-{}", kind.to_lowercase()), "labels": labels },
                "ports": [{ "port": 8080 }], "endpoints": [endpoint],
            }),
        );
    }
    let nodes = &world.nodes;
    let clients = [
        (world.pod_netns("shop-1"), 1),
        (world.pod_netns("shop-2"), 1),
        (nodes[0].netns.path(), 1),
        (nodes[1].netns.path(), 0),
    ];
    for family in [Family::V4, Family::V6] {
        let node_port = |node: usize| (nodes[node].ip_in(family), 30_072);
        for (client, other) in &clients {
            for (ip, port) in [
                (family.text("10.0.128.72"), 80),
                node_port(1),
                node_port(*other),
            ] {
                let to = SocketAddr::new(ip.parse().expect("an address"), port);
                let what = format!("{} reaches {to}", client.display());
                wait::until(&what, SEEN_TIME_MAX, || {
                    match probe::ask_from(client, Protocol::Tcp, to) {
                        Outcome::Answered { by, .. } if by == "node-2" => Ok(()),
                        other => Err((other, world.logs())),
                    }
                });
            }
        }
    }
}

#[test]
fn a_network_that_knows_pods_may_see_them() {
    let mut world = World::with(Layout::OneLink, Stack::Dual, 1);
    let everywhere = ["--non-masquerade-cidr", "0.0.0.0/0,::/0"];
    let ranges = ["up", "--service-cidr", "10.0.128.0/17,fd64::10.0.128.0/113"];
    world.nodes[0].start(&[&ranges[..], &everywhere].concat());
    world.wait_for_api();
    world.wait_for_nodes();
    run_pods(&world);
    let _client = Outsider::answers(&world.client, "client");
    let pod = world.pod_netns("shop-1");
    for family in [Family::V4, Family::V6] {
        let (own, node) = (
            ip_of(&world, "shop-1", family),
            world.nodes[0].ip_in(family),
        );
        let client = at(&World::client_ip(family));
        assert_eq!(
            probe::ask_from(&pod, Protocol::Tcp, client),
            Outcome::Dropped
        );
        let ip = family.ip();
        world.router.sh(&format!("{ip} route add {own} via {node}"));
        until_seen(&world, &pod, Protocol::Tcp, client, &own);
    }

    // Without the flag, and without a restart of the pod, the node stands in for it.
    world.nodes[0].stop(Signal::SIGKILL);
    world.nodes[0].start(&ranges);
    world.wait_for_api();
    for family in [Family::V4, Family::V6] {
        let node = world.nodes[0].ip_in(family);
        until_seen(
            &world,
            &pod,
            Protocol::Tcp,
            at(&World::client_ip(family)),
            &node,
        );
    }
}
