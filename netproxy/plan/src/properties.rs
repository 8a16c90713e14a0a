//! What holds of every plan, over generated Services and slices that collide on purpose.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::json;

use crate::{Plan, Planner, ServiceKey, Settings, Snapshot, check, diff, plan};

fn settings() -> Settings {
    Settings {
        node_name: "node-1".to_owned(),
        zone: Some("east".to_owned()),
        node_ips: ["192.168.7.1", "fd07::1"]
            .map(|ip| ip.parse().expect("an address"))
            .into(),
        cluster_cidrs: ["10.42.0.0/16", "fd42::/56"]
            .map(|range| range.parse().expect("a CIDR"))
            .into(),
        service_cidrs: ["10.0.128.0/17", "fd43::/108"]
            .map(|range| range.parse().expect("a CIDR"))
            .into(),
        ..Settings::default()
    }
}

/// One port of a Service: its name, number, node port and protocol.
type Port = (&'static str, u16, Option<u16>, &'static str);

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let protocol = select(vec!["TCP", "UDP", "SCTP"]);
    let node_port = option::of(30_000..30_004_u16);
    vec(
        (select(vec!["a", "b"]), 1..4_u16, node_port, protocol),
        1..3,
    )
}

/// The same last number in the ranges of a Service's families.
fn in_families(families: &[&str], v4: &str, v6: &str, last: u8) -> Vec<String> {
    let address = |family: &&str| match *family {
        "IPv4" => format!("{v4}{last}"),
        _ => format!("{v6}{last}"),
    };
    families.iter().map(address).collect()
}

prop_compose! {
    fn a_service()(
        families in select(vec![vec!["IPv4"], vec!["IPv6"], vec!["IPv4", "IPv6"]]),
        kind in select(vec!["", "", "", "", "headless", "name", "theirs"]),
        ip in 1..4_u8,
        ports in ports(),
        local in (any::<bool>(), any::<bool>()),
        affinity in any::<bool>(),
        external in option::of(1..4_u8),
        balanced in option::of((1..4_u8, select(vec![None, Some("VIP"), Some("Proxy")]))),
        ranges in vec(select(vec!["192.168.0.0/16", "0.0.0.0/0", "nonsense", "fd99::/64", "::/0"]), 0..3),
    ) -> Arc<Service> {
        let policy = |local| if local { "Local" } else { "Cluster" };
        let ports: Vec<_> = ports.iter().map(|(name, port, node_port, protocol)| {
            json!({ "name": name, "port": port, "nodePort": node_port, "protocol": protocol })
        }).collect();
        let outer = |last| in_families(&families, "172.30.0.", "fd44::", last);
        let ingress: Vec<_> = balanced.iter().flat_map(|(last, mode)| {
            outer(*last).into_iter().map(move |ip| json!({ "ip": ip, "ipMode": mode }))
        }).collect();
        let external = external.map(outer).unwrap_or_default();
        let cluster_ips = match kind {
            "headless" => vec!["None".to_owned()],
            _ => in_families(&families, "10.0.128.", "fd43::", ip),
        };
        let labels = if kind == "theirs" {
            json!({ "service.kubernetes.io/service-proxy-name": "theirs" })
        } else {
            json!({})
        };
        Arc::new(serde_json::from_value(json!({
            "metadata": { "labels": labels },
            "spec": {
                "type": if kind == "name" { "ExternalName" } else { "ClusterIP" },
                "clusterIP": cluster_ips[0], "clusterIPs": cluster_ips, "ports": ports, "externalIPs": external,
                "internalTrafficPolicy": policy(local.0), "externalTrafficPolicy": policy(local.1),
                "sessionAffinity": if affinity { "ClientIP" } else { "None" },
                "loadBalancerSourceRanges": ranges, "healthCheckNodePort": 31_000,
            },
            "status": { "loadBalancer": { "ingress": ingress } },
        })).expect("a Service"))
    }
}

prop_compose! {
    fn a_slice()(
        family in select(vec!["IPv4", "IPv6", "FQDN"]),
        ports in vec((select(vec!["a", "b"]), 0..3_u16, select(vec!["TCP", "UDP", "SCTP"])), 0..3),
        endpoints in vec((
            1..6_u8, option::of(select(vec!["node-1", "node-2"])),
            (option::of(any::<bool>()), any::<bool>(), any::<bool>()),
            option::of(select(vec!["east", "west"])), option::of(select(vec!["node-1", "node-2"])),
        ), 0..5),
    ) -> Arc<EndpointSlice> {
        let ports: Vec<_> = ports.iter().map(|(name, port, protocol)| {
            json!({ "name": name, "port": port, "protocol": protocol })
        }).collect();
        let endpoints: Vec<_> = endpoints.iter().map(|(last, node, conditions, zone, hinted)| {
            let (ready, serving, leaving) = conditions;
            let named = |name: &Option<&str>| name.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>();
            json!({
                "addresses": in_families(&[family], "10.42.0.", "fd42::", *last), "nodeName": node,
                "conditions": { "ready": ready, "serving": serving, "terminating": leaving },
                "hints": { "forZones": named(zone), "forNodes": named(hinted) },
            })
        }).collect();
        let slice = json!({ "addressType": family, "ports": ports, "endpoints": endpoints });
        Arc::new(serde_json::from_value(slice).expect("a slice"))
    }
}

type Object = Option<(Arc<Service>, Vec<Arc<EndpointSlice>>)>;

/// Four names, each set or removed again and again.
fn steps() -> impl Strategy<Value = Vec<(ServiceKey, Object)>> {
    let key = select(vec!["s1", "s2", "s3", "s4"]).prop_map(|name| ServiceKey::new("ns", name));
    vec(
        (
            key,
            option::weighted(0.8, (a_service(), vec(a_slice(), 0..3))),
        ),
        1..10,
    )
}

proptest! {
    #[test]
    fn changing_one_service_at_a_time_equals_planning_from_scratch(steps in steps()) {
        let settings = settings();
        let mut planner = Planner::new(settings.clone());
        let mut services = BTreeMap::new();
        let mut before = Plan::default();
        for (key, object) in steps {
            match object {
                Some((service, slices)) => {
                    planner.put(&key, &service, slices.iter().map(AsRef::as_ref));
                    services.insert(key, (service, slices));
                }
                None => {
                    planner.remove(&key);
                    services.remove(&key);
                }
            }
            let snapshot = Snapshot { settings: settings.clone(), services: services.clone() };
            let (whole, warnings) = plan(&snapshot);
            prop_assert_eq!(planner.plan(), &whole);
            prop_assert_eq!(planner.warnings(), warnings);
            prop_assert_eq!(planner.take_changes(), diff(&before, &whole));
            prop_assert_eq!(check(&whole), vec![]);
            before = whole;
        }
    }

    #[test]
    fn a_plan_does_not_differ_from_itself(steps in steps()) {
        let services = steps.into_iter().filter_map(|(key, object)| Some((key, object?))).collect();
        let snapshot = Snapshot { settings: settings(), services };
        prop_assert!(diff(&plan(&snapshot).0, &plan(&snapshot).0).is_empty());
    }

    #[test]
    fn the_order_in_which_services_come_does_not_matter(steps in steps()) {
        let services: BTreeMap<_, _> =
            steps.into_iter().filter_map(|(key, object)| Some((key, object?))).collect();
        let mut backwards = Planner::new(settings());
        for (key, (service, slices)) in services.iter().rev() {
            backwards.put(key, service, slices.iter().map(AsRef::as_ref));
        }
        let (whole, warnings) = plan(&Snapshot { settings: settings(), services });
        prop_assert_eq!(backwards.plan(), &whole);
        prop_assert_eq!(backwards.warnings(), warnings);
    }
}
