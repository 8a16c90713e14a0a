//! Flows that outlive a change: UDP moves to whoever serves, TCP is never cut.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::lab::{
    family::{Family, Stack},
    netns::Netns,
    probe::{self, Outcome, Protocol},
    wait,
    world::World,
};

const READY_TIME_MAX: Duration = Duration::from_secs(40);
/// Longer than the clients' pauses, and shorter than the 30 s after which the kernel forgets an idle flow.
const MOVE_TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_TIME_MAX: Duration = Duration::from_millis(200);

/// A client that keeps its source port, so that all its datagrams are one flow.
struct Flow(UdpSocket);

impl Flow {
    fn from(netns: &Netns, to: SocketAddr) -> Self {
        Self::of(&netns.path(), to)
    }

    /// From a namespace that a file names, such as a pod's.
    fn of(netns: &Path, to: SocketAddr) -> Self {
        Self(probe::run_in(netns, move || {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).expect("a socket");
            socket.connect(to).expect("an address");
            let limit = Some(ANSWER_TIME_MAX);
            socket.set_read_timeout(limit).expect("a timeout");
            socket
        }))
    }

    /// Who answers; nobody, when nothing comes back or it is refused.
    fn ask(&self) -> Option<String> {
        // An answer that comes late must not be taken for the next one.
        let mut buffer = [0; 1500];
        self.0.set_nonblocking(true).expect("a socket");
        while self.0.recv(&mut buffer).is_ok() {}
        self.0.set_nonblocking(false).expect("a socket");
        self.0.send(b"client").ok()?;
        let length = self.0.recv(&mut buffer).ok()?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let name = text.lines().next()?.strip_prefix("You've hit ")?;
        Some(name.to_owned())
    }

    fn until_answered_by(&self, what: &str, wanted: Option<&str>) {
        wait::until(what, MOVE_TIME_MAX, || {
            let by = self.ask();
            if by.as_deref() == wanted {
                Ok(())
            } else {
                Err(by)
            }
        });
    }
}

fn run_pod(world: &World, name: &str) {
    let container = json!({
        "name": "echo", "command": ["knarr", "echo"],
        "readinessProbe": { "tcpSocket": { "port": 8080 } },
    });
    let metadata = json!({ "name": name, "labels": { "pod": name } });
    let spec = json!({ "terminationGracePeriodSeconds": 1, "containers": [container] });
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec });
    world.post("/api/v1/namespaces/default/pods", &pod);
}

fn wait_for_pod(world: &World, name: &str) {
    let limit = format!("--timeout={}s", READY_TIME_MAX.as_secs());
    let pod = format!("pod/{name}");
    world.kubectl(&["wait", "--for=condition=Ready", &pod, &limit]);
}

const SERVICE: &str = "/api/v1/namespaces/default/services/web";

fn serve(world: &World, pod: &str) {
    let ports = json!([
        { "name": "tcp", "port": 80, "targetPort": 8080, "nodePort": 30070 },
        { "name": "udp", "port": 80, "targetPort": 8080, "nodePort": 30070, "protocol": "UDP" },
    ]);
    let spec = json!({
        "type": "NodePort", "clusterIP": "10.0.128.70", "selector": { "pod": pod }, "ports": ports,
    });
    let metadata = json!({ "name": "web" });
    let service =
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec });
    world.post("/api/v1/namespaces/default/services", &service);
}

fn choose(world: &World, pod: &str) {
    world.merge(SERVICE, &json!({ "spec": { "selector": { "pod": pod } } }));
}

#[test]
fn udp_flows_follow_the_endpoints_and_tcp_connections_stay() {
    let world = World::running(1);
    run_pod(&world, "web-1");
    run_pod(&world, "web-2");
    let node = &world.nodes[0];
    let node_port = format!("{}:30070", node.ip).parse().expect("an address");
    let cluster_ip = "10.0.128.70:80".parse().expect("an address");
    let flows = [
        ("the client", Flow::from(&world.client, node_port)),
        ("the node", Flow::from(&node.netns, cluster_ip)),
    ];
    let check = |what: &str, wanted: Option<&str>| {
        for (who, flow) in &flows {
            flow.until_answered_by(&format!("{who}: {what}"), wanted);
        }
    };
    wait_for_pod(&world, "web-1");
    wait_for_pod(&world, "web-2");

    check("no Service yet", None);
    serve(&world, "web-1");
    check("the first endpoint appears", Some("web-1"));
    let mut connection = Connection::open(&world.client, node_port);

    choose(&world, "web-2");
    check("the endpoint is gone, another is there", Some("web-2"));
    choose(&world, "nobody");
    check("no endpoint is left", None);
    choose(&world, "web-2");
    check("an endpoint is back", Some("web-2"));
    world.delete(SERVICE);
    check("the Service is deleted", None);

    assert!(connection.ask().contains("You've hit web-1"));
}

#[test]
fn udp_flows_of_a_service_deleted_while_the_proxy_was_down_end_with_its_return() {
    let mut world = World::running(2);
    run_pod(&world, "web-1");
    wait_for_pod(&world, "web-1");
    serve(&world, "web-1");
    let node_port = format!("{}:30070", world.nodes[1].ip);
    let flows = [
        Flow::from(&world.client, node_port.parse().expect("an address")),
        Flow::from(
            &world.nodes[1].netns,
            "10.0.128.70:80".parse().expect("an address"),
        ),
    ];
    for flow in &flows {
        flow.until_answered_by("the Service is there", Some("web-1"));
    }
    world.nodes[1].stop(Signal::SIGKILL);
    world.delete(SERVICE);
    for flow in &flows {
        flow.until_answered_by("nobody has told the kernel", Some("web-1"));
    }
    world.start_agent(1);
    for flow in &flows {
        flow.until_answered_by("the proxy is back", None);
    }
}

/// Knocks at every address of a Service that does not exist yet: from outside, from a node and from a pod.
fn early_flows(world: &World) -> Vec<(String, Flow)> {
    let pod = world.pod_netns("shop");
    let node = &world.nodes[0].netns;
    let mut flows = Vec::new();
    for family in [Family::V4, Family::V6] {
        let at = |address: &str, port| SocketAddr::new(parse(&family.text(address)), port);
        let node_port = SocketAddr::new(parse(&world.nodes[0].ip_in(family)), 30_071);
        for to in [at(EXTERNAL_IP, 80), at(LOAD_BALANCER_IP, 80), node_port] {
            flows.push((format!("the client at {to}"), Flow::from(&world.client, to)));
        }
        for to in [at("10.0.128.71", 80), at(EXTERNAL_IP, 80), node_port] {
            flows.push((format!("the node at {to}"), Flow::from(node, to)));
            flows.push((format!("a pod at {to}"), Flow::of(&pod, to)));
        }
    }
    flows
}

const EXTERNAL_IP: &str = "198.51.100.30";
const LOAD_BALANCER_IP: &str = "198.51.100.31";

fn parse(ip: &str) -> std::net::IpAddr {
    ip.parse().expect("an address")
}

/// A Service of UDP at a cluster IP, node port, external IP and load-balancer IP of each family.
fn serve_everywhere(world: &World) {
    let both = |ip: &str| [Family::V4, Family::V6].map(|family| family.text(ip));
    let cluster_ips = both("10.0.128.71");
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "example.com/elsewhere",
            "ipFamilyPolicy": "RequireDualStack", "clusterIP": cluster_ips[0], "clusterIPs": cluster_ips,
            "externalIPs": both(EXTERNAL_IP), "selector": { "pod": "web-1" },
            "ports": [{ "port": 80, "targetPort": 8080, "nodePort": 30_071, "protocol": "UDP" }],
        },
    });
    world.post("/api/v1/namespaces/default/services", &service);
    let ingress = both(LOAD_BALANCER_IP).map(|ip| json!({ "ip": ip }));
    let status = json!({ "status": { "loadBalancer": { "ingress": ingress } } });
    world.merge(&format!("{SERVICE}/status"), &status);
}

#[test]
fn a_udp_flow_older_than_its_service_is_answered_at_every_address() {
    let world = World::running_with(Stack::Dual, 1);
    run_pod(&world, "web-1");
    run_pod(&world, "shop");
    wait_for_pod(&world, "web-1");
    wait_for_pod(&world, "shop");
    let flows = early_flows(&world);
    let check = |what: &str, wanted: Option<&str>| {
        for (who, flow) in &flows {
            flow.until_answered_by(&format!("{who}: {what}"), wanted);
        }
    };
    check("no Service yet", None);
    serve_everywhere(&world);
    check("the Service is there", Some("web-1"));
    world.delete(SERVICE);
    check("the Service is deleted", None);
    serve_everywhere(&world);
    check("the Service is there again", Some("web-1"));
    choose(&world, "nobody");
    check("nobody is behind it", None);
    choose(&world, "web-1");
    check("somebody is behind it again", Some("web-1"));
}

#[test]
fn a_leaving_pod_keeps_its_udp_flows_while_it_answers_and_gets_no_new_ones() {
    let world = World::running(1);
    for name in ["web-1", "web-2"] {
        let command = ["knarr", "echo", "--drain-ms", "100000"];
        let probe = json!({ "tcpSocket": { "port": 8080 } });
        let container = json!({ "name": "echo", "command": command, "readinessProbe": probe });
        let metadata = json!({ "name": name, "labels": { "pod": name, "app": "web" } });
        let spec = json!({ "terminationGracePeriodSeconds": 100, "containers": [container] });
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec });
        world.post("/api/v1/namespaces/default/pods", &pod);
    }
    wait_for_pod(&world, "web-1");
    wait_for_pod(&world, "web-2");
    serve(&world, "web-1");
    let node_port = format!("{}:30070", world.nodes[0].ip);
    let node_port = node_port.parse().expect("an address");
    let flow = Flow::from(&world.client, node_port);
    flow.until_answered_by("its only endpoint", Some("web-1"));
    let both = json!({ "spec": { "selector": { "app": "web", "pod": null } } });
    world.merge(SERVICE, &both);
    world.delete("/api/v1/namespaces/default/pods/web-1");
    wait::until("new flows go to the pod that stays", MOVE_TIME_MAX, || {
        let fresh = || Flow::from(&world.client, node_port).ask();
        let met: Vec<Option<String>> = (0..8).map(|_| fresh()).collect();
        match met.iter().all(|by| by.as_deref() == Some("web-2")) {
            true => Ok(()),
            false => Err(met),
        }
    });
    flow.until_answered_by("the pod still answers", Some("web-1"));
    let now = ["delete", "pod/web-1", "--grace-period=0", "--force"];
    world.kubectl(&now);
    flow.until_answered_by("the pod is gone", Some("web-2"));
}

/// Who keeps which backend, as the kernel of the first node has it.
fn remembered(world: &World) -> Vec<String> {
    let output = world.nodes[0].try_knarr(&["explain", "svc/web", "-o", "json"]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("an explanation");
    let mut steps = told["steps"].as_array().into_iter().flatten();
    let lines = steps.find(|step| step["name"] == "affinity");
    let lines = lines
        .and_then(|step| step["lines"].as_array())
        .into_iter()
        .flatten();
    lines
        .map(|line| line.as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn a_client_keeps_its_backend_until_it_is_silent_for_the_timeout() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    let world = World::running(1);
    for name in ["web-1", "web-2"] {
        run_pod(&world, name);
        wait_for_pod(&world, name);
        let path = format!("/api/v1/namespaces/default/pods/{name}");
        world.merge(
            &path,
            &json!({ "metadata": { "labels": { "app": "web" } } }),
        );
    }
    serve(&world, "nobody");
    let config = json!({ "clientIP": { "timeoutSeconds": TIMEOUT.as_secs() } });
    let spec = json!({
        "type": "LoadBalancer", "selector": { "app": "web", "pod": null },
        "sessionAffinity": "ClientIP", "sessionAffinityConfig": config,
    });
    world.merge(SERVICE, &json!({ "spec": spec }));
    let load_balancer_ip = wait::until("a load-balancer IP", READY_TIME_MAX, || {
        let service = world.get(SERVICE);
        let ip = service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
        ip.map(str::to_owned).ok_or_else(|| service.to_string())
    });
    let places = [
        format!("{}:30070", world.nodes[0].ip),
        format!("{load_balancer_ip}:80"),
    ];
    let places = places.map(|place| place.parse::<SocketAddr>().expect("an address"));
    let ask = |place: SocketAddr| match world.client.run(move || probe::ask(Protocol::Tcp, place)) {
        Outcome::Answered { by, .. } => Ok(by),
        other => Err(other),
    };
    wait::until("both backends serve", READY_TIME_MAX, || {
        let listed = world.nodes[0].netns.sh("nft list table ip knarr");
        if listed.matches("chain endpoint-").count() < 2 {
            return Err(listed);
        }
        ask(places[1]).map_err(|outcome| format!("{outcome:?}"))
    });
    let answer = |place| wait::until("an answer", READY_TIME_MAX, || ask(place));
    let mut heard = Instant::now();
    let mut kept = answer(places[0]);
    let start = Instant::now();
    while start.elapsed() < 2 * TIMEOUT {
        for place in places {
            let asked = Instant::now();
            let by = answer(place);
            // A busy machine can keep the client silent for the timeout; then it may go elsewhere.
            if heard.elapsed() < TIMEOUT {
                assert_eq!(by, kept, "{place}");
            }
            (heard, kept) = (asked, by);
        }
    }
    assert_eq!(remembered(&world).len(), 1, "{:?}", remembered(&world));

    world.delete(&format!("/api/v1/namespaces/default/pods/{kept}"));
    wait::until("another backend", READY_TIME_MAX, || match ask(places[0]) {
        Ok(by) if by != kept => Ok(()),
        other => Err(other),
    });
    wait::until("the client is forgotten", 4 * TIMEOUT, || {
        let lines = remembered(&world);
        if lines.is_empty() { Ok(()) } else { Err(lines) }
    });
    let mut connection = Connection::open(&world.client, places[0]);
    world.merge(SERVICE, &json!({ "spec": { "sessionAffinity": "None" } }));
    wait::until("the affinity is gone", READY_TIME_MAX, || {
        let listed = world.nodes[0].netns.sh("nft list ruleset");
        if listed.contains("affinity-") {
            Err(listed)
        } else {
            Ok(())
        }
    });
    assert!(connection.ask().contains("You've hit"));
}

/// One HTTP connection that is kept alive.
struct Connection(TcpStream);

impl Connection {
    fn open(netns: &Netns, to: SocketAddr) -> Self {
        let mut connection = Self(wait::until("a connection", MOVE_TIME_MAX, || {
            netns.run(move || TcpStream::connect_timeout(&to, ANSWER_TIME_MAX))
        }));
        let limit = Some(MOVE_TIME_MAX);
        connection.0.set_read_timeout(limit).expect("a timeout");
        assert!(connection.ask().contains("You've hit"));
        connection
    }

    fn ask(&mut self) -> String {
        let request = b"GET /client HTTP/1.1\r\nHost: lab\r\n\r\n";
        self.0
            .write_all(request)
            .expect("the connection is not cut");
        let mut buffer = [0; 1500];
        let mut answer = String::new();
        while !answer.contains("client ") {
            let length = self.0.read(&mut buffer).expect("the connection is not cut");
            assert_ne!(length, 0, "the connection is not closed: {answer}");
            answer.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        answer
    }
}
