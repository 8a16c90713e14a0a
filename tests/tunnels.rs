//! Nodes that share no link: their pods reach each other through a tunnel, in both families, and nothing of it stays.

use std::{net::SocketAddr, path::Path, time::Duration};

use nix::sys::signal::Signal;

use crate::lab::{
    family::{Family, Stack},
    machine::{Layout, Outsider},
    probe::{self, Outcome, Protocol},
    wait,
    world::World,
};

const READY_TIME_MAX: Duration = Duration::from_secs(30);
const REPAIR_TIME_MAX: Duration = Duration::from_secs(5);

const OBJECTS: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: web-2, labels: { app: web } }
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 1
  containers: [{ name: echo, command: [knarr, echo] }]
---
apiVersion: v1
kind: Pod
metadata: { name: shop-1, labels: { app: shop } }
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 1
  containers: [{ name: echo, command: [knarr, echo] }]
"#;
const SERVICE_IP: [u8; 4] = [10, 0, 128, 71];

/// The Service of `web-2`, with an address of each family.
fn service(families: &[Family]) -> serde_json::Value {
    let ips = families
        .iter()
        .map(|family| family.address(SERVICE_IP.into()));
    let ips: Vec<String> = ips.map(|ip| ip.to_string()).collect();
    let policy = match families {
        [_] => "SingleStack",
        _ => "RequireDualStack",
    };
    serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": {
            "clusterIP": ips[0], "clusterIPs": ips, "ipFamilyPolicy": policy,
            "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }],
        },
    })
}

/// A world whose router drops everything that pods send without a tunnel.
fn world_apart(stack: Stack) -> World {
    let world = World::with(Layout::Apart, stack, 2);
    let router = &world.router;
    router.sh("nft add table inet lab");
    router.sh("nft add chain inet lab forward { type filter hook forward priority 0 ; }");
    for pods in ["ip saddr 10.42.0.0/16", "ip6 saddr fd6b:6e00:42::/48"] {
        router.sh(&format!("nft add rule inet lab forward {pods} drop"));
    }
    world
}

fn ip_of(world: &World, pod: &str, family: Family) -> String {
    let ips = world.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIPs[*].ip}"]);
    let mut ips = ips.split_whitespace();
    let found = ips.find(|ip| ip.contains(':') == (family == Family::V6));
    found.expect("an address of the family").to_owned()
}

/// Waits until `web-2` answers a pod of the other node, and says what it saw.
fn until_answered(world: &World, pod: &Path, to: SocketAddr, limit: Duration) -> String {
    wait::until(&format!("{to} answers"), limit, || {
        match probe::ask_from(pod, Protocol::Tcp, to) {
            Outcome::Answered { by, seen_as } if by == "web-2" => Ok(seen_as),
            other => Err((other, world.logs())),
        }
    })
}

#[test]
fn pods_of_nodes_behind_a_router_reach_each_other() {
    pods_reach_each_other(Stack::Dual, "knarr-vxlan");
}

#[test]
fn pods_of_nodes_without_ipv4_reach_each_other_too() {
    pods_reach_each_other(Stack::V6, "knarr-vxlan6");
}

fn pods_reach_each_other(stack: Stack, tunnel: &str) {
    let families = stack.families();
    let mut world = world_apart(stack);
    world.start();
    world.apply(OBJECTS);
    world.post("/api/v1/namespaces/default/services", &service(families));
    world.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/web-2",
        "pod/shop-1",
        "--timeout=30s",
    ]);
    let pod = world.pod_netns("shop-1");
    for family in families.iter().copied() {
        let own = ip_of(&world, "shop-1", family);
        let direct = SocketAddr::new(ip_of(&world, "web-2", family).parse().expect("an IP"), 8080);
        let service = SocketAddr::new(family.address(SERVICE_IP.into()), 80);
        assert_eq!(until_answered(&world, &pod, direct, READY_TIME_MAX), own);
        assert_eq!(until_answered(&world, &pod, service, READY_TIME_MAX), own);
        let node = world.nodes[0].netns.path();
        until_answered(&world, &node, direct, READY_TIME_MAX);
        until_answered(&world, &node, service, READY_TIME_MAX);
    }
    large_packets_pass(&world, &pod, families);
    far_machines_are_reached(&world, families);
    let links = world.nodes[0].netns.sh("ip -o link show type vxlan");
    assert!(
        links.contains(&format!(" {tunnel}:")) && links.lines().count() == 1,
        "{links}"
    );

    // What somebody deletes comes back.
    let direct = SocketAddr::new(
        ip_of(&world, "web-2", families[0]).parse().expect("an IP"),
        8080,
    );
    world.nodes[0].netns.sh(&format!("ip link delete {tunnel}"));
    until_answered(&world, &pod, direct, REPAIR_TIME_MAX);

    for node in world.nodes.iter_mut().rev() {
        node.stop(Signal::SIGTERM);
        node.knarr(&["down"]);
        let links = node.netns.sh("ip -o link show");
        assert!(
            !links.contains("knarr") && !links.contains("vxlan"),
            "{links}"
        );
    }
}

/// Segments as large as the pods' own links allow are told to become smaller.
fn large_packets_pass(world: &World, pod: &Path, families: &[Family]) {
    for family in families.iter().copied() {
        let to = SocketAddr::new(ip_of(world, "web-2", family).parse().expect("an IP"), 8080);
        let path = format!("/{}", "x".repeat(6000));
        let answer = probe::fetch_from(pod, to, &path);
        assert!(answer.contains("You've hit web-2"), "{to}: {answer}");
    }
}

/// The routers between nodes know no pods, so a far node sees the address of the pod's own.
fn far_machines_are_reached(world: &World, families: &[Family]) {
    let _process = Outsider::answers(&world.nodes[1].netns, "node-2");
    let (near, far) = (world.pod_netns("shop-1"), world.pod_netns("web-2"));
    for family in families.iter().copied() {
        let [own, other] = [0, 1].map(|index: usize| world.nodes[index].ip_in(family));
        let to = SocketAddr::new(other.parse().expect("an IP"), 8080);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            wait::until(
                &format!("{to} sees {own}"),
                READY_TIME_MAX,
                || match probe::ask_from(&near, protocol, to) {
                    Outcome::Answered { seen_as, .. } if seen_as == own => Ok(()),
                    other => Err((other, world.logs())),
                },
            );
        }
    }
    let far_node = world.nodes[1].ip_in(families[0]);
    let to = SocketAddr::new(far_node.parse().expect("an IP"), 8080).to_string();
    let explained = world.nodes[0].try_knarr(&["explain", "pod/shop-1", &to]);
    let explained = String::from_utf8_lossy(&explained.stdout);
    let told = format!("{far_node} sees {}", world.nodes[0].ip_in(families[0]));
    assert!(explained.contains(&told), "{told}: {explained}");
    let api = SocketAddr::new(families[0].address([10, 0, 128, 1].into()), 443);
    let connected = probe::run_in(&far, move || {
        std::net::TcpStream::connect_timeout(&api, READY_TIME_MAX).map(drop)
    });
    assert!(
        connected.is_ok(),
        "the API's Service, from a far node's pod: {connected:?}"
    );
}

#[test]
fn nodes_on_one_link_need_no_tunnel() {
    let world = World::running(2);
    for node in &world.nodes {
        let links = node.netns.sh("ip -o link show");
        assert!(!links.contains("knarr-vxlan"), "{links}");
    }
}
