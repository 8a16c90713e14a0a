use serde_json::{Value, json};

use super::*;
use crate::{Snapshot, plan};

/// The plan of one dual-stack load balancer on a node at 192.168.7.1 and fd07::1.
fn planned(spec: Value, ingress: Value) -> (crate::Plan, Vec<Warning>) {
    let mut object = json!({
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.0.128.7", "clusterIPs": ["10.0.128.7", "fd43::7"],
            "ports": [{ "port": 80, "nodePort": 30080 }],
        },
        "status": { "loadBalancer": { "ingress": ingress } },
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    let service = serde_json::from_value(object).expect("a Service");
    let key = ServiceKey::new("default", "web");
    let settings = Settings {
        node_name: "node-1".into(),
        node_ips: ["192.168.7.1", "fd07::1"]
            .map(|ip| ip.parse().expect("an address"))
            .into(),
        ..Settings::default()
    };
    plan(&Snapshot {
        settings,
        services: [(key, (Arc::new(service), Vec::new()))].into(),
    })
}

/// Each frontend whose sources are restricted, with who may knock.
fn restricted(spec: Value) -> Vec<String> {
    let ingress = json!([{ "ip": "198.51.100.1" }, { "ip": "2001:db8::1" }]);
    let (plan, _) = planned(spec, ingress);
    let frontends = plan.frontends.iter();
    let frontends = frontends.filter_map(|(key, frontend)| {
        let ranges = frontend.allowed_sources.as_ref()?;
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        Some(format!("{key} from {}", ranges.join(" ")))
    });
    frontends.collect()
}

#[test]
fn source_ranges_restrict_load_balancer_ips_of_their_own_family() {
    let check = |ranges: &[&str], expected: &[&str]| {
        let spec = json!({
            "loadBalancerSourceRanges": ranges, "externalIPs": ["203.0.113.1"],
        });
        assert_eq!(restricted(spec), expected, "{ranges:?}");
    };
    let v4 = "198.51.100.1:80/tcp from 10.0.0.0/8";
    let v6 = "[2001:db8::1]:80/tcp from fd00::/16";
    check(&[], &[]);
    check(&["10.0.0.0/8"], &[v4]);
    check(&["fd00::/16"], &[v6]);
    check(&["10.0.0.0/8", "fd00::/16"], &[v4, v6]);
    check(&["10.0.0.0/8", "0.0.0.0/0", "fd00::/16"], &[v6]);
    check(&["10.1.2.3/8", " 10.0.0.0/9 "], &[v4]);
    check(&["::/0", "fd00::/16"], &[]);
}

#[test]
fn ranges_that_hold_the_node_hold_the_address_that_it_asks_from() {
    let ranges = ["192.168.7.0/24", "fd00::/16"];
    let expected = [
        "198.51.100.1:80/tcp from 192.168.7.0/24 198.51.100.1/32",
        "[2001:db8::1]:80/tcp from fd00::/16",
    ];
    assert_eq!(
        restricted(json!({ "loadBalancerSourceRanges": ranges })),
        expected
    );
}

#[test]
fn only_addresses_that_packets_bear_are_load_balancer_ips() {
    let check = |ingress: Value, expected: &[&str]| {
        let (plan, _) = planned(json!({ "loadBalancerIP": "198.51.100.9" }), ingress.clone());
        let frontends = plan.frontends.iter();
        let of_kind = frontends.filter(|(_, one)| one.kind == FrontendKind::LoadBalancerIp);
        let found: Vec<String> = of_kind.map(|(key, _)| key.to_string()).collect();
        assert_eq!(found, expected, "{ingress}");
    };
    check(json!([]), &[]);
    check(json!([{ "hostname": "lb.example.com" }]), &[]);
    check(json!([{ "ip": "198.51.100.1", "ipMode": "Proxy" }]), &[]);
    check(
        json!([{ "ip": "198.51.100.1", "ipMode": "VIP" }, { "ip": "198.51.100.2" }]),
        &["198.51.100.1:80/tcp", "198.51.100.2:80/tcp"],
    );
}

#[test]
fn a_range_that_cannot_be_read_is_told() {
    let (_, warnings) = planned(
        json!({ "loadBalancerSourceRanges": ["nonsense"] }),
        json!([{ "ip": "198.51.100.1" }]),
    );
    assert!(
        matches!(warnings.as_slice(), [Warning::Unreadable { value, .. }] if value == "nonsense")
    );
}
