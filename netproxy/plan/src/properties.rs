//! What holds of every plan, over generated Services and slices that collide on purpose.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::json;

use crate::{Plan, Planner, ServiceKey, Settings, Snapshot, check, diff, plan};

fn settings(node_ip: &str) -> Settings {
    Settings {
        node_name: "node-1".to_owned(),
        zone: Some("east".to_owned()),
        node_ips: vec![node_ip.parse().expect("an address")],
        cluster_cidrs: ["10.42.0.0/16".parse().expect("a CIDR")].into(),
        service_cidrs: ["10.0.128.0/17".parse().expect("a CIDR")].into(),
        ..Settings::default()
    }
}

prop_compose! {
    fn a_service()(
        ip in 1..4_u8,
        ports in vec((select(vec!["a", "b"]), 1..4_u16, option::of(30_000..30_004_u16), select(vec!["TCP", "UDP"])), 1..3),
        local in (any::<bool>(), any::<bool>()),
        affinity in any::<bool>(),
        external in option::of(1..4_u8),
        balanced in option::of(1..4_u8),
        ranges in option::of(select(vec!["192.168.0.0/16", "0.0.0.0/0", "nonsense"])),
    ) -> Arc<Service> {
        let policy = |local| if local { "Local" } else { "Cluster" };
        let ports: Vec<_> = ports.iter().map(|(name, port, node_port, protocol)| {
            json!({ "name": name, "port": port, "nodePort": node_port, "protocol": protocol })
        }).collect();
        let ingress: Vec<_> =
            balanced.iter().map(|last| json!({ "ip": format!("172.30.0.{last}") })).collect();
        let external: Vec<_> = external.iter().map(|last| format!("172.30.0.{last}")).collect();
        let ranges: Vec<_> = ranges.into_iter().collect();
        Arc::new(serde_json::from_value(json!({
            "spec": {
                "clusterIP": format!("10.0.128.{ip}"), "ports": ports, "externalIPs": external,
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
        ports in vec((select(vec!["a", "b"]), 0..3_u16, select(vec!["TCP", "UDP"])), 0..3),
        endpoints in vec((
            1..6_u8, select(vec!["node-1", "node-2"]),
            option::of(any::<bool>()), any::<bool>(), any::<bool>(),
            option::of(select(vec!["east", "west"])),
        ), 0..5),
    ) -> Arc<EndpointSlice> {
        let ports: Vec<_> = ports.iter().map(|(name, port, protocol)| {
            json!({ "name": name, "port": port, "protocol": protocol })
        }).collect();
        let endpoints: Vec<_> = endpoints.iter().map(|(last, node, ready, serving, leaving, zone)| {
            let zones: Vec<_> = zone.iter().map(|zone| json!({ "name": zone })).collect();
            json!({
                "addresses": [format!("10.42.0.{last}")], "nodeName": node,
                "conditions": { "ready": ready, "serving": serving, "terminating": leaving },
                "hints": { "forZones": zones },
            })
        }).collect();
        let slice = json!({ "addressType": "IPv4", "ports": ports, "endpoints": endpoints });
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
        let settings = settings("192.168.7.1");
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
        let snapshot = Snapshot { settings: settings("192.168.7.1"), services };
        prop_assert!(diff(&plan(&snapshot).0, &plan(&snapshot).0).is_empty());
    }
}
