//! Draws clusters at random, as scenario files without outcomes: Services that collide with nobody, slices that collide on purpose.

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

/// What a drawn cluster is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// The tracer: every packet from everywhere to everything.
    Tracer,
    /// Real packets: only what a machine of the lab can send and tell apart.
    Lab,
}

/// One named port of a drawn Service: name, port, protocol, where a pod answers it.
const PORTS: [(&str, u16, &str, u16); 4] = [
    ("web", 80, "TCP", 8080),
    ("stats", 80, "UDP", 8080),
    ("admin", 81, "TCP", 9090),
    ("assoc", 80, "SCTP", 8080),
];
/// A port that no drawn Service has.
const NOBODYS_PORT: u16 = 83;
const SENDERS: [&str; 6] = ["client", "node-1", "node-2", "shop-1", "shop-2", "web-1"];
const STATES: [&str; 4] = ["ready", "ready", "unready", "leaving"];
const RANGES: [&str; 6] = [
    "10.78.0.0/24",
    "10.42.0.0/16",
    "10.77.0.0/24",
    "203.0.113.0/24",
    "0.0.0.0/0",
    "2001:db8::/32",
];

/// One pod that Services may select: its app, node, state, and where it serves the port `http`.
type DrawnPod = (&'static str, &'static str, &'static str, u16);

/// How a Service is meant to be reached.
#[derive(Clone, Debug)]
struct Reach {
    kind: &'static str,
    node_ports: bool,
    external: Option<bool>,
    balanced: &'static str,
    ranges: Vec<&'static str>,
}

/// Who it chooses to answer.
#[derive(Clone, Debug)]
struct Choice {
    selector: Option<&'static str>,
    target: Value,
    local: (bool, bool),
    sticky: bool,
    published: bool,
    distribution: Option<&'static str>,
}

/// One Service with the slices that users wrote for it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    ports: u8,
    reach: Reach,
    choice: Choice,
    slices: Vec<Slice>,
}

#[derive(Clone, Debug)]
struct Slice {
    ports: Vec<(usize, u16)>,
    endpoints: Vec<Written>,
    headless: bool,
}

/// An endpoint as a user might write it.
#[derive(Clone, Debug)]
struct Written {
    pod: usize,
    /// A machine that is no node, in place of the pod.
    outside: bool,
    placed: bool,
    conditions: (Option<bool>, Option<bool>, Option<bool>),
    for_zone: Option<&'static str>,
    for_node: Option<&'static str>,
}

prop_compose! {
    fn a_reach()(
        kind in select(vec!["", "", "", "", "", "", "headless", "name", "theirs"]),
        node_ports in any::<bool>(),
        external in option::weighted(0.4, any::<bool>()),
        balanced in select(vec!["", "", "VIP", "unsaid", "Proxy", "hostname"]),
        ranges in vec(select(RANGES.to_vec()), 0..3),
    ) -> Reach {
        Reach { kind, node_ports, external, balanced, ranges }
    }
}

prop_compose! {
    fn a_choice()(
        selector in select(vec![Some("a"), Some("a"), Some("b"), Some("nobody"), None]),
        target in select(vec![json!(8080), json!("http")]),
        local in (any::<bool>(), any::<bool>()),
        sticky in any::<bool>(),
        published in prop::bool::weighted(0.2),
        distribution in option::weighted(0.3, select(vec!["PreferClose", "PreferSameZone", "PreferSameNode"])),
    ) -> Choice {
        Choice { selector, target, local, sticky, published, distribution }
    }
}

prop_compose! {
    fn a_written()(
        pod in 0..4_usize,
        outside in prop::bool::weighted(0.2),
        placed in prop::bool::weighted(0.7),
        conditions in (option::of(any::<bool>()), option::of(any::<bool>()), option::of(any::<bool>())),
        for_zone in option::of(select(vec!["east", "west"])),
        for_node in option::of(select(vec!["node-1", "node-2"])),
    ) -> Written {
        Written { pod, outside, placed, conditions, for_zone, for_node }
    }
}

prop_compose! {
    fn a_slice()(
        ports in vec((0..PORTS.len(), select(vec![0, 8080, 8080, 9090])), 0..3),
        endpoints in vec(a_written(), 0..4),
        headless in prop::bool::weighted(0.1),
    ) -> Slice {
        Slice { ports, endpoints, headless }
    }
}

prop_compose! {
    /// A Service that could be in a cluster.
    pub(super) fn a_case()(
        ports in 1..16_u8,
        reach in a_reach(),
        choice in a_choice(),
        slices in vec(a_slice(), 0..3),
    ) -> Case {
        Case { ports, reach, choice, slices }
    }
}

fn a_pod() -> impl Strategy<Value = DrawnPod> {
    let app = select(vec!["a", "a", "b"]);
    (
        app,
        select(vec!["node-1", "node-2"]),
        select(STATES.to_vec()),
        select(vec![8080, 8081]),
    )
}

/// A cluster of two nodes, as a scenario file.
pub(super) fn a_cluster() -> impl Strategy<Value = String> {
    let zone = || option::weighted(0.8, select(vec!["east", "west"]));
    let pods = vec(a_pod(), 1..5);
    (pods, (zone(), zone()), vec(a_case(), 1..4))
        .prop_map(|(pods, zones, cases)| scenario(&pods, [zones.0, zones.1], &cases, For::Tracer).0)
}

/// A cluster of ready and leaving pods and many Services, for real packets, with the number of rows of each.
pub(super) fn for_lab(cases: &[Case]) -> (String, Vec<usize>) {
    let pods = [
        ("a", "node-1", "ready", 8080),
        ("a", "node-2", "ready", 8081),
        ("a", "node-2", "leaving", 8080),
        ("b", "node-1", "leaving", 8080),
    ];
    scenario(&pods, [Some("east"), Some("west")], cases, For::Lab)
}

fn scenario(
    pods: &[DrawnPod],
    zones: [Option<&str>; 2],
    cases: &[Case],
    meant: For,
) -> (String, Vec<usize>) {
    let mut text = "# A cluster drawn at random\n".to_owned();
    let mut document = |object: &Value| text.push_str(&format!("\n```yaml\n{object}\n```\n"));
    for (node, zone) in ["node-1", "node-2"].iter().zip(zones) {
        let labels = json!({ "topology.kubernetes.io/zone": zone });
        if zone.is_some() {
            let metadata = json!({ "name": node, "labels": labels });
            document(&json!({ "apiVersion": "v1", "kind": "Node", "metadata": metadata }));
        }
    }
    for (index, case) in cases.iter().enumerate() {
        document(&service(index, case, meant));
        for (number, slice) in case.slices.iter().enumerate() {
            document(&slice_object(index, number, slice, pods, meant));
        }
    }
    text.push_str("\n| pod | node | labels | state | ports |\n|---|---|---|---|---|\n");
    for (number, (app, node, state, http)) in (1..).zip(pods) {
        let other = if *http == 8080 { 8081 } else { 8080 };
        text.push_str(&format!(
            "| web-{number} | {node} | app={app} | {state} | http={http}, {other}, 9090 |\n"
        ));
    }
    for number in [1, 2] {
        text.push_str(&format!(
            "| shop-{number} | node-{number} | app=shop | ready | |\n"
        ));
    }
    text.push_str("\n| from | to | protocol | answered by |\n|---|---|---|---|\n");
    let mut counts = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let mut rows = Vec::new();
        for (to, protocol) in destinations(index, case, meant) {
            let senders = SENDERS.iter();
            let senders = senders.filter(|from| meant == For::Tracer || sendable(from, &to));
            rows.extend(senders.map(|from| format!("| {from} | {to} | {protocol} | dropped |\n")));
        }
        counts.push(rows.len());
        text.push_str(&rows.concat());
    }
    (text, counts)
}

/// The lab's router knows the way to nodes and external addresses, not to cluster IPs.
fn sendable(from: &str, to: &str) -> bool {
    from != "client" || !to.starts_with("10.0.")
}

fn ports(case: &Case, meant: For) -> Vec<(&'static str, u16, &'static str, u16)> {
    let chosen = PORTS
        .iter()
        .enumerate()
        .filter(|(bit, _)| case.ports & (1 << bit) != 0);
    let mut ports: Vec<_> = chosen.map(|(_, port)| *port).collect();
    if meant == For::Lab {
        ports.retain(|(_, _, protocol, _)| *protocol != "SCTP");
        if ports.is_empty() {
            ports.push(PORTS[0]);
        }
    }
    ports
}

fn cluster_ip(index: usize) -> String {
    format!("10.0.129.{}", index + 10)
}

fn external_ip(index: usize) -> String {
    format!("198.51.100.{}", index + 10)
}

fn load_balancer_ip(index: usize) -> String {
    format!("198.51.100.{}", index + 100)
}

fn node_port(index: usize, port: u16) -> usize {
    31_000 + index * 4 + usize::from(port - 80)
}

/// The node's own address is an external IP of one Service at most.
fn is_own_address(index: usize, at_node: bool, meant: For) -> bool {
    at_node && index == 0 && meant == For::Tracer
}

fn service(index: usize, case: &Case, meant: For) -> Value {
    let Case { reach, choice, .. } = case;
    let mut spec =
        json!({ "ports": service_ports(index, case, meant), "type": reach.service_type() });
    match reach.kind {
        "name" => spec["externalName"] = json!("example.com"),
        "headless" => spec["clusterIP"] = json!("None"),
        _ => spec["clusterIP"] = json!(cluster_ip(index)),
    }
    if let Some(at_node) = reach.external.filter(|_| reach.is_plain()) {
        let own = is_own_address(index, at_node, meant);
        let address = if own {
            "$(node-1)".to_owned()
        } else {
            external_ip(index)
        };
        spec["externalIPs"] = json!([address]);
    }
    if reach.is_plain() && (reach.is_balanced() || reach.node_ports || reach.external.is_some()) {
        spec["externalTrafficPolicy"] = policy(choice.local.1);
    }
    if reach.kind != "name" {
        choose(&mut spec, choice, meant);
    }
    let mut metadata = json!({ "name": format!("case-{index}") });
    if reach.kind == "theirs" {
        metadata["labels"] = json!({ "service.kubernetes.io/service-proxy-name": "theirs" });
    }
    let mut object =
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec });
    if reach.is_balanced() {
        balance(&mut object, index, reach);
    }
    object
}

impl Reach {
    fn is_plain(&self) -> bool {
        matches!(self.kind, "" | "theirs")
    }

    fn is_balanced(&self) -> bool {
        self.is_plain() && !self.balanced.is_empty()
    }

    fn has_node_ports(&self) -> bool {
        self.is_plain() && self.node_ports
    }

    fn service_type(&self) -> &'static str {
        match (self.kind, self.is_balanced(), self.has_node_ports()) {
            ("name", ..) => "ExternalName",
            (_, true, _) => "LoadBalancer",
            (_, false, true) => "NodePort",
            (_, false, false) => "ClusterIP",
        }
    }
}

fn policy(local: bool) -> Value {
    json!(if local { "Local" } else { "Cluster" })
}

fn service_ports(index: usize, case: &Case, meant: For) -> Vec<Value> {
    let ports = ports(case, meant).into_iter();
    ports
        .map(|(name, port, protocol, target)| {
            let target = if name == "web" {
                case.choice.target.clone()
            } else {
                json!(target)
            };
            let mut one =
                json!({ "name": name, "port": port, "protocol": protocol, "targetPort": target });
            if case.reach.has_node_ports() {
                one["nodePort"] = json!(node_port(index, port));
            }
            one
        })
        .collect()
}

/// Says in a Service's spec who answers.
fn choose(spec: &mut Value, choice: &Choice, meant: For) {
    spec["internalTrafficPolicy"] = policy(choice.local.0);
    let sticky = choice.sticky && meant == For::Tracer;
    spec["sessionAffinity"] = json!(if sticky { "ClientIP" } else { "None" });
    spec["publishNotReadyAddresses"] = json!(choice.published);
    if let Some(selector) = choice.selector {
        spec["selector"] = json!({ "app": selector });
    }
    if let Some(distribution) = choice.distribution {
        spec["trafficDistribution"] = json!(distribution);
    }
}

/// Gives a Service somebody else's load balancer.
fn balance(object: &mut Value, index: usize, reach: &Reach) {
    let spec = &mut object["spec"];
    spec["loadBalancerClass"] = json!("example.com/elsewhere");
    spec["allocateLoadBalancerNodePorts"] = json!(reach.has_node_ports());
    spec["loadBalancerSourceRanges"] = json!(reach.ranges);
    let ip = load_balancer_ip(index);
    let ingress = match reach.balanced {
        "hostname" => json!({ "hostname": "example.com" }),
        "unsaid" => json!({ "ip": ip }),
        mode => json!({ "ip": ip, "ipMode": mode }),
    };
    object["status"] = json!({ "loadBalancer": { "ingress": [ingress] } });
}

fn slice_object(
    index: usize,
    number: usize,
    slice: &Slice,
    pods: &[DrawnPod],
    meant: For,
) -> Value {
    let mut labels = json!({ "kubernetes.io/service-name": format!("case-{index}") });
    if slice.headless {
        labels["service.kubernetes.io/headless"] = json!("");
    }
    let mut ports: Vec<(&str, &str, u16)> = slice
        .ports
        .iter()
        .map(|(port, number)| (PORTS[*port].0, PORTS[*port].2, *number))
        .filter(|(.., number)| *number != 0)
        .collect();
    // The API takes each name once.
    ports.sort_unstable();
    ports.dedup_by_key(|(name, ..)| *name);
    let ports: Vec<Value> = ports
        .into_iter()
        .map(|(name, protocol, port)| json!({ "name": name, "protocol": protocol, "port": port }))
        .collect();
    let endpoints: Vec<Value> = slice
        .endpoints
        .iter()
        .map(|Written { pod, outside, placed, conditions, for_zone, for_node }| {
            let pod = pod % pods.len();
            // Nobody listens on the lab's client.
            let outside = *outside && meant == For::Tracer;
            let address = if outside { "$(client)".to_owned() } else { format!("$(web-{})", pod + 1) };
            let (ready, serving, terminating) = conditions;
            let mut endpoint = json!({
                "addresses": [address],
                "conditions": { "ready": ready, "serving": serving, "terminating": terminating },
                "hints": {
                    "forZones": for_zone.map(|name| vec![json!({ "name": name })]),
                    "forNodes": for_node.map(|name| vec![json!({ "name": name })]),
                },
            });
            if *placed && !outside {
                endpoint["nodeName"] = json!(pods[pod].1);
            }
            endpoint
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": format!("case-{index}-{number}"), "labels": labels },
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    })
}

/// Where to send packets: every door of a Service, and what is beside each.
fn destinations(index: usize, case: &Case, meant: For) -> Vec<(String, &'static str)> {
    let ports = ports(case, meant);
    let mut addresses = vec![cluster_ip(index)];
    if let Some(at_node) = case.reach.external {
        let own = is_own_address(index, at_node, meant);
        addresses.push(if own {
            "$(node-1)".to_owned()
        } else {
            external_ip(index)
        });
    }
    if matches!(case.reach.balanced, "VIP" | "unsaid" | "Proxy") {
        addresses.push(load_balancer_ip(index));
    }
    let mut all = vec![
        (format!("{}:{NOBODYS_PORT}", cluster_ip(index)), "tcp"),
        (cluster_ip(index), "icmp"),
    ];
    for (_, port, protocol, _) in ports {
        let protocol = match protocol {
            "UDP" => "udp",
            "SCTP" => "sctp",
            _ => "tcp",
        };
        all.extend(
            addresses
                .iter()
                .map(|address| (format!("{address}:{port}"), protocol)),
        );
        let number = node_port(index, port);
        all.extend([1, 2].map(|node| (format!("$(node-{node}):{number}"), protocol)));
    }
    if meant == For::Tracer {
        all.extend(
            addresses
                .iter()
                .map(|address| (format!("{address}:{NOBODYS_PORT}"), "udp")),
        );
        all.push(("10.0.200.1:80".to_owned(), "tcp"));
    }
    all
}
