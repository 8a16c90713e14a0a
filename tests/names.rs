//! Cluster DNS as pods meet it: short names through their resolver, and the zone's records on the wire.

use std::{
    fs::File,
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use hickory_proto::{
    op::{Message, OpCode, Query},
    rr::{Name, RecordType},
};
use nix::sched::{CloneFlags, setns};

use crate::lab::{wait, world::World};

const READY_TIME_MAX: Duration = Duration::from_secs(30);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
const SERVER: &str = "10.0.128.10:53";

const OBJECTS: &str = r#"
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { clusterIP: 10.0.128.42, selector: { app: none }, ports: [{ name: http, port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: db }
spec: { clusterIP: None, selector: { app: db }, ports: [{ name: sql, port: 5432 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: db-0, labels: { app: db } }
spec:
  hostname: db-0
  subdomain: db
  containers: [{ name: db, command: [sleep, infinity] }]
---
apiVersion: v1
kind: Pod
metadata: { name: client }
spec:
  containers: [{ name: client, command: [sleep, infinity] }]
"#;

fn world() -> World {
    let world = World::running(1);
    world.apply(OBJECTS);
    world.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/db-0",
        "pod/client",
        "--timeout=30s",
    ]);
    world
}

#[test]
fn a_pod_finds_services_by_short_and_full_names() {
    let world = world();
    let db = world.kubectl(&["get", "pod", "db-0", "-o", "jsonpath={.status.podIP}"]);
    for (name, expected) in [
        ("web", "10.0.128.42"),
        ("web.default", "10.0.128.42"),
        ("web.default.svc.cluster.local", "10.0.128.42"),
        ("kubernetes", "10.0.128.1"),
        ("kube-dns.kube-system", "10.0.128.10"),
        ("db", &db),
        ("db-0.db", &db),
    ] {
        let found = world.kubectl(&["exec", "client", "--", "getent", "ahostsv4", name]);
        assert!(
            found.split_whitespace().next() == Some(expected),
            "{name}: {found}, expected {expected}"
        );
    }
    let own = world.kubectl(&["exec", "db-0", "--", "hostname", "-f"]);
    assert_eq!(own.trim(), "db-0.db.default.svc.cluster.local");
}

#[test]
fn the_zone_follows_services_and_says_what_does_not_exist() {
    let world = world();
    let pod = world.pod_netns("client");
    let db = world.kubectl(&["get", "pod", "db-0", "-o", "jsonpath={.status.podIP}"]);
    for (name, kind, expected) in [
        (
            "web.default.svc.cluster.local.",
            RecordType::A,
            "No Error: 10.0.128.42",
        ),
        (
            "web.default.svc.cluster.local.",
            RecordType::AAAA,
            "No Error: ",
        ),
        (
            "_http._tcp.web.default.svc.cluster.local.",
            RecordType::SRV,
            "No Error: 0 100 80 web.default.svc.cluster.local.",
        ),
        (
            "_sql._tcp.db.default.svc.cluster.local.",
            RecordType::SRV,
            "No Error: 0 100 5432 db-0.db.default.svc.cluster.local.",
        ),
        (
            "db.default.svc.cluster.local.",
            RecordType::A,
            &format!("No Error: {db}"),
        ),
        (
            "42.128.0.10.in-addr.arpa.",
            RecordType::PTR,
            "No Error: web.default.svc.cluster.local.",
        ),
        (
            "nobody.default.svc.cluster.local.",
            RecordType::A,
            "Non-Existent Domain: ",
        ),
        (
            "web.nowhere.svc.cluster.local.",
            RecordType::A,
            "Non-Existent Domain: ",
        ),
    ] {
        assert_eq!(ask(&pod, name, kind), expected, "{name} {kind}");
    }

    world.kubectl(&["delete", "service", "web"]);
    let name = "web.default.svc.cluster.local.";
    wait::until("the name is gone", READY_TIME_MAX, || {
        match ask(&pod, name, RecordType::A).as_str() {
            "Non-Existent Domain: " => Ok(()),
            other => Err(other.to_owned()),
        }
    });
}

#[test]
fn a_node_asks_the_cluster_by_the_same_address() {
    let world = world();
    let node = world.nodes[0].netns.path();
    assert_eq!(
        ask(&node, "web.default.svc.cluster.local.", RecordType::A),
        "No Error: 10.0.128.42"
    );
}

/// The response code and the answers' data, asked by UDP from a namespace.
fn ask(netns: &Path, name: &str, kind: RecordType) -> String {
    let (netns, name) = (PathBuf::from(netns), name.to_owned());
    let asking = std::thread::spawn(move || {
        let file = File::open(netns).expect("the namespace's file");
        setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
        exchange(&name, kind)
    });
    let answer = asking.join().expect("the question was asked");
    let data: Vec<String> = answer
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    format!("{}: {}", answer.metadata.response_code, data.join(", "))
}

fn exchange(name: &str, kind: RecordType) -> Message {
    let mut question = Message::query();
    question.metadata.op_code = OpCode::Query;
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    let server: SocketAddr = SERVER.parse().expect("an address");
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket
        .set_read_timeout(Some(ANSWER_TIME_MAX))
        .expect("a socket");
    let bytes = question.to_vec().expect("a question");
    socket.send_to(&bytes, server).expect("a packet");
    let mut buffer = [0; 4096];
    let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
    assert_eq!(from, server);
    let answer = Message::from_vec(&buffer[..length]).expect("a message");
    assert_eq!(answer.metadata.id, question.metadata.id);
    answer
}
