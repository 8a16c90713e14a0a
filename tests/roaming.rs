//! Machines that roam: their addresses change, come and go, links vanish, nodes are lost. Services route throughout.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::lab::{
    family::{Family, Stack},
    machine::{Layout, Machine},
    netns::Netns,
    probe::{self, Outcome, Protocol},
    wait,
    world::{LB_POOL, World},
};

const READY_TIME_MAX: Duration = Duration::from_secs(30);
/// Silence of 40 s makes a node lost, and a busy machine takes its time to say so.
const LOST_TIME_MAX: Duration = Duration::from_secs(120);
const NODE_PORT: u16 = 30117;
const CLUSTER_IP: &str = "10.0.128.117:80";
const LB_IP: &str = "10.77.0.217:80";
const API: &str = "10.0.128.1:443";

/// A pod on each node, and one Service of both.
fn populate(world: &World) {
    let pod = |number: usize| {
        serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": format!("web-{number}"), "labels": { "app": "web" } },
            "spec": {
                "nodeName": format!("node-{number}"), "terminationGracePeriodSeconds": 1,
                "containers": [{ "name": "echo", "command": ["knarr", "echo"] }],
            },
        })
    };
    for number in 1..=world.nodes.len() {
        world.post("/api/v1/namespaces/default/pods", &pod(number));
    }
    let service = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.0.128.117", "loadBalancerIP": "10.77.0.217",
            "selector": { "app": "web" },
            "ports": [{ "port": 80, "targetPort": 8080, "nodePort": NODE_PORT }],
        },
    });
    world.post("/api/v1/namespaces/default/services", &service);
    world.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod",
        "-l",
        "app=web",
        "--timeout=60s",
    ]);
}

/// Gives a machine this address and no other of its family, as a new lease does.
fn move_to(node: &Netns, family: Family, address: &str) {
    leave(node, family);
    arrive(node, family, address);
}

fn leave(node: &Netns, family: Family) {
    node.sh(&format!("{} addr flush dev eth0 scope global", family.ip()));
}

fn arrive(node: &Netns, family: Family, address: &str) {
    let (ip, net) = (family.ip(), family.net_text(address));
    let gateway = family.text("10.77.0.1");
    node.sh(&format!("{ip} addr add {net} dev eth0"));
    node.sh(&format!(
        "{ip} route replace default via {gateway} dev eth0"
    ));
}

fn internal_ips(world: &World, node: usize) -> Vec<String> {
    let object = world.get(&format!("/api/v1/nodes/node-{node}"));
    let addresses = object["status"]["addresses"].as_array().cloned();
    let internal = addresses.unwrap_or_default().into_iter();
    internal
        .filter(|address| address["type"] == "InternalIP")
        .map(|address| address["address"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn wait_for_ips(world: &World, node: usize, expected: &[&str]) {
    wait::until(
        &format!("node-{node} is at {expected:?}"),
        READY_TIME_MAX,
        || {
            let found = internal_ips(world, node);
            match found == expected {
                true => Ok(()),
                false => Err((found, world.logs())),
            }
        },
    );
}

fn answers(world: &World, from: &Path, to: &str) {
    let to: SocketAddr = to.parse().expect("an address");
    wait::until(
        &format!("{to} answers"),
        READY_TIME_MAX,
        || match probe::ask_from(from, Protocol::Tcp, to) {
            Outcome::Answered { .. } => Ok(()),
            other => Err((other, world.logs())),
        },
    );
}

/// Waits until somebody takes a connection there, whatever they speak.
fn connects(world: &World, from: &Path, to: &str) {
    let to: SocketAddr = to.parse().expect("an address");
    wait::until(&format!("{to} can be connected to"), READY_TIME_MAX, || {
        let connect = move || std::net::TcpStream::connect_timeout(&to, Duration::from_secs(2));
        match probe::run_in(from, connect) {
            Ok(_) => Ok(()),
            Err(error) => Err((error.to_string(), world.logs())),
        }
    });
}

/// Logs and exec of a pod, which the server asks its node for.
fn tells_and_obeys(world: &World, pod: &str) {
    for args in [&["logs", pod][..], &["exec", pod, "--", "true"][..]] {
        wait::until(&format!("kubectl {args:?}"), READY_TIME_MAX, || {
            let output = world.try_kubectl(args);
            match output.status.success() {
                true => Ok(()),
                false => Err((
                    String::from_utf8_lossy(&output.stderr).into_owned(),
                    world.logs(),
                )),
            }
        });
    }
}

fn host_ip(world: &World, pod: &str, expected: &str) {
    let path = format!("/api/v1/namespaces/default/pods/{pod}");
    wait::until(&format!("{pod} says {expected}"), READY_TIME_MAX, || {
        let status: Value = world.get(&path)["status"].clone();
        let list = status["hostIPs"][0]["ip"].clone();
        match status["hostIP"] == expected && list == expected {
            true => Ok(()),
            false => Err(status["hostIP"].clone()),
        }
    });
}

/// Where `default/kubernetes` leads.
fn wait_for_api_at(world: &World, expected: &str) {
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let endpoints = "/api/v1/namespaces/default/endpoints/kubernetes";
    wait::until(&format!("the API is at {expected}"), READY_TIME_MAX, || {
        let slice = world.get(path)["endpoints"][0]["addresses"][0].clone();
        let old = world.get(endpoints)["subsets"][0]["addresses"][0]["ip"].clone();
        match slice == expected && old == expected {
            true => Ok(()),
            false => Err((slice, old, world.logs())),
        }
    });
}

/// Every pod reaches every other, and the Service and the API from everywhere.
fn everybody_meets(world: &World) {
    let names: Vec<String> = (1..=world.nodes.len())
        .map(|number| format!("web-{number}"))
        .collect();
    for from in &names {
        let netns = world.pod_netns(from);
        for to in &names {
            let ip = world.kubectl(&["get", "pod", to, "-o", "jsonpath={.status.podIP}"]);
            answers(world, &netns, &format!("{ip}:8080"));
        }
        answers(world, &netns, CLUSTER_IP);
        connects(world, &netns, API);
    }
    for node in &world.nodes {
        answers(world, &node.netns.path(), CLUSTER_IP);
        connects(world, &node.netns.path(), API);
    }
}

#[test]
fn a_node_is_followed_to_its_new_address() {
    let world = World::running(2);
    populate(&world);
    let client = world.client.path();
    let old = format!("10.77.0.12:{NODE_PORT}");
    answers(&world, &client, &old);
    let certificate = || std::fs::read(world.nodes[1].data_dir().join("agent/serving.crt"));
    let before = certificate().expect("a certificate");

    move_to(&world.nodes[1].netns, Family::V4, "10.77.0.52");
    wait_for_ips(&world, 2, &["10.77.0.52"]);
    answers(&world, &client, &format!("10.77.0.52:{NODE_PORT}"));
    everybody_meets(&world);
    tells_and_obeys(&world, "web-2");
    host_ip(&world, "web-2", "10.77.0.52");
    wait::until(
        "the node has a new certificate",
        READY_TIME_MAX,
        || match certificate() {
            Ok(now) if now != before => Ok(()),
            other => Err((other.is_ok(), world.logs())),
        },
    );

    // The old address is a stranger's now, even if the machine has it again.
    world.nodes[1].netns.sh("ip addr add 10.77.0.12/32 dev lo");
    let to: SocketAddr = old.parse().expect("an address");
    wait::until(
        "nobody answers at the old address",
        READY_TIME_MAX,
        || match world.client.run(move || probe::ask(Protocol::Tcp, to)) {
            Outcome::Rejected => Ok(()),
            other => Err((other, world.logs())),
        },
    );
    assert_eq!(internal_ips(&world, 2), ["10.77.0.52"]);
}

#[test]
fn a_server_moves_with_its_machine_in_both_families() {
    let world = World::running_with(Stack::Dual, 1);
    populate(&world);
    let node = &world.nodes[0].netns;
    let v6 = |address: &str| Family::V6.text(address);
    wait_for_ips(&world, 1, &["10.77.0.11", &v6("10.77.0.11")]);

    move_to(node, Family::V4, "10.77.0.51");
    move_to(node, Family::V6, "10.77.0.51");
    wait_for_ips(&world, 1, &["10.77.0.51", &v6("10.77.0.51")]);
    wait_for_api_at(&world, "10.77.0.51");
    let client = world.client.path();
    answers(&world, &client, &format!("10.77.0.51:{NODE_PORT}"));
    everybody_meets(&world);
    tells_and_obeys(&world, "web-1");
    host_ip(&world, "web-1", "10.77.0.51");
    // Its certificate is good for where it is.
    for host in ["10.77.0.51".to_owned(), format!("[{}]", v6("10.77.0.51"))] {
        let server = format!("--server=https://{host}:6443");
        wait::until(&server, READY_TIME_MAX, || {
            let output = world.try_kubectl(&[&server, "get", "--raw", "/readyz"]);
            match output.status.success() {
                true => Ok(()),
                false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            }
        });
    }

    // A family that goes leaves the node's address among its pods.
    leave(node, Family::V6);
    wait_for_ips(&world, 1, &["10.77.0.51", "fd6b:6e00:42::1"]);
    arrive(node, Family::V6, "10.77.0.61");
    wait_for_ips(&world, 1, &["10.77.0.51", &v6("10.77.0.61")]);
}

#[test]
fn an_address_that_is_back_at_once_changes_nothing() {
    /// Half of what an address is awaited for.
    const BLINK: Duration = Duration::from_millis(300);
    let world = World::running(1);
    let node = &world.nodes[0];
    let lines = || {
        let log = node.log();
        let told = log.lines().filter(|line| line.contains("addresses are"));
        told.count()
    };
    let before = lines();
    let batch = world.nodes[0].dir.join("blink");
    let steps = "addr del 10.77.0.11/24 dev eth0\naddr add 10.77.0.11/24 dev eth0\nroute add default via 10.77.0.1\n";
    std::fs::write(&batch, steps).expect("a file");
    let began = Instant::now();
    node.netns.sh(&format!("ip -batch {}", batch.display()));
    let took = began.elapsed();
    move_to(&node.netns, Family::V4, "10.77.0.51");
    wait_for_ips(&world, 1, &["10.77.0.51"]);
    if took > BLINK {
        eprintln!("skipped: this machine needs {took:?} to take an address away and back");
        return;
    }
    assert!(lines() <= before + 2, "{}", world.logs());
    assert!(!node.log().contains("addresses are []"), "{}", node.log());
}

#[test]
fn a_machine_starts_without_network_and_gets_one_later() {
    let mut world = World::new(1);
    leave(&world.nodes[0].netns, Family::V4);
    world.nodes[0].start(&["up", "--lb-pool", LB_POOL]);
    world.wait_for_api();
    world.wait_for_nodes();
    populate(&world);
    let alone = |world: &World| {
        wait_for_ips(world, 1, &["10.42.0.1"]);
        wait_for_api_at(world, "10.42.0.1");
        everybody_meets(world);
        tells_and_obeys(world, "web-1");
        host_ip(world, "web-1", "10.42.0.1");
    };
    alone(&world);

    let client = world.client.path();
    for address in ["10.77.0.11", "10.77.0.51"] {
        arrive(&world.nodes[0].netns, Family::V4, address);
        wait_for_ips(&world, 1, &[address]);
        wait_for_api_at(&world, address);
        answers(&world, &client, &format!("{address}:{NODE_PORT}"));
        answers(&world, &client, LB_IP);
        everybody_meets(&world);
        tells_and_obeys(&world, "web-1");
        host_ip(&world, "web-1", address);
        leave(&world.nodes[0].netns, Family::V4);
        alone(&world);
    }
}

/// Pulls a machine's cable out, link and all, and lays another one.
fn recable(world: &World, node: &Machine, number: usize) {
    let cable = format!("to-node-{number}");
    world.router.sh(&format!("ip link delete {cable}"));
    world.router.cable(&cable, &node.netns, "eth0");
    world.router.sh(&format!("ip link set {cable} master lan"));
}

#[test]
fn a_link_that_vanishes_may_come_back() {
    let world = World::running(2);
    populate(&world);
    let client = world.client.path();
    for (number, address) in [(1, "10.77.0.11"), (2, "10.77.0.12"), (2, "10.77.0.52")] {
        let node = &world.nodes[number - 1];
        let old = node.mac();
        recable(&world, node, number);
        assert_ne!(node.mac(), old);
        arrive(&node.netns, Family::V4, address);
        wait_for_ips(&world, number, &[address]);
        answers(&world, &client, &format!("{address}:{NODE_PORT}"));
        everybody_meets(&world);
        tells_and_obeys(&world, &format!("web-{number}"));
    }
}

#[test]
fn nodes_behind_routers_are_followed_through_their_tunnel() {
    let mut world = World::with(Layout::Apart, Stack::V4, 2);
    world.start();
    populate(&world);
    everybody_meets(&world);
    let node = &world.nodes[1].netns;
    node.sh("ip addr flush dev eth0 scope global");
    node.sh("ip addr add 10.79.0.52/24 dev eth0");
    node.sh("ip route replace default via 10.79.0.1 dev eth0");
    wait_for_ips(&world, 2, &["10.79.0.52"]);
    everybody_meets(&world);
    tells_and_obeys(&world, "web-2");
}

/// The names of pods that a Service has ready endpoints of.
fn ready_endpoints(world: &World) -> Vec<String> {
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name%3Dweb";
    let slices = world.get(path);
    let slices = slices["items"].as_array().cloned().unwrap_or_default();
    let endpoints = slices
        .iter()
        .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
    let mut names: Vec<String> = endpoints
        .filter(|endpoint| endpoint["conditions"]["ready"] == true)
        .map(|endpoint| {
            let name = endpoint["targetRef"]["name"].as_str();
            name.unwrap_or_default().to_owned()
        })
        .collect();
    names.sort();
    names
}

fn wait_for_endpoints(world: &World, expected: &[&str]) {
    wait::until(&format!("endpoints {expected:?}"), LOST_TIME_MAX, || {
        let found = ready_endpoints(world);
        match found == expected {
            true => Ok(()),
            false => Err((found, world.logs())),
        }
    });
}

#[test]
fn a_lost_node_is_given_up_and_taken_back() {
    let world = World::running(2);
    populate(&world);
    wait_for_endpoints(&world, &["web-1", "web-2"]);
    let uid = |world: &World| {
        let pod = world.get("/api/v1/namespaces/default/pods/web-2");
        pod["metadata"]["uid"].clone()
    };
    let before = uid(&world);
    world.router.sh("ip link set to-node-2 down");
    wait_for_endpoints(&world, &["web-1"]);
    let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
    assert_eq!(
        world.kubectl(&["get", "node", "node-2", "-o", ready]),
        "Unknown"
    );
    // Its own pods are served by what it knows.
    answers(&world, &world.nodes[1].netns.path(), CLUSTER_IP);
    world.router.sh("ip link set to-node-2 up");
    world.wait_for_nodes();
    wait_for_endpoints(&world, &["web-1", "web-2"]);
    assert_eq!(uid(&world), before);
    everybody_meets(&world);
    tells_and_obeys(&world, "web-2");
}
