//! The exact text of whole tables, and what the real nft makes of it.

use std::{collections::BTreeMap, process::Command, sync::Arc};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use knarr_netproxy_plan::{Family, Plan, ServiceKey, Settings, Snapshot, plan};
use serde_json::{Value, json};

use super::{
    Ruleset,
    edits::edits,
    text::{render, render_edits},
};

/// One Service of each sort, on a node with one of three endpoints.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(crate) fn everything() -> Plan {
    let settings = Settings {
        node_name: "node-1".to_owned(),
        zone: None,
        node_ips: vec![
            "192.168.7.1".parse().expect("an address"),
            "fd07::1".parse().expect("one"),
        ],
        cluster_cidrs: ["10.42.0.0/16", "fd42::/56"]
            .map(|cidr| cidr.parse().expect("a CIDR"))
            .into(),
        pod_cidrs: ["10.42.0.0/24", "fd42::/64"]
            .map(|cidr| cidr.parse().expect("a CIDR"))
            .into(),
        service_cidrs: ["10.0.128.0/17", "fd43::/108"]
            .map(|c| c.parse().expect("a CIDR"))
            .into(),
        ..Settings::default()
    };
    let port = json!([{ "name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP" }]);
    let balanced =
        json!({ "loadBalancer": { "ingress": [{ "ip": "172.30.0.1" }, { "ip": "fd44::1" }] } });
    let both = json!(["10.0.128.7", "fd43::7"]);
    let cases = [
        (
            "web",
            json!({ "clusterIPs": both, "ports": port }),
            json!({}),
        ),
        (
            "sticky",
            json!({
                "clusterIPs": ["10.0.128.8", "fd43::8"], "sessionAffinity": "ClientIP",
                "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }],
            }),
            json!({}),
        ),
        (
            "kept",
            json!({
                "clusterIPs": ["10.0.128.9", "fd43::9"], "externalTrafficPolicy": "Local",
                "loadBalancerSourceRanges": ["192.168.0.0/16", "fd99::/64"],
                "ports": [{ "name": "http", "port": 80, "nodePort": 30081, "protocol": "TCP" }],
            }),
            balanced,
        ),
        (
            "nobody",
            json!({
                "clusterIPs": ["10.0.128.10", "fd43::10"],
                "ports": [{ "name": "http", "port": 80, "nodePort": 30082, "protocol": "UDP" }],
            }),
            json!({}),
        ),
        (
            "near",
            json!({
                "clusterIPs": ["10.0.128.11", "fd43::11"], "internalTrafficPolicy": "Local",
                "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
                "externalIPs": ["172.30.0.2", "fd44::2"],
                "ports": [
                    { "name": "far", "port": 53, "nodePort": 30083, "protocol": "UDP" },
                    { "name": "assoc", "port": 53, "nodePort": 30083, "protocol": "SCTP" },
                ],
            }),
            json!({}),
        ),
    ];
    let mut services = BTreeMap::new();
    for (name, spec, status) in cases {
        let service = json!({ "metadata": { "name": name }, "spec": spec, "status": status });
        let service: Service = serde_json::from_value(service).expect("a Service");
        let slices = match name {
            "nobody" => Vec::new(),
            "near" => vec![
                slice("IPv4"),
                slice("IPv6"),
                far_slice("IPv4", "10.42.1.5"),
                far_slice("IPv6", "fd42:0:0:1::5"),
            ],
            _ => vec![slice("IPv4"), slice("IPv6")],
        };
        services.insert(
            ServiceKey::new("default", name),
            (Arc::new(service), slices),
        );
    }
    let (plan, warnings) = plan(&Snapshot { settings, services });
    assert_eq!(warnings, []);
    plan
}

fn slice(address_type: &str) -> Arc<EndpointSlice> {
    let addresses = match address_type {
        "IPv4" => ["10.42.0.5", "10.42.1.5", "10.42.1.6"],
        _ => ["fd42::5", "fd42:0:0:1::5", "fd42:0:0:1::6"],
    };
    let endpoints: Vec<_> = addresses
        .iter()
        .zip(["node-1", "node-2", "node-2"])
        .map(|(address, node)| json!({ "addresses": [address], "nodeName": node }))
        .collect();
    let ports = json!([
        { "name": "http", "port": 8080, "protocol": "TCP" },
        { "name": "assoc", "port": 5353, "protocol": "SCTP" },
    ]);
    slice_of(address_type, &json!(endpoints), &ports)
}

/// Answers on another node only.
fn far_slice(address_type: &str, address: &str) -> Arc<EndpointSlice> {
    let endpoints = json!([{ "addresses": [address], "nodeName": "node-2" }]);
    let ports = json!([{ "name": "far", "port": 5353, "protocol": "UDP" }]);
    slice_of(address_type, &endpoints, &ports)
}

fn slice_of(address_type: &str, endpoints: &Value, ports: &Value) -> Arc<EndpointSlice> {
    let slice = json!({ "addressType": address_type, "endpoints": endpoints, "ports": ports });
    Arc::new(serde_json::from_value(slice).expect("a slice"))
}

#[test]
fn a_table_reads_as_documentation() {
    let plan = everything();
    for family in Family::BOTH {
        insta::assert_snapshot!(format!("{family:?}"), render(&Ruleset::of(&plan, family)));
    }
}

#[test]
fn planning_twice_edits_nothing() {
    let plan = everything();
    for family in Family::BOTH {
        let ruleset = Ruleset::of(&plan, family);
        assert!(edits(&ruleset, &Ruleset::of(&plan, family)).is_empty());
    }
}

/// Runs commands in a network namespace that ends with them.
fn in_netns(script: &str, input: &str) -> String {
    let path = std::env::temp_dir().join(format!(
        "knarr-golden-{}-{}",
        std::process::id(),
        input.len()
    ));
    std::fs::write(&path, input).expect("a writable temporary directory");
    let output = Command::new("unshare")
        .args(["--net", "sh", "-ec", script, "sh"])
        .arg(&path)
        .output()
        .expect("unshare runs");
    let _ = std::fs::remove_file(&path);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && errors.is_empty(),
        "{errors}\n{input}"
    );
    String::from_utf8(output.stdout).expect("nft prints UTF-8")
}

/// What a listing says, without its layout and order.
pub(crate) fn essence(listing: &str) -> Vec<String> {
    let flat = listing.split_whitespace().collect::<Vec<_>>().join(" ");
    let flat = flat
        .replace(" set ", "\nset ")
        .replace(" map ", "\nmap ")
        .replace(" chain ", "\nchain ");
    let mut blocks: Vec<String> = flat
        .lines()
        .map(|block| match block.split_once("elements = { ") {
            Some((head, elements)) => {
                let mut elements: Vec<&str> =
                    elements.trim_end_matches([' ', '}']).split(", ").collect();
                elements.sort_unstable();
                format!("{head}{}", elements.join(", "))
            }
            None => block.trim_end_matches([' ', '}']).to_owned(),
        })
        .collect();
    blocks.sort();
    blocks
}

#[test]
fn the_real_nft_loads_the_text_and_lists_the_same() {
    let plan = everything();
    for family in Family::BOTH {
        let ruleset = Ruleset::of(&plan, family);
        let whole = render(&ruleset);
        let listed = in_netns("nft -f $1; nft list ruleset", &whole);
        assert_eq!(essence(&listed), essence(&whole));
        let steps = edits(&Ruleset::absent(family), &ruleset);
        let listed = in_netns(
            "nft -f $1; nft list ruleset",
            &render_edits(&steps.change, family),
        );
        assert_eq!(essence(&listed), essence(&whole));
    }
}
