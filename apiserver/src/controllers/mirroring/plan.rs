//! The plan for one Endpoints object: the slices that say the same.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    self as core, EndpointAddress, EndpointSubset, Endpoints, Service,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knarr_api::names::address::{Family, parse_sloppy};

use super::MANAGED_BY;
use crate::controllers::claim::controller_reference;
use crate::controllers::endpoints::repack::{Offer, repack};
use crate::controllers::endpointslice::{PortMap, port_map};
use crate::controllers::event::Notice;
use crate::controllers::selector::Labels;
use crate::controllers::well_known::{
    MANAGED_BY_LABEL, SERVICE_NAME_LABEL, TRIGGER_TIME_ANNOTATION,
};
use crate::controllers::write::Write;

const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
const ADDRESSES_MAX: usize = 1000;

pub(super) struct Plan {
    pub(super) writes: Vec<Write<EndpointSlice>>,
    pub(super) notices: Vec<Notice>,
}

/// Says whether an Endpoints object asks to be mirrored.
pub(super) fn is_mirrored(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    let annotations = endpoints.metadata.annotations.as_ref();
    let skipped = labels
        .and_then(|labels| labels.get(SKIP_LABEL))
        .is_some_and(|value| value == "true");
    !skipped && annotations.is_none_or(|annotations| !annotations.contains_key(LEADER_ANNOTATION))
}

pub(super) fn has_selector(service: &Service) -> bool {
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| !selector.is_empty())
}

/// Plans the writes; `slices` are those mirrored earlier.
pub(super) fn plan(
    endpoints: Option<&Endpoints>,
    service: Option<&Service>,
    slices: &[Arc<EndpointSlice>],
) -> Plan {
    let source = endpoints.filter(|endpoints| is_mirrored(endpoints));
    let (Some(source), Some(_)) = (source, service.filter(|service| !has_selector(service))) else {
        return Plan {
            writes: slices
                .iter()
                .map(|slice| Write::delete(slice.as_ref()))
                .collect(),
            notices: Vec::new(),
        };
    };
    let mut notices = Vec::new();
    let wanted = wanted(source, &mut notices);
    let mut writes = Vec::new();
    let mut spare: Vec<&Arc<EndpointSlice>> = slices.iter().collect();
    for ((family, _), (ports, found)) in wanted {
        let best = spare.iter().position(|slice| {
            slice.address_type == family && slice.ports.as_deref().unwrap_or_default() == ports
        });
        let any = || spare.iter().position(|slice| slice.address_type == family);
        let reused = best.or_else(any).map(|index| spare.remove(index));
        let mut slice = slice(source, reused.map(Arc::as_ref), family, ports, found);
        match reused {
            Some(reused) if **reused == slice => {}
            Some(_) => {
                // As in Kubernetes, only a slice that takes over other ports still looks newly made.
                slice.metadata.generate_name = best.is_none().then(|| generate_name(source));
                writes.push(Write::Replace(slice));
            }
            None if source.metadata.deletion_timestamp.is_some() => {}
            None => writes.push(Write::Create(slice)),
        }
    }
    writes.extend(spare.into_iter().map(|slice| Write::delete(slice.as_ref())));
    Plan { writes, notices }
}

/// What each slice is to hold, by family and ports.
type Wanted = BTreeMap<(&'static str, PortMap), (Vec<EndpointPort>, Vec<Endpoint>)>;

fn wanted(source: &Endpoints, notices: &mut Vec<Notice>) -> Wanted {
    let mut wanted = Wanted::new();
    let (mut invalid, mut skipped) = (0, 0);
    for subset in repack(source.subsets.iter().flatten().flat_map(offers)) {
        let ports: Vec<EndpointPort> = subset.ports.iter().flatten().map(endpoint_port).collect();
        let addresses = addresses(&subset);
        let count = addresses.len();
        let valid = addresses
            .into_iter()
            .filter_map(|(address, ready)| Some((parse_sloppy(&address.ip)?, address, ready)));
        let valid: Vec<_> = valid.collect();
        invalid += count - valid.len();
        skipped += valid.len().saturating_sub(ADDRESSES_MAX);
        for (ip, address, ready) in valid.into_iter().take(ADDRESSES_MAX) {
            let entry = wanted
                .entry((Family::of(ip).wire(), port_map(&ports)))
                .or_insert_with(|| (ports.clone(), Vec::new()));
            entry.1.push(endpoint(ip, address, ready));
        }
    }
    if invalid > 0 {
        let message =
            format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
        notices.push(Notice::warning("InvalidIPAddress", message));
    }
    if skipped > 0 {
        let message = format!(
            "A max of {ADDRESSES_MAX} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
            skipped + invalid
        );
        notices.push(Notice::warning("TooManyAddressesToMirror", message));
    }
    wanted
}

/// The addresses of a subset, and whether each is ready.
fn addresses(subset: &EndpointSubset) -> Vec<(&EndpointAddress, bool)> {
    let ready = subset.addresses.iter().flatten();
    let not_ready = subset.not_ready_addresses.iter().flatten();
    let not_ready = not_ready.map(|address| (address, false));
    ready
        .map(|address| (address, true))
        .chain(not_ready)
        .collect()
}

fn offers(subset: &EndpointSubset) -> Vec<Offer> {
    let offer = |(address, ready): (&EndpointAddress, bool)| Offer {
        address: address.clone(),
        ready,
        ports: subset.ports.clone().unwrap_or_default(),
    };
    addresses(subset).into_iter().map(offer).collect()
}

fn endpoint_port(port: &core::EndpointPort) -> EndpointPort {
    EndpointPort {
        app_protocol: port.app_protocol.clone(),
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
    }
}

fn endpoint(ip: IpAddr, address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        // Slices take only the canonical form, Endpoints any.
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address
            .hostname
            .clone()
            .filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn generate_name(source: &Endpoints) -> String {
    format!("{}-", source.metadata.name.as_deref().unwrap_or_default())
}

fn slice(
    source: &Endpoints,
    existing: Option<&EndpointSlice>,
    family: &str,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let name = source.metadata.name.clone().unwrap_or_default();
    let mut metadata = match existing {
        Some(slice) => slice.metadata.clone(),
        None => ObjectMeta {
            namespace: source.metadata.namespace.clone(),
            generate_name: Some(generate_name(source)),
            ..ObjectMeta::default()
        },
    };
    metadata.owner_references = Some(vec![controller_reference(source)]);
    let mut labels: Labels = source.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME_LABEL.to_owned(), name);
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    metadata.labels = Some(labels);
    let own = [LAST_APPLIED_ANNOTATION, TRIGGER_TIME_ANNOTATION];
    let annotations = source.metadata.annotations.iter().flatten();
    let copied: Labels = annotations
        .filter(|(key, _)| !own.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    metadata.annotations = Some(copied).filter(|annotations| !annotations.is_empty());
    EndpointSlice {
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        metadata,
        ports: Some(ports).filter(|ports| !ports.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoints(metadata: Value, subsets: Value) -> Endpoints {
        let mut full = json!({"name": "db", "namespace": "ns", "uid": "e"});
        for (key, value) in metadata.as_object().into_iter().flatten() {
            full[key] = value.clone();
        }
        serde_json::from_value(json!({"metadata": full, "subsets": subsets})).expect("Endpoints")
    }

    fn service(selector: Value) -> Service {
        let service =
            json!({"metadata": {"name": "db", "namespace": "ns"}, "spec": {"selector": selector}});
        serde_json::from_value(service).expect("a Service")
    }

    fn check(
        endpoints: &Endpoints,
        service: Option<&Service>,
        expected: Value,
    ) -> Vec<Arc<EndpointSlice>> {
        let Plan { writes, .. } = plan(Some(endpoints), service, &[]);
        let slices: Vec<Arc<EndpointSlice>> = writes
            .into_iter()
            .map(|write| match write {
                Write::Create(slice) => Arc::new(slice),
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        assert!(
            plan(Some(endpoints), service, &slices).writes.is_empty(),
            "planning again must change nothing"
        );
        let seen: Vec<Value> = slices
            .iter()
            .map(|slice| {
                let endpoints = slice.endpoints.iter().flatten().map(|endpoint| {
                    let ready = endpoint.conditions.as_ref().and_then(|c| c.ready);
                    format!(
                        "{} {}",
                        endpoint.addresses.join(","),
                        ready.unwrap_or_default()
                    )
                });
                json!([
                    slice.address_type,
                    endpoints.collect::<Vec<_>>(),
                    slice
                        .ports
                        .iter()
                        .flatten()
                        .filter_map(|p| p.port)
                        .collect::<Vec<_>>()
                ])
            })
            .collect();
        assert_eq!(Value::from(seen), expected);
        slices
    }

    #[test]
    fn addresses_are_split_by_family_and_readiness_kept() {
        let subsets = json!([{"addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}], "notReadyAddresses": [{"ip": "192.0.2.2"}, {"ip": "x"}],
            "ports": [{"name": "pg", "port": 5432}]}]);
        let expected = json!([
            ["IPv4", ["192.0.2.1 true", "192.0.2.2 false"], [5432]],
            ["IPv6", ["2001:db8::1 true"], [5432]]
        ]);
        check(
            &endpoints(json!({}), subsets),
            Some(&service(json!(null))),
            expected,
        );
    }

    #[test]
    fn selectors_missing_services_and_the_skip_label_switch_it_off() {
        let subsets = json!([{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 1}]}]);
        let plain = endpoints(json!({}), subsets.clone());
        check(&plain, Some(&service(json!({"app": "x"}))), json!([]));
        check(&plain, None, json!([]));
        let skipped = endpoints(json!({"labels": {SKIP_LABEL: "true"}}), subsets);
        check(&skipped, Some(&service(json!(null))), json!([]));
        let slices = check(
            &plain,
            Some(&service(json!(null))),
            json!([["IPv4", ["192.0.2.1 true"], [1]]]),
        );
        let gone = plan(None, Some(&service(json!(null))), &slices);
        assert!(matches!(gone.writes.as_slice(), [Write::Delete { .. }]));
    }

    #[test]
    fn subsets_of_the_same_addresses_make_one_slice() {
        let on = |name, port| json!({"addresses": [{"ip": "192.0.2.1"}], "ports": [{"name": name, "port": port}]});
        check(
            &endpoints(json!({}), json!([on("a", 1), on("b", 2)])),
            Some(&service(json!(null))),
            json!([["IPv4", ["192.0.2.1 true"], [1, 2]]]),
        );
    }

    #[test]
    fn addresses_are_mirrored_in_canonical_form() {
        let subsets = json!([{"addresses": [{"ip": "2001:DB8:0::1"}], "ports": [{"port": 1}]}]);
        check(
            &endpoints(json!({}), subsets),
            Some(&service(json!(null))),
            json!([["IPv6", ["2001:db8::1 true"], [1]]]),
        );
    }

    #[test]
    fn what_was_skipped_is_told_once_a_kind() {
        let good = (0..1001).map(|n| json!({"ip": format!("10.0.{}.{}", n / 250, n % 250)}));
        let addresses: Vec<Value> = good
            .chain([json!({"ip": "x"}), json!({"ip": "y"})])
            .collect();
        let source = endpoints(json!({}), json!([{"addresses": addresses}]));
        let Plan { notices, writes } = plan(Some(&source), Some(&service(json!(null))), &[]);
        let texts: Vec<&str> = notices.iter().map(|n| n.message.as_str()).collect();
        let expected = [
            "Skipped 2 invalid IP addresses when mirroring to EndpointSlices",
            "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 3 addresses were skipped",
        ];
        assert_eq!((texts.as_slice(), writes.len()), (&expected[..], 1));
    }

    #[test]
    fn leaving_endpoints_are_followed_and_get_no_new_slices() {
        let subsets = |ip: &str| json!([{"addresses": [{"ip": ip}], "ports": [{"port": 1}]}]);
        let service = service(json!(null));
        let expected = json!([["IPv4", ["192.0.2.1 true"], [1]]]);
        let staying = endpoints(json!({}), subsets("192.0.2.1"));
        let slices = check(&staying, Some(&service), expected);
        let leaving = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        let leaving = endpoints(leaving, subsets("192.0.2.2"));
        let writes = |slices| plan(Some(&leaving), Some(&service), slices).writes;
        assert!(
            matches!(writes(&slices[..]).as_slice(), [Write::Replace(slice)] if slice.metadata.generate_name.is_none())
        );
        assert!(writes(&[]).is_empty());
    }

    #[test]
    fn a_changed_port_is_rewritten_in_place() {
        let subsets =
            |port: i32| json!([{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": port}]}]);
        let service = service(json!(null));
        let slices = check(
            &endpoints(json!({}), subsets(1)),
            Some(&service),
            json!([["IPv4", ["192.0.2.1 true"], [1]]]),
        );
        let changed = plan(
            Some(&endpoints(json!({}), subsets(2))),
            Some(&service),
            &slices,
        );
        assert!(
            matches!(changed.writes.as_slice(), [Write::Replace(slice)] if slice.metadata.generate_name.is_some())
        );
    }

    #[test]
    fn annotations_are_copied_but_for_those_about_the_source() {
        let metadata = json!({"annotations": {"note": "x", LAST_APPLIED_ANNOTATION: "y", TRIGGER_TIME_ANNOTATION: "z"}});
        let source = endpoints(metadata, json!([{"addresses": [{"ip": "192.0.2.1"}]}]));
        let slices = check(
            &source,
            Some(&service(json!(null))),
            json!([["IPv4", ["192.0.2.1 true"], []]]),
        );
        assert_eq!(json!(slices[0].metadata.annotations), json!({"note": "x"}));
    }
}
