//! Cluster DNS as pods meet it: short names through their resolver, and the zone's records on the wire.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, OpCode, Query},
    rr::{Name, RecordType},
};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

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
            "dns-version.cluster.local.",
            RecordType::TXT,
            "No Error: 1.1.0",
        ),
        (
            "10-42-0-5.default.pod.cluster.local.",
            RecordType::A,
            "No Error: 10.42.0.5",
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
fn an_answer_that_is_too_long_is_cut_and_comes_whole_over_tcp() {
    const ENDPOINTS: usize = 60;
    let world = world();
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "many" },
        "spec": { "clusterIP": "None", "ports": [{ "name": "sql", "port": 5432 }] } });
    world.post("/api/v1/namespaces/default/services", &service);
    let endpoints: Vec<Value> = (1..=ENDPOINTS)
        .map(|number| json!({ "addresses": [format!("10.43.0.{number}")] }))
        .collect();
    let slice = json!({ "addressType": "IPv4", "endpoints": endpoints,
        "metadata": { "name": "many-1", "labels": { "kubernetes.io/service-name": "many" } },
        "ports": [{ "name": "sql", "port": 5432 }] });
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    world.post(slices, &slice);
    let pod = world.pod_netns("client");
    let name = "many.default.svc.cluster.local.";
    let over_tcp = wait::until("the endpoints are known", READY_TIME_MAX, || {
        let answer = inside(&pod, move || exchange_over_tcp(name, RecordType::A));
        match answer.answers.len() {
            ENDPOINTS => Ok(answer),
            count => Err(count),
        }
    });
    assert!(!over_tcp.metadata.truncation);
    let plain = inside(&pod, move || exchange(&question(name, RecordType::A)));
    assert!(
        plain.metadata.truncation,
        "512 bytes hold no {ENDPOINTS} records"
    );
    assert_eq!(plain.answers.len(), 0);
    let mut extended = question(name, RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    extended.edns = Some(edns);
    let whole = inside(&pod, move || exchange(&extended));
    assert!(!whole.metadata.truncation && whole.edns.is_some());
    assert_eq!(whole.answers.len(), ENDPOINTS);
}

#[test]
fn every_dns_policy_is_a_resolv_conf() {
    let world = World::running(1);
    let config = json!({ "nameservers": ["192.0.2.53"], "searches": ["example.com"],
        "options": [{ "name": "ndots", "value": "2" }] });
    let cluster = "search default.svc.cluster.local svc.cluster.local cluster.local";
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut hosts = host
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver "));
    let host_server = hosts
        .next()
        .map(|server| format!("nameserver {}", server.trim()));
    for (name, policy, host_network, config, expected, absent) in [
        (
            "first",
            "ClusterFirst",
            false,
            Value::Null,
            vec![cluster, "nameserver 10.0.128.10", "ndots:5"],
            "192.0.2.53",
        ),
        (
            "both",
            "ClusterFirst",
            false,
            config.clone(),
            vec![
                cluster,
                "example.com",
                "nameserver 10.0.128.10",
                "nameserver 192.0.2.53",
                "ndots:2",
            ],
            "ndots:5",
        ),
        (
            "none",
            "None",
            false,
            config,
            vec!["search example.com", "nameserver 192.0.2.53", "ndots:2"],
            "cluster.local",
        ),
        (
            "default",
            "Default",
            false,
            Value::Null,
            Vec::from_iter(host_server.as_deref()),
            "cluster.local",
        ),
        (
            "host",
            "ClusterFirst",
            true,
            Value::Null,
            Vec::from_iter(host_server.as_deref()),
            "cluster.local",
        ),
        (
            "hostnet",
            "ClusterFirstWithHostNet",
            true,
            Value::Null,
            vec![cluster, "nameserver 10.0.128.10"],
            "192.0.2.53",
        ),
    ] {
        let container = json!({ "name": "c", "command": ["sleep", "infinity"] });
        let mut spec = json!({ "dnsPolicy": policy, "hostNetwork": host_network,
            "terminationGracePeriodSeconds": 1, "containers": [container] });
        if !config.is_null() {
            spec["dnsConfig"] = config;
        }
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec });
        world.post("/api/v1/namespaces/default/pods", &pod);
        world.kubectl(&[
            "wait",
            "--for=condition=Ready",
            &format!("pod/{name}"),
            "--timeout=30s",
        ]);
        let text = world.kubectl(&["exec", name, "--", "cat", "/etc/resolv.conf"]);
        for part in expected {
            assert!(text.contains(part), "{name}: {part} is not in {text}");
        }
        assert!(!text.contains(absent), "{name}: {absent} is in {text}");
    }
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
    let question = question(name, kind);
    let answer = inside(netns, move || exchange(&question));
    let data: Vec<String> = answer
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    format!("{}: {}", answer.metadata.response_code, data.join(", "))
}

/// Runs in the namespace that a file names.
fn inside<T: Send + 'static>(netns: &Path, job: impl FnOnce() -> T + Send + 'static) -> T {
    let netns = PathBuf::from(netns);
    let asking = std::thread::spawn(move || {
        let file = File::open(netns).expect("the namespace's file");
        setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
        job()
    });
    asking.join().expect("the question was asked")
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut question = Message::query();
    question.metadata.op_code = OpCode::Query;
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    question
}

fn exchange_over_tcp(name: &str, kind: RecordType) -> Message {
    let bytes = question(name, kind).to_vec().expect("a question");
    let mut stream = TcpStream::connect(SERVER).expect("a connection");
    stream
        .set_read_timeout(Some(ANSWER_TIME_MAX))
        .expect("a socket");
    let length = u16::try_from(bytes.len()).expect("a short question");
    stream
        .write_all(&length.to_be_bytes())
        .expect("a connection");
    stream.write_all(&bytes).expect("a connection");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("an answer");
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).expect("a whole answer");
    Message::from_vec(&bytes).expect("a message")
}

fn exchange(question: &Message) -> Message {
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
