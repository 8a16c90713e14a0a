//! Beside firewalld, Docker and Podman: their tables stay as they are, Services work, and a wall in the way is named.

use std::{path::PathBuf, process::Output, time::Duration};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::lab::{
    probe::{self, Outcome, Protocol},
    wait,
    world::{LB_POOL, World},
};

const READY_TIME_MAX: Duration = Duration::from_secs(40);
/// Rules in the shapes that these make.
const SHAPES: [&str; 3] = ["firewalld", "docker", "podman"];
/// What Docker's documentation asks of those who forward packets of their own.
const LET_PODS_THROUGH: [&str; 2] = [
    "nft insert rule ip filter DOCKER-USER ip saddr 10.42.0.0/16 accept",
    "nft insert rule ip filter DOCKER-USER ip daddr 10.42.0.0/16 accept",
];

fn load(world: &World, shape: &str) {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/firewalls"));
    let file = folder.join(format!("{shape}.nft"));
    world.nodes[0]
        .netns
        .sh(&format!("nft -f {}", file.display()));
}

/// Everybody's tables but knarr's, with handles, so that one made anew would differ.
fn of_others(world: &World) -> String {
    let listed = world.nodes[0].netns.sh("nft -a --stateless list ruleset");
    let tables = listed.split_inclusive("\n}\n");
    let others = tables.filter(|table| {
        let mut words = table.split_whitespace();
        words.nth(2) != Some("knarr")
    });
    others.map(str::to_owned).collect::<String>() + &of_legacy(world)
}

/// Tables that nf_tables does not know, where the machine has a tool that does.
fn of_legacy(world: &World) -> String {
    let command = || std::process::Command::new("iptables-legacy-save");
    let found = command().arg("--version").output();
    match found {
        Ok(Output { status, .. }) if status.success() => {
            let saved = world.nodes[0].netns.output(command());
            let saved = String::from_utf8_lossy(&saved.stdout).into_owned();
            // Comments bear the time, and brackets count packets.
            let rules = saved.lines().filter(|line| !line.starts_with('#'));
            rules
                .map(|line| line.split('[').next().unwrap_or_default())
                .collect()
        }
        _ => {
            println!("skipped: iptables-legacy is not installed");
            String::new()
        }
    }
}

fn start(world: &mut World) {
    world.nodes[0].start(&["up", "--lb-pool", LB_POOL]);
    world.wait_for_api();
    world.wait_for_nodes();
}

fn serve(world: &World) {
    let container = json!({ "name": "echo", "command": ["knarr", "echo"] });
    world.post(
        "/api/v1/namespaces/default/pods",
        &json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "web-1", "labels": { "app": "web" } },
            "spec": { "terminationGracePeriodSeconds": 1, "containers": [container] },
        }),
    );
    world.post(
        "/api/v1/namespaces/default/services",
        &json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
            "spec": {
                "type": "NodePort", "clusterIP": "10.0.128.120", "selector": { "app": "web" },
                "ports": [{ "port": 80, "targetPort": 8080, "nodePort": 30120 }],
            },
        }),
    );
}

fn from_outside(world: &World) -> Outcome {
    let to = "10.77.0.11:30120".parse().expect("an address");
    world.client.run(move || probe::ask(Protocol::Tcp, to))
}

fn answers_from_inside_and_outside(world: &World) {
    world.wait_for_answer("10.0.128.120:80");
    wait::until(
        "an answer from outside",
        READY_TIME_MAX,
        || match from_outside(world) {
            Outcome::Answered { .. } => Ok(()),
            other => Err((other, world.logs())),
        },
    );
}

#[test]
fn tables_of_others_stay_as_they_are_and_services_work_beside_them() {
    let mut world = World::new(1);
    SHAPES.iter().for_each(|shape| load(&world, shape));
    for rule in LET_PODS_THROUGH {
        world.nodes[0].netns.sh(rule);
    }
    let before = of_others(&world);
    start(&mut world);
    serve(&world);
    answers_from_inside_and_outside(&world);
    assert_eq!(of_others(&world), before, "after a start");
    world.nodes[0].stop(Signal::SIGKILL);
    answers_from_inside_and_outside(&world);
    assert_eq!(of_others(&world), before, "after a crash");
    start(&mut world);
    answers_from_inside_and_outside(&world);
    assert_eq!(of_others(&world), before, "after another start");
    world.nodes[0].stop(Signal::SIGTERM);
    world.nodes[0].knarr(&["down"]);
    assert_eq!(of_others(&world), before, "after down");
    let left = world.nodes[0].netns.sh("nft list tables");
    assert!(!left.contains("knarr"), "{left}");
}

#[test]
fn a_wall_in_the_way_is_named_in_an_event_on_the_node() {
    let mut world = World::new(1);
    start(&mut world);
    serve(&world);
    answers_from_inside_and_outside(&world);
    load(&world, "docker");
    assert_eq!(from_outside(&world), Outcome::Dropped);
    let told = "chain FORWARD of table ip filter drops";
    wait::until("an Event on the node", READY_TIME_MAX, || {
        let events = world.get("/api/v1/namespaces/default/events");
        let events = events["items"].as_array().cloned().unwrap_or_default();
        let named = events.iter().any(|event| {
            event["reason"] == "ForwardingBlocked"
                && event["involvedObject"]["kind"] == "Node"
                && event["message"]
                    .as_str()
                    .is_some_and(|text| text.contains(told))
        });
        if named {
            Ok(())
        } else {
            Err((events, world.logs()))
        }
    });
    let status = world.nodes[0].try_knarr(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    let line = status.lines().find(|line| line.starts_with("firewall"));
    assert!(line.is_some_and(|line| line.contains(told)), "{status}");
    for rule in LET_PODS_THROUGH {
        world.nodes[0].netns.sh(rule);
    }
    answers_from_inside_and_outside(&world);
}
