//! The plan for one Endpoints object.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service, ServicePort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::repack::{Offer, repack};
use crate::controllers::endpointslice::{
    hostname, is_ipv6_first, port_number, publishes_not_ready,
};
use crate::controllers::pods;
use crate::controllers::selection::is_headless;
use crate::controllers::selector::Labels;
use crate::controllers::well_known::{HEADLESS_LABEL, TRIGGER_TIME_ANNOTATION};
use crate::controllers::write::Write;

const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const MANAGED_BY: &str = "endpoint-controller";
const OVER_CAPACITY_ANNOTATION: &str = "endpoints.kubernetes.io/over-capacity";
const ADDRESSES_MAX: usize = 1000;

/// Plans the one write that makes the object right; `None` when it is.
pub(super) fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    existing: Option<&Endpoints>,
) -> Option<Write<Endpoints>> {
    let offers = pods.iter().filter_map(|pod| offer(service, pod));
    let (subsets, truncated) = truncated(repack(offers));
    let labels = labels(service);
    let over_capacity = truncated.then(|| "truncated".to_owned());
    if let Some(existing) = existing {
        let annotations = existing.metadata.annotations.as_ref();
        let marked = annotations
            .and_then(|a| a.get(OVER_CAPACITY_ANNOTATION))
            .cloned();
        if existing.subsets.as_deref().unwrap_or_default() == subsets.as_slice()
            && existing.metadata.labels.as_ref() == Some(&labels)
            && marked == over_capacity
        {
            return None;
        }
    }
    let trigger = trigger(service, pods, &subsets, existing);
    let mut metadata = match existing {
        Some(existing) => existing.metadata.clone(),
        None => ObjectMeta {
            namespace: service.metadata.namespace.clone(),
            name: service.metadata.name.clone(),
            ..ObjectMeta::default()
        },
    };
    let mut annotations = metadata.annotations.take().unwrap_or_default();
    set(
        &mut annotations,
        TRIGGER_TIME_ANNOTATION,
        trigger.map(|time| time.to_string()),
    );
    set(&mut annotations, OVER_CAPACITY_ANNOTATION, over_capacity);
    metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    metadata.labels = Some(labels);
    let endpoints = Endpoints {
        metadata,
        subsets: Some(subsets).filter(|subsets| !subsets.is_empty()),
    };
    Some(match existing {
        Some(_) => Write::Replace(endpoints),
        None => Write::Create(endpoints),
    })
}

fn set(map: &mut Labels, key: &str, value: Option<String>) {
    match value {
        Some(value) => map.insert(key.to_owned(), value),
        None => map.remove(key),
    };
}

fn labels(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    set(
        &mut labels,
        HEADLESS_LABEL,
        is_headless(service).then(String::new),
    );
    set(&mut labels, MANAGED_BY_LABEL, Some(MANAGED_BY.to_owned()));
    labels
}

fn offer(service: &Service, pod: &Pod) -> Option<Offer> {
    let lenient = publishes_not_ready(service);
    if pods::is_terminal(pod) || (pods::is_terminating(pod) && !lenient) {
        return None;
    }
    let wants_ipv6 = is_ipv6_first(service);
    let in_family = |ip: &&str| {
        ip.parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_ipv6() == wants_ipv6)
    };
    let ip = pods::addresses(pod).into_iter().find(in_family)?;
    let spec = service.spec.as_ref()?;
    let service_ports = spec.ports.as_deref().unwrap_or_default();
    let ports: Vec<EndpointPort> = service_ports
        .iter()
        .filter_map(|port| offered(pod, port))
        .collect();
    // Only a headless Service may offer an address without ports.
    if ports.is_empty() && !(service_ports.is_empty() && is_headless(service)) {
        return None;
    }
    let address = EndpointAddress {
        ip: ip.to_owned(),
        hostname: hostname(pod, service),
        node_name: pods::node_name(pod).map(str::to_owned),
        target_ref: Some(pods::reference(pod)),
    };
    let ready = lenient || pods::is_ready(pod);
    Some(Offer {
        address,
        ready,
        ports,
    })
}

fn offered(pod: &Pod, port: &ServicePort) -> Option<EndpointPort> {
    Some(EndpointPort {
        app_protocol: port.app_protocol.clone(),
        name: port.name.clone().filter(|name| !name.is_empty()),
        port: port_number(pod, port)?,
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
    })
}

/// Keeps what the object may hold: ready addresses first, and of each subset its part.
fn truncated(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let count = |addresses: &Option<Vec<EndpointAddress>>| addresses.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|subset| count(&subset.addresses)).sum();
    let not_ready: usize = subsets
        .iter()
        .map(|subset| count(&subset.not_ready_addresses))
        .sum();
    if ready + not_ready <= ADDRESSES_MAX {
        return (subsets, false);
    }
    if ready > ADDRESSES_MAX {
        shorten(&mut subsets, |s| &mut s.addresses, ready, ADDRESSES_MAX);
        subsets
            .iter_mut()
            .for_each(|subset| subset.not_ready_addresses = None);
    } else {
        let room = ADDRESSES_MAX - ready;
        shorten(
            &mut subsets,
            |s| &mut s.not_ready_addresses,
            not_ready,
            room,
        );
    }
    subsets.retain(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some());
    (subsets, true)
}

/// Leaves `room` of `total` addresses, rounding every subset's part up, so that the last may get less.
fn shorten(
    subsets: &mut [EndpointSubset],
    list: impl Fn(&mut EndpointSubset) -> &mut Option<Vec<EndpointAddress>>,
    total: usize,
    room: usize,
) {
    let mut left = room;
    for subset in subsets {
        let addresses = list(subset);
        let Some(all) = addresses else { continue };
        all.truncate((all.len() * room).div_ceil(total).min(left));
        left -= all.len();
        if all.is_empty() {
            *addresses = None;
        }
    }
}

/// The earliest moment that made an address new or different; for a new object, when its Service was made.
fn trigger(
    service: &Service,
    pods: &[Arc<Pod>],
    subsets: &[EndpointSubset],
    existing: Option<&Endpoints>,
) -> Option<Timestamp> {
    let Some(existing) = existing else {
        let created = service.metadata.creation_timestamp.as_ref();
        return created.map(|time| time.0);
    };
    let states = |subsets: &[EndpointSubset]| -> BTreeMap<String, bool> {
        let uid = |a: &EndpointAddress| a.target_ref.as_ref().and_then(|target| target.uid.clone());
        let states = subsets.iter().flat_map(|subset| {
            let ready = subset
                .addresses
                .iter()
                .flatten()
                .filter_map(move |a| Some((uid(a)?, true)));
            let not_ready = subset.not_ready_addresses.iter().flatten();
            ready.chain(not_ready.filter_map(move |a| Some((uid(a)?, false))))
        });
        states.collect()
    };
    let before = states(existing.subsets.as_deref().unwrap_or_default());
    let after = states(subsets);
    let changed = pods.iter().filter(|pod| {
        let uid = pod.metadata.uid.as_ref();
        let (before, after) = (
            uid.and_then(|uid| before.get(uid)),
            uid.and_then(|uid| after.get(uid)),
        );
        after.is_some() && before != after
    });
    changed.filter_map(|pod| pods::ready_since(pod)).min()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(extra: Value) -> Service {
        let mut spec = json!({"clusterIP": "10.0.128.9", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}]});
        for (key, value) in extra.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        let service = json!({"metadata": {"name": "web", "namespace": "ns", "labels": {"l": "1"}}, "spec": spec});
        serde_json::from_value(service).expect("a Service")
    }

    fn pod(number: usize, ready: &str, leaving: Option<&str>) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": format!("p{number}"), "namespace": "ns", "uid": format!("u{number}"), "deletionTimestamp": leaving},
            "spec": {"nodeName": "a", "containers": []},
            "status": {"podIP": format!("10.42.{}.{}", number / 250, number % 250), "conditions": [{"type": "Ready", "status": ready}]},
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn planned(service: &Service, pods: &[Arc<Pod>]) -> Endpoints {
        match plan(service, pods, None) {
            Some(Write::Create(endpoints)) => {
                assert_eq!(
                    plan(service, pods, Some(&endpoints)),
                    None,
                    "planning again must change nothing"
                );
                endpoints
            }
            other => panic!("expected a create, not {other:?}"),
        }
    }

    fn check(service: &Service, pods: &[Arc<Pod>], expected: Value) {
        let ips = |addresses: &Option<Vec<EndpointAddress>>| -> Vec<String> {
            addresses.iter().flatten().map(|a| a.ip.clone()).collect()
        };
        let endpoints = planned(service, pods);
        let seen = endpoints.subsets.iter().flatten().map(|subset| {
            let ports: Vec<i32> = subset.ports.iter().flatten().map(|p| p.port).collect();
            json!({"ready": ips(&subset.addresses), "not": ips(&subset.not_ready_addresses), "ports": ports})
        });
        assert_eq!(Value::from(seen.collect::<Vec<_>>()), expected);
    }

    #[test]
    fn terminating_pods_leave_at_once_unless_not_ready_is_published() {
        let leaving = Some("2026-01-01T00:00:00Z");
        let pods = [
            pod(1, "True", None),
            pod(2, "False", None),
            pod(3, "True", leaving),
        ];
        let strict = json!([{"ready": ["10.42.0.1"], "not": ["10.42.0.2"], "ports": [8080, 53]}]);
        check(&service(json!({})), &pods, strict);
        let lenient = json!([{"ready": ["10.42.0.1", "10.42.0.2", "10.42.0.3"], "not": [], "ports": [8080, 53]}]);
        check(
            &service(json!({"publishNotReadyAddresses": true})),
            &pods,
            lenient,
        );
    }

    #[test]
    fn only_a_headless_service_offers_addresses_without_ports() {
        let pods = [pod(1, "True", None)];
        let bare = json!({"clusterIP": "None", "ports": []});
        check(
            &service(bare),
            &pods,
            json!([{"ready": ["10.42.0.1"], "not": [], "ports": []}]),
        );
        let unresolved = json!({"ports": [{"port": 80, "targetPort": "absent"}]});
        check(&service(unresolved), &pods, json!([]));
    }

    #[test]
    fn a_thousand_addresses_fit_and_ready_ones_come_first() {
        let pods: Vec<_> = (1..=1200)
            .map(|n| pod(n, if n <= 900 { "True" } else { "False" }, None))
            .collect();
        let endpoints = planned(&service(json!({})), &pods);
        let subset = &endpoints.subsets.as_ref().expect("subsets")[0];
        assert_eq!(subset.addresses.as_ref().map(Vec::len), Some(900));
        assert_eq!(subset.not_ready_addresses.as_ref().map(Vec::len), Some(100));
        let annotations = endpoints.metadata.annotations.expect("annotations");
        assert_eq!(
            annotations
                .get(OVER_CAPACITY_ANNOTATION)
                .map(String::as_str),
            Some("truncated")
        );
    }

    #[test]
    fn subsets_are_shortened_in_proportion() {
        let check = |counts: &[(usize, usize)], expected: &[(usize, usize)]| {
            let list = |count| {
                let address = EndpointAddress::default();
                Some(vec![address; count]).filter(|_| count > 0)
            };
            let subsets = counts.iter().map(|&(ready, not_ready)| EndpointSubset {
                addresses: list(ready),
                not_ready_addresses: list(not_ready),
                ports: None,
            });
            let count = |list: &Option<Vec<_>>| list.as_ref().map_or(0, Vec::len);
            let (subsets, cut) = truncated(subsets.collect());
            let seen: Vec<_> = subsets
                .iter()
                .map(|s| (count(&s.addresses), count(&s.not_ready_addresses)))
                .collect();
            assert_eq!((seen.as_slice(), cut), (expected, counts != expected));
        };
        check(&[(600, 100), (300, 0)], &[(600, 100), (300, 0)]);
        check(&[(600, 9), (600, 0)], &[(500, 0), (500, 0)]);
        check(&[(1, 0), (1500, 0)], &[(1, 0), (999, 0)]);
        check(&[(1500, 0), (1, 5)], &[(1000, 0)]);
        check(&[(400, 300), (400, 300)], &[(400, 100), (400, 100)]);
    }

    #[test]
    fn labels_are_the_services_own_and_two_more() {
        let labels = planned(&service(json!({"clusterIP": "None"})), &[])
            .metadata
            .labels
            .expect("labels");
        let keys: Vec<&str> = labels.keys().map(String::as_str).collect();
        assert_eq!(keys, [MANAGED_BY_LABEL, "l", HEADLESS_LABEL]);
    }
}
