//! What the plan says, as tables of pods in and slices out.

use serde_json::{Value, json};

use super::*;
use crate::controllers::event::Notice;
use crate::controllers::store::Key;

fn service(spec: Value) -> Service {
    let mut full = json!({"type": "ClusterIP", "clusterIP": "10.0.128.7", "ipFamilies": ["IPv4"],
        "selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]});
    for (key, value) in spec.as_object().into_iter().flatten() {
        full[key] = value.clone();
    }
    let service = json!({"metadata": {"name": "web", "namespace": "ns", "uid": "svc",
        "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": full});
    serde_json::from_value(service).expect("a Service")
}

struct P {
    number: u8,
    ready: &'static str,
    phase: &'static str,
    extra: Value,
}

impl Default for P {
    fn default() -> P {
        P {
            number: 1,
            ready: "True",
            phase: "Running",
            extra: json!({}),
        }
    }
}

fn pod(p: &P) -> Arc<Pod> {
    let (number, name) = (p.number, format!("p{:03}", p.number));
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "a", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8000 + i32::from(number % 2)}]}]},
        "status": {"phase": p.phase, "podIPs": [{"ip": format!("10.42.0.{number}")}, {"ip": format!("fd00::{number:x}")}],
            "conditions": [{"type": "Ready", "status": p.ready, "lastTransitionTime": "2026-02-02T00:00:00Z"}]},
    });
    for (key, value) in p.extra.as_object().into_iter().flatten() {
        let pointer = format!("/{key}");
        match pod.pointer_mut(&pointer) {
            Some(place) => *place = value.clone(),
            None => {
                let (parent, field) = pointer.rsplit_once('/').expect("a path");
                pod.pointer_mut(parent).expect("a parent")[field] = value.clone();
            }
        }
    }
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn node(name: &str) -> Option<Arc<Node>> {
    let node = json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "z1"}}});
    (name == "a").then(|| Arc::new(serde_json::from_value(node).expect("a Node")))
}

fn run(
    service: &Service,
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
) -> Vec<Write<EndpointSlice>> {
    run_in(None, service, pods, slices).writes
}

fn run_in(
    zones: Option<Zones>,
    service: &Service,
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
) -> Plan {
    plan(&Snapshot {
        service,
        pods,
        node: &node,
        slices,
        zones,
    })
}

/// Carries out a plan on slices, naming new ones in order.
fn settled(
    mut slices: Vec<Arc<EndpointSlice>>,
    writes: Vec<Write<EndpointSlice>>,
) -> Vec<Arc<EndpointSlice>> {
    for write in writes {
        match write {
            Write::Create(mut slice) => {
                slice.metadata.name = Some(format!("web-{}", slices.len()));
                slice.metadata.uid = slice.metadata.name.clone();
                slices.push(Arc::new(slice));
            }
            Write::Replace(slice) => {
                let place = slices
                    .iter_mut()
                    .find(|s| s.metadata.name == slice.metadata.name);
                *place.expect("a slice to replace") = Arc::new(slice);
            }
            Write::Delete { key, .. } => slices.retain(|s| Key::of(s.as_ref()) != key),
            other => panic!("unexpected {other:?}"),
        }
    }
    slices
}

fn check(service: &Service, pods: &[Arc<Pod>], expected: Value) -> Vec<Arc<EndpointSlice>> {
    let slices = settled(Vec::new(), run(service, pods, &[]));
    assert_eq!(
        run(service, pods, &slices),
        [],
        "planning again must change nothing"
    );
    let seen: Vec<Value> = slices
        .iter()
        .map(|slice| {
            let endpoints = slice.endpoints.as_deref().unwrap_or_default();
            let endpoints: Vec<String> = endpoints
                .iter()
                .map(|e| {
                    let c = e.conditions.as_ref().expect("conditions");
                    let flag = |value: Option<bool>, letter: &str| {
                        if value == Some(true) {
                            letter.to_owned()
                        } else {
                            "-".to_owned()
                        }
                    };
                    format!(
                        "{} {}{}{}",
                        e.addresses.join(","),
                        flag(c.ready, "r"),
                        flag(c.serving, "s"),
                        flag(c.terminating, "t")
                    )
                })
                .collect();
            let ports = slice.ports.as_deref().unwrap_or_default();
            let ports: Vec<i32> = ports.iter().filter_map(|p| p.port).collect();
            json!({"type": slice.address_type, "endpoints": endpoints, "ports": ports})
        })
        .collect();
    assert_eq!(Value::from(seen), expected);
    slices
}

#[test]
fn conditions_follow_readiness_and_deletion() {
    let leaving = json!({"metadata/deletionTimestamp": "2026-01-01T00:00:00Z"});
    let pods = [
        pod(&P::default()),
        pod(&P {
            number: 2,
            ready: "False",
            ..P::default()
        }),
        pod(&P {
            number: 3,
            extra: leaving.clone(),
            ..P::default()
        }),
        pod(&P {
            number: 4,
            ready: "False",
            extra: leaving,
            ..P::default()
        }),
        pod(&P {
            number: 5,
            phase: "Succeeded",
            ..P::default()
        }),
        pod(&P {
            number: 6,
            phase: "Failed",
            ..P::default()
        }),
    ];
    let strict = json!([{"type": "IPv4", "ports": [8080],
        "endpoints": ["10.42.0.1 rs-", "10.42.0.2 ---", "10.42.0.3 -st", "10.42.0.4 --t"]}]);
    check(&service(json!({})), &pods, strict);
    let lenient = json!([{"type": "IPv4", "ports": [8080],
        "endpoints": ["10.42.0.1 rs-", "10.42.0.2 r--", "10.42.0.3 rst", "10.42.0.4 r-t"]}]);
    check(
        &service(json!({"publishNotReadyAddresses": true})),
        &pods,
        lenient,
    );
}

#[test]
fn a_service_without_endpoints_has_one_placeholder_a_family() {
    let empty = |family: &str| json!({"type": family, "endpoints": [], "ports": []});
    check(&service(json!({})), &[], json!([empty("IPv4")]));
    let dual = service(json!({"ipFamilies": ["IPv6", "IPv4"]}));
    check(&dual, &[], json!([empty("IPv6"), empty("IPv4")]));
}

#[test]
fn the_placeholder_becomes_the_first_slice() {
    let service = service(json!({}));
    let placeholder = settled(Vec::new(), run(&service, &[], &[]));
    let writes = run(&service, &[pod(&P::default())], &placeholder);
    assert!(
        matches!(writes.as_slice(), [Write::Replace(slice)] if slice.metadata.name.as_deref() == Some("web-0"))
    );
}

#[test]
fn named_target_ports_resolve_for_each_pod() {
    let named = service(json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": "http"}]}));
    let pods = [
        pod(&P::default()),
        pod(&P {
            number: 2,
            ..P::default()
        }),
        pod(&P {
            number: 4,
            extra: json!({"spec/containers": [{"name": "c"}]}),
            ..P::default()
        }),
    ];
    let expected = json!([
        {"type": "IPv4", "endpoints": ["10.42.0.4 rs-"], "ports": []},
        {"type": "IPv4", "endpoints": ["10.42.0.2 rs-"], "ports": [8000]},
        {"type": "IPv4", "endpoints": ["10.42.0.1 rs-"], "ports": [8001]},
    ]);
    check(&named, &pods, expected);
}

#[test]
fn pods_on_unknown_nodes_wait_unless_not_ready_addresses_are_published() {
    let pods = [pod(&P {
        extra: json!({"spec/nodeName": "gone"}),
        ..P::default()
    })];
    check(
        &service(json!({})),
        &pods,
        json!([{"type": "IPv4", "endpoints": [], "ports": []}]),
    );
    let published = json!([{"type": "IPv4", "endpoints": ["10.42.0.1 rs-"], "ports": [8080]}]);
    check(
        &service(json!({"publishNotReadyAddresses": true})),
        &pods,
        published,
    );
}

#[test]
fn slices_hold_a_hundred_endpoints_and_fill_gaps_before_growing() {
    let service = service(json!({}));
    let pods: Vec<_> = (1..=204)
        .map(|number| {
            pod(&P {
                number,
                ..P::default()
            })
        })
        .collect();
    let sizes = |slices: &[Arc<EndpointSlice>]| -> Vec<usize> {
        slices
            .iter()
            .map(|s| s.endpoints.as_ref().map_or(0, Vec::len))
            .collect()
    };
    let slices = settled(Vec::new(), run(&service, &pods[..104], &[]));
    assert_eq!(sizes(&slices), [100, 4]);
    let slices = settled(slices.clone(), run(&service, &pods[..110], &slices));
    assert_eq!(sizes(&slices), [100, 10]);
    let without_first = [&pods[1..110], &pods[110..113]].concat();
    let slices = settled(slices.clone(), run(&service, &without_first, &slices));
    assert_eq!(
        sizes(&slices),
        [100, 12],
        "the slice written anyway is topped up, then one with room"
    );
    let slices = settled(slices.clone(), run(&service, &pods, &slices));
    assert_eq!(sizes(&slices).iter().sum::<usize>(), 204);
    assert!(sizes(&slices).iter().all(|size| *size <= 100));
}

#[test]
fn ready_endpoints_are_hinted_to_their_zone_and_node() {
    let pods = [
        pod(&P::default()),
        pod(&P {
            number: 2,
            ready: "False",
            ..P::default()
        }),
    ];
    for (distribution, expected) in [
        ("PreferClose", json!([{"forZones": [{"name": "z1"}]}, null])),
        (
            "PreferSameZone",
            json!([{"forZones": [{"name": "z1"}]}, null]),
        ),
        (
            "PreferSameNode",
            json!([{"forNodes": [{"name": "a"}], "forZones": [{"name": "z1"}]}, null]),
        ),
    ] {
        let service = service(json!({"trafficDistribution": distribution}));
        let slices = settled(Vec::new(), run(&service, &pods, &[]));
        let hints: Vec<_> = slices[0]
            .endpoints
            .iter()
            .flatten()
            .map(|e| json!(e.hints))
            .collect();
        assert_eq!(Value::from(hints), expected, "{distribution}");
    }
}

#[test]
fn losing_the_hint_rewrites_the_slice() {
    let pods = [pod(&P::default())];
    let slices = settled(
        Vec::new(),
        run(
            &service(json!({"trafficDistribution": "PreferClose"})),
            &pods,
            &[],
        ),
    );
    let writes = run(&service(json!({})), &pods, &slices);
    assert!(
        matches!(writes.as_slice(), [Write::Replace(slice)] if slice.endpoints.iter().flatten().all(|e| e.hints.is_none()))
    );
}

#[test]
fn hostname_needs_a_matching_subdomain() {
    for (subdomain, expected) in [("web", Some("h")), ("other", None)] {
        let extra = json!({"spec/hostname": "h", "spec/subdomain": subdomain});
        let pods = [pod(&P {
            extra,
            ..P::default()
        })];
        let slices = settled(Vec::new(), run(&service(json!({})), &pods, &[]));
        let endpoint = &slices[0].endpoints.as_ref().expect("endpoints")[0];
        assert_eq!(endpoint.hostname.as_deref(), expected);
        assert_eq!(endpoint.zone.as_deref(), Some("z1"));
    }
}

fn newly_unready() -> Arc<Pod> {
    let ready =
        json!([{"type": "Ready", "status": "False", "lastTransitionTime": "2026-03-03T00:00:00Z"}]);
    let extra = json!({"status/conditions": ready});
    pod(&P {
        number: 2,
        extra,
        ..P::default()
    })
}

#[test]
fn the_trigger_time_is_when_the_changed_pods_changed() {
    let time = |slice: &EndpointSlice| {
        slice
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(TRIGGER_TIME_ANNOTATION).cloned())
    };
    let service = service(json!({}));
    let slices = settled(Vec::new(), run(&service, &[], &[]));
    assert_eq!(time(&slices[0]).as_deref(), Some("2026-01-01T00:00:00Z"));
    let pods = [pod(&P::default())];
    let slices = settled(slices.clone(), run(&service, &pods, &slices));
    assert_eq!(time(&slices[0]).as_deref(), Some("2026-02-02T00:00:00Z"));
    let slices = settled(
        slices.clone(),
        run(&service, &[pods[0].clone(), newly_unready()], &slices),
    );
    assert_eq!(time(&slices[0]).as_deref(), Some("2026-03-03T00:00:00Z"));
    // What changes nobody's readiness has no time of its own.
    let leaving = json!({"metadata/deletionTimestamp": "2026-04-04T00:00:00Z"});
    let leaving = pod(&P {
        extra: leaving,
        ..P::default()
    });
    let moved = service_on_port(8081);
    for (service, pods) in [
        (&service, vec![leaving, newly_unready()]),
        (&service, pods.to_vec()),
        (&moved, vec![pods[0].clone(), newly_unready()]),
    ] {
        let after = settled(slices.clone(), run(service, &pods, &slices));
        assert_ne!(after, slices);
        assert_eq!(time(&after[0]), None);
    }
}

fn service_on_port(target: i32) -> Service {
    service(json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": target}]}))
}

#[test]
fn a_leaving_service_keeps_its_endpoints_unless_it_waits_for_its_slices() {
    let pods = [pod(&P::default())];
    for (finalizer, expected) in [("example.com/hold", 1), ("foregroundDeletion", 0)] {
        let mut service = service(json!({}));
        service.metadata.finalizers = Some(vec![finalizer.to_owned()]);
        assert_eq!(run(&service, &pods, &[]).len(), expected, "{finalizer}");
    }
}

fn proportional() -> Service {
    let mut service = service(json!({"trafficDistribution": "PreferClose"}));
    let annotations = [(
        "service.kubernetes.io/topology-mode".to_owned(),
        "Auto".to_owned(),
    )];
    service.metadata.annotations = Some(annotations.into());
    service
}

#[test]
fn hints_in_proportion_are_told_once_and_settle() {
    let zones = Zones::from([("z1".to_owned(), 0.5), ("z2".to_owned(), 0.5)]);
    let pods: Vec<_> = (1..=2)
        .map(|number| {
            pod(&P {
                number,
                ..P::default()
            })
        })
        .collect();
    let service = proportional();
    let first = run_in(Some(zones.clone()), &service, &pods, &[]);
    let enabled = "Topology Aware Hints has been enabled, addressType: IPv4";
    let enabled = Notice::normal("TopologyAwareHintsEnabled", enabled);
    assert_eq!(first.notices, [enabled]);
    let slices = settled(Vec::new(), first.writes);
    let endpoints = slices[0].endpoints.iter().flatten();
    let hints: Vec<_> = endpoints.map(|e| json!(e.hints)).collect();
    let to = |zone: &str| json!({"forZones": [{"name": zone}]});
    assert_eq!(hints, [to("z2"), to("z1")]);
    let again = run_in(Some(zones), &service, &pods, &slices);
    assert_eq!(again, Plan::default());
    let without = run_in(None, &service, &pods, &slices);
    let disabled = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes, addressType: IPv4";
    let disabled = Notice::warning("TopologyAwareHintsDisabled", disabled);
    assert_eq!(without.notices, [disabled]);
    let slices = settled(slices, without.writes);
    let mut endpoints = slices[0].endpoints.iter().flatten();
    assert!(endpoints.all(|e| e.hints.is_none()));
}

#[test]
fn an_annotation_overrules_the_traffic_distribution() {
    for (annotation, value, hinted) in [
        ("service.kubernetes.io/topology-mode", "Auto", false),
        ("service.kubernetes.io/topology-aware-hints", "auto", false),
        ("service.kubernetes.io/topology-mode", "Disabled", true),
    ] {
        let mut service = service(json!({"trafficDistribution": "PreferClose"}));
        let annotations = [(annotation.to_owned(), value.to_owned())];
        service.metadata.annotations = Some(annotations.into());
        let slices = settled(Vec::new(), run(&service, &[pod(&P::default())], &[]));
        let endpoints = slices[0].endpoints.as_deref().expect("endpoints");
        assert_eq!(endpoints[0].hints.is_some(), hinted, "{annotation} {value}");
    }
}
