//! A load-balancer IP outlives the node that announces it: another announces within two seconds, asked from outside.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::lab::{outage::Asking, wait, world::World};

const READY_TIME_MAX: Duration = Duration::from_secs(40);
/// What is promised.
const TAKEOVER_TIME_MAX: Duration = Duration::from_secs(2);

/// Two nodes, a Service that node `announcer` announces, and its only pod on the other.
fn announced_by(announcer: usize) -> (World, SocketAddr) {
    let world = World::running(2);
    let mac = world.nodes[announcer].mac();
    let ip = (200..220)
        .find_map(|last| {
            let (name, ip) = (format!("web-{last}"), format!("10.77.0.{last}"));
            world.post("/api/v1/namespaces/default/services", &service(&name, &ip));
            let to: SocketAddr = format!("{ip}:80").parse().expect("an address");
            wait::until("somebody announces", READY_TIME_MAX, || {
                let _refused = world
                    .client
                    .run(move || std::net::TcpStream::connect(to).is_ok());
                let neighbour = world.router.sh(&format!("ip neigh show {ip}"));
                match neighbour.contains("lladdr") {
                    true => Ok(neighbour.contains(&mac).then(|| ip.clone())),
                    false => Err((neighbour, world.logs())),
                }
            })
        })
        .expect("every node announces some address");
    let other = world.nodes[1 - announcer].netns.name.clone();
    world.post("/api/v1/namespaces/default/pods", &pod(&other));
    let to: SocketAddr = format!("{ip}:80").parse().expect("an address");
    wait::until("the pod answers outside", READY_TIME_MAX, || {
        let answered = world
            .client
            .run(move || crate::lab::outage::is_answered(to));
        if answered { Ok(()) } else { Err(world.logs()) }
    });
    (world, to)
}

fn service(name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": {
            "type": "LoadBalancer", "loadBalancerIP": ip, "selector": { "app": "web" },
            "ports": [{ "port": 80, "targetPort": 8080 }],
        },
    })
}

fn pod(node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web", "labels": { "app": "web" } },
        "spec": {
            "nodeName": node,
            "containers": [{ "name": "echo", "command": ["knarr", "echo"], "readinessProbe": { "tcpSocket": { "port": 8080 } } }],
        },
    })
}

fn check(announcer: usize, fault: fn(&mut World, usize)) {
    let (mut world, to) = announced_by(announcer);
    let asking = Asking::start(&world.client.path(), to);
    let since = Instant::now();
    fault(&mut world, announcer);
    let router = &world.router;
    let survivor = world.nodes[1 - announcer].mac();
    wait::until("the other node announces", READY_TIME_MAX, || {
        let neighbour = router.sh(&format!("ip neigh show {}", to.ip()));
        match neighbour.contains(&survivor) {
            true => Ok(()),
            false => Err(neighbour),
        }
    });
    asking.wait_for_answer(&world, Instant::now());
    asking.assert_gap_below(TAKEOVER_TIME_MAX, &world, since);
}

#[test]
fn a_node_whose_processes_are_killed_is_replaced() {
    check(1, |world, node| world.nodes[node].stop(Signal::SIGKILL));
}

#[test]
fn a_node_whose_link_is_down_is_replaced_though_the_api_went_with_it() {
    check(0, |world, _| {
        world.router.sh("ip link set to-node-1 down");
    });
}

#[test]
fn announcing_makes_no_link_promiscuous() {
    let (world, _) = announced_by(0);
    for node in &world.nodes {
        let link = node.netns.sh("ip -d link show dev eth0");
        assert!(link.contains("promiscuity 0"), "{link}");
    }
}
