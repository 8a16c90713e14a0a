//! The exact text of a front's table.

use std::sync::Arc;

use knarr_netproxy_plan::{
    Family, FrontNode, FrontSnapshot, ServiceKey, Standing, check, plan_front,
};
use serde_json::{Value, json};

use crate::nftables::{Ruleset, text::render};

/// Two nodes, one of them leaving, and a Service of each sort.
fn snapshot() -> FrontSnapshot {
    let mut snapshot = FrontSnapshot {
        near: ["10.0.0.0/24".parse().expect("a CIDR")].into(),
        ..FrontSnapshot::default()
    };
    for (name, ip) in [
        ("node-1", "10.0.0.1"),
        ("node-2", "10.0.0.2"),
        ("node-3", "10.0.0.3"),
    ] {
        let ip = ip.parse().expect("an address");
        let standing = match name {
            "node-3" => Standing::Leaving,
            _ => Standing::Staying,
        };
        let addresses = vec![ip];
        let node = FrontNode {
            addresses,
            standing,
        };
        snapshot.nodes.insert(name.to_owned(), node);
        snapshot.returning.insert(ip);
        for port in [10256, 31000] {
            snapshot.passing.insert((ip, port).into());
        }
    }
    let cases = [
        ("web", "192.0.2.1", json!({})),
        (
            "kept",
            "192.0.2.2",
            json!({ "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000 }),
        ),
        (
            "sticky",
            "192.0.2.3",
            json!({ "sessionAffinity": "ClientIP", "loadBalancerSourceRanges": ["198.51.100.0/24"] }),
        ),
        (
            "nobody",
            "192.0.2.4",
            json!({ "ports": [{ "name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053 }] }),
        ),
    ];
    for (name, ip, more) in cases {
        let (key, service) = service(name, ip, more);
        snapshot.services.insert(key, service);
    }
    snapshot
}

type Entry = (
    Arc<k8s_openapi::api::core::v1::Service>,
    Vec<Arc<k8s_openapi::api::discovery::v1::EndpointSlice>>,
);

fn service(name: &str, ip: &str, more: Value) -> (ServiceKey, Entry) {
    let mut spec = json!({
        "type": "LoadBalancer", "clusterIPs": ["10.0.128.7"],
        "ports": [{ "name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP" }],
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let service = json!({
        "metadata": { "name": name, "namespace": "default" }, "spec": spec,
        "status": { "loadBalancer": { "ingress": [{ "ip": ip }] } },
    });
    let slice = json!({
        "addressType": "IPv4", "endpoints": [{ "addresses": ["10.42.0.5"], "nodeName": "node-1" }],
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
    });
    let service = serde_json::from_value(service).expect("a Service");
    let slice = serde_json::from_value(slice).expect("a slice");
    (
        ServiceKey::new("default", name),
        (Arc::new(service), vec![Arc::new(slice)]),
    )
}

#[test]
fn a_table_reads_as_documentation() {
    let plan = plan_front(&snapshot()).packets;
    assert_eq!(check(&plan), []);
    insta::assert_snapshot!("front", render(&Ruleset::of(&plan, Family::V4)));
}

#[test]
fn planning_twice_changes_nothing() {
    assert_eq!(plan_front(&snapshot()), plan_front(&snapshot()));
}
