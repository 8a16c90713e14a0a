//! Where a front sends whose connections, as tables.

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::*;
use crate::{check::check as flaws, frontend::Answer};

/// Two nodes, one pod on each, everything well: what each test changes.
struct Case {
    snapshot: FrontSnapshot,
    spec: Value,
    endpoints: Value,
}

impl Case {
    fn new() -> Self {
        let mut case = Self {
            snapshot: FrontSnapshot::default(),
            spec: json!({
                "type": "LoadBalancer", "clusterIPs": ["10.0.128.7"],
                "ports": [{ "port": 80, "nodePort": 30080, "protocol": "TCP" }],
            }),
            endpoints: json!([
                { "addresses": ["10.42.1.5"], "nodeName": "node-1" },
                { "addresses": ["10.42.2.5"], "nodeName": "node-2" },
            ]),
        };
        case.snapshot.near = ["10.0.0.0/24".parse().expect("a CIDR")].into();
        for (name, ip) in [("node-1", "10.0.0.1"), ("node-2", "10.0.0.2")] {
            let node = FrontNode {
                addresses: vec![ip.parse().expect("an address")],
                standing: Standing::Staying,
            };
            case.snapshot.nodes.insert(name.to_owned(), node);
            case = case.passing(&format!("{ip}:10256"));
            case = case.passing(&format!("{ip}:31000"));
        }
        case
    }

    fn local(mut self) -> Self {
        self.spec["externalTrafficPolicy"] = "Local".into();
        self.spec["healthCheckNodePort"] = 31000.into();
        self
    }

    fn passing(mut self, check: &str) -> Self {
        let check = check.parse().expect("a socket address");
        self.snapshot.passing.insert(check);
        self
    }

    fn failing(mut self, check: &str) -> Self {
        let check: SocketAddr = check.parse().expect("a socket address");
        self.snapshot.passing.remove(&check);
        self
    }

    fn standing(mut self, node: &str, standing: Standing) -> Self {
        let node = self.snapshot.nodes.get_mut(node).expect("a node");
        node.standing = standing;
        self
    }

    fn returning(mut self, ips: &[&str]) -> Self {
        let ips = ips.iter().map(|ip| ip.parse().expect("an address"));
        self.snapshot.returning = ips.collect();
        self
    }

    fn endpoints(mut self, endpoints: Value) -> Self {
        self.endpoints = endpoints;
        self
    }

    fn spec(mut self, field: &str, value: Value) -> Self {
        self.spec[field] = value;
        self
    }

    fn snapshot(self) -> FrontSnapshot {
        let service = json!({
            "metadata": { "name": "web", "namespace": "default" }, "spec": self.spec,
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } },
        });
        let slice = json!({
            "addressType": "IPv4", "endpoints": self.endpoints,
            "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
        });
        let service: Service = serde_json::from_value(service).expect("a Service");
        let slice: EndpointSlice = serde_json::from_value(slice).expect("a slice");
        let mut snapshot = self.snapshot;
        snapshot.services.insert(
            ServiceKey::new("default", "web"),
            (Arc::new(service), vec![Arc::new(slice)]),
        );
        snapshot
    }
}

fn answer_text(answer: &Answer) -> String {
    match answer {
        Answer::Backends { backends, .. } => {
            let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
            backends.join(" ")
        }
        Answer::Reject => "reject".to_owned(),
        Answer::Drop => "drop".to_owned(),
    }
}

fn check(case: Case, expected: &[&str]) {
    let plan = plan_front(&case.snapshot());
    assert_eq!(flaws(&plan.packets), []);
    let mut seen: Vec<String> = Vec::new();
    for (key, frontend) in &plan.packets.frontends {
        seen.push(format!("{key} {}", answer_text(&frontend.answer)));
        if let Some(outside) = &frontend.from_outside {
            seen.push(format!("{key} from afar {}", answer_text(outside)));
        }
        seen.push(format!("{:?}", frontend.masquerade));
    }
    seen.extend(plan.notices.iter().map(|notice| notice.reason().to_owned()));
    assert_eq!(seen, expected);
}

const BOTH: &str = "192.0.2.1:80/tcp 10.0.0.1:30080 10.0.0.2:30080";
const FIRST: &str = "192.0.2.1:80/tcp 10.0.0.1:30080";
const SECOND: &str = "192.0.2.1:80/tcp 10.0.0.2:30080";
const NOBODY: &str = "192.0.2.1:80/tcp reject";

#[test]
fn connections_spread_over_nodes_whose_proxy_is_well() {
    check(Case::new(), &[BOTH, "Always"]);
    check(Case::new().failing("10.0.0.1:10256"), &[SECOND, "Always"]);
    check(
        Case::new()
            .failing("10.0.0.1:10256")
            .failing("10.0.0.2:10256"),
        &[NOBODY, "Always"],
    );
    // Policy Cluster asks the proxy, whatever the pods of a node.
    check(Case::new().failing("10.0.0.1:31000"), &[BOTH, "Always"]);
}

#[test]
fn policy_local_asks_the_health_check_node_port() {
    let hidden = "ClientAddressHidden";
    check(Case::new().local(), &[BOTH, "Always", hidden]);
    check(
        Case::new().local().failing("10.0.0.1:31000"),
        &[SECOND, "Always", hidden],
    );
}

#[test]
fn policy_local_falls_back_to_pods_that_leave() {
    let leaving = json!([{
        "addresses": ["10.42.1.5"], "nodeName": "node-1",
        "conditions": { "ready": false, "serving": true, "terminating": true },
    }]);
    let case = || {
        let case = Case::new().local().endpoints(leaving.clone());
        case.failing("10.0.0.1:31000").failing("10.0.0.2:31000")
    };
    check(case(), &[FIRST, "Always", "ClientAddressHidden"]);
    check(case().failing("10.0.0.1:10256"), &[NOBODY, "Always"]);
}

#[test]
fn a_leaving_node_gets_connections_only_when_no_other_can() {
    let cordoned = || Case::new().standing("node-1", Standing::Leaving);
    check(cordoned(), &[SECOND, "Always"]);
    check(cordoned().failing("10.0.0.2:10256"), &[FIRST, "Always"]);
    let excluded = || Case::new().standing("node-1", Standing::Excluded);
    check(excluded(), &[SECOND, "Always"]);
    check(excluded().failing("10.0.0.2:10256"), &[NOBODY, "Always"]);
}

#[test]
fn flows_may_stay_where_no_new_connection_goes() {
    let case = Case::new().standing("node-1", Standing::Excluded);
    let plan = plan_front(&case.snapshot());
    let frontend = plan.packets.frontends.values().next().expect("a frontend");
    let serving: Vec<String> = frontend.serving.iter().map(ToString::to_string).collect();
    assert_eq!(serving, ["10.0.0.1:30080", "10.0.0.2:30080"]);
}

#[test]
fn a_service_without_endpoints_refuses() {
    check(Case::new().endpoints(json!([])), &[NOBODY, "Always"]);
    let unready =
        json!([{ "addresses": ["10.42.1.5"], "conditions": { "ready": false, "serving": false } }]);
    check(Case::new().endpoints(unready), &[NOBODY, "Always"]);
}

#[test]
fn clients_keep_their_address_where_replies_return_through_the_front() {
    let far = "192.0.2.1:80/tcp from afar 10.0.0.1:30080 10.0.0.2:30080";
    let both = ["10.0.0.1", "10.0.0.2"];
    check(
        Case::new().local().returning(&both),
        &[BOTH, far, "NearSources"],
    );
    check(
        Case::new().local().returning(&both[..1]),
        &[BOTH, "Always", "ClientAddressHidden"],
    );
    // The node rewrites the source itself under policy Cluster.
    check(Case::new().returning(&both), &[BOTH, "Always"]);
    let mut routed = Case::new().local().returning(&both);
    routed.snapshot.near.clear();
    check(routed, &[BOTH, "Always", "ClientAddressHidden"]);
}

#[test]
fn a_service_without_node_ports_says_so() {
    let ports = json!([{ "port": 80, "protocol": "TCP" }]);
    check(
        Case::new().spec("ports", ports),
        &[NOBODY, "Always", "NoNodePort"],
    );
}

#[test]
fn services_of_another_class_are_left_alone() {
    let class = json!("example.com/balancer");
    check(Case::new().spec("loadBalancerClass", class), &[]);
}

#[test]
fn affinity_covers_what_both_ways_choose_from() {
    let case = Case::new()
        .local()
        .spec("sessionAffinity", json!("ClientIP"));
    let case = case.returning(&["10.0.0.1", "10.0.0.2"]);
    let plan = plan_front(&case.snapshot());
    let affinity = plan.packets.affinities.values().next().expect("affinity");
    assert_eq!((affinity.cluster.len(), affinity.local.len()), (2, 2));
}

#[test]
fn every_node_is_asked_for_its_proxy_and_for_each_service() {
    let asked = front_checks(&Case::new().local().snapshot());
    let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
    let expected = [
        "10.0.0.1:10256",
        "10.0.0.1:31000",
        "10.0.0.2:10256",
        "10.0.0.2:31000",
    ];
    assert_eq!(asked, expected);
}

#[test]
fn nodes_leave_when_cordoned_unready_or_deleted() {
    let read = |spec: Value, ready: &str, labels: Value| {
        let node = json!({
            "metadata": { "name": "node-1", "labels": labels }, "spec": spec,
            "status": { "conditions": [{ "type": "Ready", "status": ready }],
                "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }, { "type": "Hostname", "address": "node-1" }] },
        });
        let node: Node = serde_json::from_value(node).expect("a Node");
        FrontNode::read(&node)
    };
    let node = read(json!({}), "True", json!({}));
    assert_eq!(node.standing, Standing::Staying);
    assert_eq!(node.addresses.len(), 1);
    let cordoned = json!({ "unschedulable": true });
    assert_eq!(
        read(cordoned, "True", json!({})).standing,
        Standing::Leaving
    );
    assert_eq!(
        read(json!({}), "Unknown", json!({})).standing,
        Standing::Leaving
    );
    let excluded = json!({ "node.kubernetes.io/exclude-from-external-load-balancers": "" });
    assert_eq!(
        read(json!({}), "True", excluded).standing,
        Standing::Excluded
    );
}

fn check_lots(case: Case, expected: &[&str]) {
    let lots = front_lots(&case.snapshot());
    let lots = lots.values().flatten();
    let seen: Vec<String> = lots.map(|(node, lot)| format!("{node} {lot}")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn every_node_has_a_reason_for_its_lot() {
    let first = "node-1 gets connections at 10.0.0.1:30080";
    let second = "node-2 gets connections at 10.0.0.2:30080";
    check_lots(Case::new(), &[first, second]);
    let failing = Case::new().failing("10.0.0.2:10256");
    let unwell = "node-2 does not say at 10.0.0.2:10256 that it is well";
    check_lots(failing, &[first, unwell]);
    let failing = Case::new().local().failing("10.0.0.2:31000");
    let unwell = "node-2 does not say at 10.0.0.2:31000 that it is well";
    check_lots(failing, &[first, unwell]);
    let leaving = "node-2 is leaving: cordoned, not ready or being deleted";
    let cordoned = Case::new().standing("node-2", Standing::Leaving);
    check_lots(cordoned, &[first, leaving]);
    let excluded = "node-2 is labelled node.kubernetes.io/exclude-from-external-load-balancers";
    let labelled = Case::new().standing("node-2", Standing::Excluded);
    check_lots(labelled, &[first, excluded]);
    let nobody = " has nobody to send it to: no endpoint answers";
    let nobody = ["node-1", "node-2"].map(|node| format!("{node}{nobody}"));
    check_lots(
        Case::new().endpoints(json!([])),
        &nobody.each_ref().map(String::as_str),
    );
    let mut portless = Case::new();
    portless.spec["ports"][0]["nodePort"] = Value::Null;
    let none = [
        "node-1 has no node port of it",
        "node-2 has no node port of it",
    ];
    check_lots(portless, &none);
}
