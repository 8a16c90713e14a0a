//! Faults are ordinary: killed processes, flushed rules, vanished links. What was acknowledged stays, what was broken heals.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::lab::{
    probe::{self, Outcome, Protocol},
    wait,
    world::World,
};

const READY_TIME_MAX: Duration = Duration::from_secs(30);
/// The promise of the design: repaired within a second; slow machines get some more before a test fails.
const REPAIR_TIME_MAX: Duration = Duration::from_secs(3);

/// A node with one pod and one Service, answering.
fn answering() -> (World, std::net::SocketAddr) {
    let world = World::running(1);
    world.kubectl(&[
        "apply",
        "-f",
        concat!(env!("CARGO_MANIFEST_DIR"), "/examples/nodeport.yaml"),
    ]);
    world.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/my-app",
        "--timeout=30s",
    ]);
    let ip = world.kubectl(&["get", "svc/my-service", "-o", "jsonpath={.spec.clusterIP}"]);
    let to = format!("{ip}:80").parse().expect("an address");
    answers(&world, to, READY_TIME_MAX);
    (world, to)
}

fn answers(world: &World, to: std::net::SocketAddr, limit: Duration) {
    wait::until("the Service answers", limit, || {
        match world.nodes[0]
            .netns
            .run(move || probe::ask(Protocol::Tcp, to))
        {
            Outcome::Answered { .. } => Ok(()),
            other => Err((other, world.logs())),
        }
    });
}

#[test]
fn flushed_rules_come_back_by_themselves() {
    let (world, to) = answering();
    for attack in [
        "nft flush ruleset",
        "nft flush map ip knarr frontends",
        "nft delete table ip knarr",
    ] {
        world.nodes[0].netns.sh(attack);
        answers(&world, to, REPAIR_TIME_MAX);
    }
}

/// The table without counts and without regard to the order in which chains were made.
fn table(world: &World) -> Vec<String> {
    let listed = world.nodes[0]
        .netns
        .try_sh("nft --stateless list table ip knarr");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    // An element's place in a listing is the kernel's choice.
    let mut words: Vec<String> = lines
        .flat_map(|line| {
            line.trim_end_matches([',', '}', ' '])
                .split("elements = { ")
        })
        .map(str::to_owned)
        .collect();
    words.sort();
    words
}

#[test]
fn a_partial_edit_of_the_table_is_undone() {
    let (world, to) = answering();
    let node = &world.nodes[0].netns;
    let whole = table(&world);
    let key = format!("{} . tcp . {}", to.ip(), to.port());
    for attack in [
        &format!("nft delete element ip knarr frontends {{ {key} }}"),
        &format!("nft delete element ip knarr backends {{ {key} . 0 }}"),
        "nft add element ip knarr frontends { 192.0.2.1 . tcp . 99 : drop }",
        "nft add element ip knarr cluster-cidrs { 192.0.2.0/24 }",
        "nft flush set ip knarr cluster-cidrs",
        "nft flush chain ip knarr services",
        "nft insert rule ip knarr services drop",
        "nft insert rule ip knarr masquerading counter return",
        "nft insert rule ip knarr services ip saddr 192.0.2.1 tcp dport 80 dnat to 192.0.2.2",
        "nft chain ip knarr nat-output { policy drop ; }",
        "nft rename chain ip knarr services other",
        "nft rename chain ip knarr pick-1 pick-99",
        "nft rename chain ip knarr nat-output other",
        "nft add chain ip knarr wall { type filter hook output priority 0 ; policy drop ; }",
        "nft add set ip knarr more { type ipv4_addr ; }",
        "nft add map ip knarr more { type ipv4_addr : verdict ; }",
        "nft add table ip knarr { flags dormant ; }",
    ] {
        node.sh(attack);
        wait::until(attack, REPAIR_TIME_MAX, || {
            let found = table(&world);
            let odd = |one: &[String], other: &[String]| -> Vec<String> {
                let lacking = one.iter().filter(|line| !other.contains(line));
                lacking.cloned().collect()
            };
            match found == whole {
                true => Ok(()),
                false => Err((odd(&whole, &found), odd(&found, &whole), world.logs())),
            }
        });
        answers(&world, to, REPAIR_TIME_MAX);
    }
    for _ in 0..30 {
        node.sh("nft flush ruleset");
    }
    answers(&world, to, REPAIR_TIME_MAX);
    assert_eq!(table(&world), whole);
}

#[test]
fn a_deleted_link_comes_back_by_itself() {
    let (world, to) = answering();
    let links = world.nodes[0].netns.sh("ip -o link show type veth");
    let of_pod = links
        .split_whitespace()
        .find(|w| w.starts_with("kn") && !w.starts_with("knarr"))
        .expect("a pod's veth");
    let name = of_pod
        .trim_end_matches(':')
        .split('@')
        .next()
        .expect("a name")
        .to_owned();
    world.nodes[0].netns.sh(&format!("ip link delete {name}"));
    answers(&world, to, REPAIR_TIME_MAX);
}

#[test]
fn pods_and_packets_outlive_a_killed_knarr_and_are_adopted() {
    let (mut world, to) = answering();
    let container = |world: &World| {
        let path = "jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}";
        world.kubectl(&["get", "pod/my-app", "-o", path])
    };
    let before = container(&world);
    world.nodes[0].stop(Signal::SIGKILL);
    answers(&world, to, Duration::ZERO);
    world.nodes[0].start(&["up", "--lb-pool", crate::lab::world::LB_POOL]);
    world.wait_for_api();
    world.wait_for_nodes();
    answers(&world, to, REPAIR_TIME_MAX);
    assert_eq!(container(&world), before);
}

/// What every cluster has, and what only a whole first start leaves.
fn is_whole(world: &World) {
    world.wait_for_api();
    world.kubectl(&["get", "service/kubernetes", "clusterrole/admin"]);
    let token = world.nodes[0].knarr(&["token"]);
    assert!(token.starts_with("K1"), "{token}");
}

#[test]
fn a_first_start_killed_at_any_moment_is_completed_by_the_next() {
    const ROUNDS: u32 = 16;
    let mut world = World::new(1);
    let began = std::time::Instant::now();
    world.nodes[0].start(&["server"]);
    let complete = ["knarr.db", "join-token"].map(|name| world.nodes[0].data_dir().join(name));
    assert!(wait::poll(READY_TIME_MAX, || complete
        .iter()
        .all(|path| path.exists())));
    let start_time = began.elapsed();
    for round in 0..ROUNDS {
        world.nodes[0].stop(Signal::SIGKILL);
        std::fs::remove_dir_all(world.nodes[0].data_dir()).expect("the node's own folder");
        world.nodes[0].start(&["server"]);
        std::thread::sleep(start_time * round / ROUNDS);
        world.nodes[0].stop(Signal::SIGKILL);
        world.nodes[0].start(&["server"]);
        is_whole(&world);
    }
}
