//! Cluster DNS as pods meet it: short names through their resolver, and the zone's records on the wire.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RecordType},
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
fn names_of_pods_follow_their_readiness() {
    let world = world();
    world.apply(LEAVING);
    let pod = world.pod_netns("client");
    let ready = [
        "wait",
        "--for=condition=Ready",
        "pod/leaving-0",
        "--timeout=30s",
    ];
    world.kubectl(&ready);
    let ip_of = |pod: &str| {
        let path = "jsonpath={.status.podIP}";
        wait::until("an address", READY_TIME_MAX, || {
            match world.kubectl(&["get", "pod", pod, "-o", path]) {
                ip if ip.is_empty() => Err(()),
                ip => Ok(ip),
            }
        })
    };
    let (leaving, dark) = (ip_of("leaving-0"), ip_of("dark-0"));
    let both = |one: &str, other: &str| format!("No Error: {one}, {other}");
    let until = |name: &str, kind, expected: &[String]| {
        let name = format!("{name}.default.svc.cluster.local.");
        wait::until(&name, READY_TIME_MAX, || {
            let found = ask(&pod, &name, kind);
            if expected.contains(&found) {
                Ok(())
            } else {
                Err((found, world.logs()))
            }
        });
    };
    let any_order = [both(&leaving, &dark), both(&dark, &leaving)];
    let (nobody, only) = (
        ["Non-Existent Domain: ".to_owned()],
        [format!("No Error: {leaving}")],
    );
    until("ready", RecordType::A, &only);
    until("leaving-0.ready", RecordType::A, &only);
    until("dark-0.ready", RecordType::A, &nobody);
    until("all", RecordType::A, &any_order);
    let own_name = format!("{}.all", dark.replace('.', "-"));
    until(&own_name, RecordType::A, &[format!("No Error: {dark}")]);
    let reversed: Vec<&str> = leaving.rsplit('.').collect();
    let reversed = format!("{}.in-addr.arpa.", reversed.join("."));
    let found = ask(&pod, &reversed, RecordType::PTR);
    assert!(
        found.contains("leaving-0.ready.default.svc.cluster.local."),
        "{found}"
    );

    // It answers on until its grace period ends, and clients that look for somebody anew are to find others.
    world.delete("/api/v1/namespaces/default/pods/leaving-0");
    until("ready", RecordType::A, &nobody);
    until("leaving-0.ready", RecordType::A, &nobody);
    until("all", RecordType::A, &any_order);
    until("_sql._tcp.ready", RecordType::SRV, &nobody);
}

const LEAVING: &str = r#"
apiVersion: v1
kind: Service
metadata: { name: ready }
spec: { clusterIP: None, selector: { set: both }, ports: [{ name: sql, port: 5432 }] }
---
apiVersion: v1
kind: Service
metadata: { name: all }
spec: { clusterIP: None, publishNotReadyAddresses: true, selector: { set: both }, ports: [{ name: sql, port: 5432 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: leaving-0, labels: { set: both } }
spec:
  hostname: leaving-0
  subdomain: ready
  terminationGracePeriodSeconds: 100
  containers: [{ name: db, command: [knarr, echo, --drain-ms, "100000"] }]
---
apiVersion: v1
kind: Pod
metadata: { name: dark-0, labels: { set: both } }
spec:
  hostname: dark-0
  subdomain: ready
  terminationGracePeriodSeconds: 1
  containers: [{ name: db, command: [sleep, infinity], readinessProbe: { exec: { command: ["false"] } } }]
"#;

/// The code, the counts of answers and authorities, and whether it was cut.
fn shape(answer: &Message) -> (u16, usize, usize, bool) {
    let (answers, authorities) = (answer.answers.len(), answer.authorities.len());
    let metadata = &answer.metadata;
    (
        metadata.response_code.into(),
        answers,
        authorities,
        metadata.truncation,
    )
}

#[test]
fn odd_questions_get_the_answers_that_the_standards_name() {
    let world = world();
    let pod = world.pod_netns("client");
    let web = "Web.DEFAULT.svc.Cluster.local.";
    let with = |change: fn(&mut Message)| {
        let mut message = question(web, RecordType::A);
        change(&mut message);
        message
    };
    let version_1 = |message: &mut Message| {
        let mut edns = Edns::new();
        edns.set_version(1);
        message.edns = Some(edns);
    };
    for (asked, expected) in [
        (with(|_| {}), (ResponseCode::NoError, 1, 0)),
        (
            question(web, RecordType::ANY),
            (ResponseCode::NoError, 0, 1),
        ),
        (
            question(web, RecordType::HTTPS),
            (ResponseCode::NoError, 0, 1),
        ),
        (
            question("cluster.local.", RecordType::SOA),
            (ResponseCode::NoError, 1, 0),
        ),
        (
            with(|message| message.metadata.op_code = OpCode::Status),
            (ResponseCode::NotImp, 0, 0),
        ),
        (
            with(|message| message.queries[0].query_class = DNSClass::CH),
            (ResponseCode::Refused, 0, 0),
        ),
        (
            with(|message| message.queries.push(message.queries[0].clone())),
            (ResponseCode::FormErr, 0, 0),
        ),
        (with(version_1), (ResponseCode::BADVERS, 0, 0)),
    ] {
        let what = asked.to_string();
        let answer = inside(&pod, move || exchange(&asked));
        let (code, answers, authorities) = expected;
        assert_eq!(
            shape(&answer),
            (code.into(), answers, authorities, false),
            "{what}"
        );
        for record in answer.answers.iter().chain(&answer.authorities) {
            assert_eq!(record.ttl, 5, "{what}");
        }
    }
    // Clients tell forged answers by the case of the name (0x20), so it must come back as it was.
    let spelt = question(web, RecordType::A);
    let bytes = spelt.to_vec().expect("bytes");
    let reply = inside(&pod, move || exchange_bytes(&bytes));
    let at = 12..12 + web.len() + 1;
    assert_eq!(reply[at.clone()], spelt.to_vec().expect("bytes")[at]);
}

#[test]
fn questions_that_come_together_over_one_connection_are_all_answered() {
    let world = world();
    let pod = world.pod_netns("client");
    let names = ["web.default", "nobody.default", "kubernetes.default"];
    let ids = inside(&pod, move || {
        let mut bytes = Vec::new();
        for (id, name) in (1..).zip(names) {
            let mut question = question(&format!("{name}.svc.cluster.local."), RecordType::A);
            question.metadata.id = id;
            let question = question.to_vec().expect("a question");
            let length = u16::try_from(question.len()).expect("a short question");
            bytes.extend(length.to_be_bytes());
            bytes.extend(question);
        }
        let mut stream = TcpStream::connect(SERVER).expect("a connection");
        let patience = Some(ANSWER_TIME_MAX);
        stream.set_read_timeout(patience).expect("a socket");
        stream.write_all(&bytes).expect("a connection");
        names.map(|_| {
            let answer = read_over_tcp(&mut stream);
            (
                answer.metadata.id,
                answer.metadata.response_code,
                answer.answers.len(),
            )
        })
    });
    let expected = [
        (1, ResponseCode::NoError, 1),
        (2, ResponseCode::NXDomain, 0),
        (3, ResponseCode::NoError, 1),
    ];
    assert_eq!(ids, expected);
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
#[expect(clippy::too_many_lines, reason = "a table")]
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
    read_over_tcp(&mut stream)
}

fn read_over_tcp(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("an answer");
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).expect("a whole answer");
    Message::from_vec(&bytes).expect("a message")
}

fn exchange(question: &Message) -> Message {
    let bytes = exchange_bytes(&question.to_vec().expect("a question"));
    let answer = Message::from_vec(&bytes).expect("a message");
    assert_eq!(answer.metadata.id, question.metadata.id);
    answer
}

fn exchange_bytes(question: &[u8]) -> Vec<u8> {
    let server: SocketAddr = SERVER.parse().expect("an address");
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket
        .set_read_timeout(Some(ANSWER_TIME_MAX))
        .expect("a socket");
    socket.send_to(question, server).expect("a packet");
    let mut buffer = [0; 4096];
    let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
    assert_eq!(from, server);
    buffer[..length].to_vec()
}
