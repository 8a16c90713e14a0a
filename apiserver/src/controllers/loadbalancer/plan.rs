//! Which Service gets which address.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

use crate::controllers::addresses::AddressRange;

pub(super) const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

/// Whether there is a node whose proxy would answer at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answering {
    Somebody,
    Nobody,
}

#[derive(Debug)]
pub(super) enum Step {
    Give {
        service: Arc<Service>,
        addresses: Vec<IpAddr>,
        /// What was asked for and cannot be had here.
        ignored: Option<String>,
    },
    /// The addresses are free again once this is done.
    Take {
        service: Arc<Service>,
    },
    Refuse {
        service: Arc<Service>,
        why: String,
    },
}

/// Says whether a Service has, wants or had an address of ours.
pub(super) fn concerns(service: &Service) -> bool {
    wants(service) || has_finalizer(service)
}

fn wants(service: &Service) -> bool {
    let Some(spec) = &service.spec else {
        return false;
    };
    let balanced = spec.type_.as_deref() == Some("LoadBalancer");
    balanced && spec.load_balancer_class.is_none() && service.metadata.deletion_timestamp.is_none()
}

fn is_foreign(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.load_balancer_class.is_some())
}

fn has_finalizer(service: &Service) -> bool {
    service
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|f| f == FINALIZER)
}

/// The finalizers with ours, if it is missing.
pub(super) fn with_finalizer(service: &Service) -> Option<Vec<String>> {
    if has_finalizer(service) {
        return None;
    }
    let mut finalizers = service.metadata.finalizers.clone().unwrap_or_default();
    finalizers.push(FINALIZER.to_owned());
    Some(finalizers)
}

pub(super) fn without_finalizer(service: &Service) -> Vec<String> {
    let finalizers = service.metadata.finalizers.iter().flatten();
    finalizers
        .filter(|finalizer| *finalizer != FINALIZER)
        .cloned()
        .collect()
}

fn held(service: &Service) -> Vec<IpAddr> {
    let balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
    let ips = ingress
        .into_iter()
        .flatten()
        .filter_map(|ingress| ingress.ip.as_ref());
    ips.filter_map(|ip| ip.parse().ok()).collect()
}

/// Plans every gift and return; Services that have what they want are left alone.
pub(super) fn plan(
    services: &[Arc<Service>],
    pool: &[AddressRange],
    answering: Answering,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut used: BTreeSet<IpAddr> = BTreeSet::new();
    let mut waiting: Vec<&Arc<Service>> = Vec::new();
    for service in services {
        if wants(service) {
            let held = held(service);
            if is_satisfied(service, &held, pool)
                && held.iter().all(|address| !used.contains(address))
            {
                used.extend(held);
            } else {
                waiting.push(service);
            }
        } else if has_finalizer(service) && !is_foreign(service) {
            let held = held(service);
            let is_ours = held
                .iter()
                .any(|address| pool.iter().any(|range| range.contains(*address)));
            if answering == Answering::Nobody && !is_ours {
                continue;
            }
            used.extend(held);
            steps.push(Step::Take {
                service: Arc::clone(service),
            });
        }
    }
    if answering == Answering::Nobody {
        return steps;
    }
    waiting.sort_by_key(|service| {
        let created = service
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0);
        (requested_of(service, pool).is_none(), created)
    });
    for service in waiting {
        let service = Arc::clone(service);
        match choose(&service, pool, &used) {
            Ok(addresses) => {
                used.extend(&addresses);
                let ignored = ignored(&service, pool);
                steps.push(Step::Give {
                    service,
                    addresses,
                    ignored,
                });
            }
            Err(why) => steps.push(Step::Refuse { service, why }),
        }
    }
    steps
}

fn requested(service: &Service) -> Option<&str> {
    let requested = service.spec.as_ref()?.load_balancer_ip.as_deref()?;
    Some(requested).filter(|requested| !requested.is_empty())
}

/// The requested address, if it is one that the pool has.
fn requested_of(service: &Service, pool: &[AddressRange]) -> Option<IpAddr> {
    let address: IpAddr = requested(service)?.parse().ok()?;
    pool.iter()
        .any(|range| range.contains(address))
        .then_some(address)
}

fn ignored(service: &Service, pool: &[AddressRange]) -> Option<String> {
    let requested = requested(service)?;
    requested_of(service, pool)
        .is_none()
        .then(|| format!("spec.loadBalancerIP {requested:?} is ignored: it is not in the pool"))
}

fn is_satisfied(service: &Service, held: &[IpAddr], pool: &[AddressRange]) -> bool {
    let in_pool = |address: &IpAddr| pool.iter().any(|range| range.contains(*address));
    let as_requested =
        requested_of(service, pool).is_none_or(|requested| held.contains(&requested));
    !held.is_empty() && held.iter().all(in_pool) && as_requested && has_finalizer(service)
}

fn choose(
    service: &Service,
    pool: &[AddressRange],
    used: &BTreeSet<IpAddr>,
) -> Result<Vec<IpAddr>, String> {
    let mut chosen: Vec<IpAddr> = Vec::new();
    if let Some(address) = requested_of(service, pool) {
        if used.contains(&address) {
            return Err(format!("requested IP {address} is already in use"));
        }
        chosen.push(address);
    }
    let families = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ip_families.as_deref())
        .unwrap_or_default();
    for family in families {
        let is_of = |address: &IpAddr| address.is_ipv6() == (family == "IPv6");
        if chosen.iter().any(is_of) {
            continue;
        }
        // What the Service held before is its first choice.
        let before = held(service)
            .into_iter()
            .filter(|address| pool.iter().any(|range| range.contains(*address)));
        let offered = pool.iter().flat_map(|range| range.addresses());
        let free = |address: &IpAddr| is_of(address) && !used.contains(address);
        chosen.extend(before.chain(offered).find(free));
    }
    if chosen.is_empty() {
        return Err("no free IP in the pool".to_owned());
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(name: &str, spec: Value, ips: &[&str]) -> Arc<Service> {
        let mut full = json!({"type": "LoadBalancer", "ipFamilies": ["IPv4"]});
        for (key, value) in spec.as_object().into_iter().flatten() {
            full[key] = value.clone();
        }
        let ingress: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        let finalizers: &[&str] = if ips.is_empty() { &[] } else { &[FINALIZER] };
        let service = json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "finalizers": finalizers},
            "spec": full, "status": {"loadBalancer": {"ingress": ingress}}});
        Arc::new(serde_json::from_value(service).expect("a Service"))
    }

    fn check(services: &[Arc<Service>], expected: &[&str]) {
        let pool = AddressRange::parse_list("192.0.2.1-192.0.2.3, fd00::1").expect("a pool");
        let steps = plan(services, &pool, Answering::Somebody);
        let name = |service: &Service| service.metadata.name.clone().unwrap_or_default();
        let seen: Vec<String> = steps
            .iter()
            .map(|step| match step {
                Step::Give {
                    service,
                    addresses,
                    ignored,
                } => {
                    let addresses: Vec<String> =
                        addresses.iter().map(ToString::to_string).collect();
                    let ignored = ignored.as_ref().map_or("", |_| " instead");
                    format!("{} {}{ignored}", name(service), addresses.join(","))
                }
                Step::Take { service } => format!("{} free", name(service)),
                Step::Refuse { service, why } => format!("{} {why}", name(service)),
            })
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn services_get_the_first_free_address_and_keep_it() {
        let kept = service("kept", json!({}), &["192.0.2.1"]);
        let new = || service("new", json!({}), &[]);
        check(&[kept.clone(), new()], &["new 192.0.2.2"]);
        check(std::slice::from_ref(&kept), &[]);
        let dual = service("dual", json!({"ipFamilies": ["IPv6", "IPv4"]}), &[]);
        check(&[dual], &["dual fd00::1,192.0.2.1"]);
        let full: Vec<_> = (1..=3)
            .map(|i| service("x", json!({}), &[&format!("192.0.2.{i}")]))
            .collect();
        check(
            &[&full[..], &[new()]].concat(),
            &["new no free IP in the pool"],
        );
    }

    #[test]
    fn a_requested_address_is_given_when_it_can_be() {
        let wants = |ip: &str| service("wants", json!({"loadBalancerIP": ip}), &[]);
        let kept = service("kept", json!({}), &["192.0.2.1"]);
        check(&[wants("192.0.2.3")], &["wants 192.0.2.3"]);
        check(&[wants("192.0.2.9")], &["wants 192.0.2.1 instead"]);
        check(&[wants("anything")], &["wants 192.0.2.1 instead"]);
        check(
            &[kept, wants("192.0.2.1")],
            &["wants requested IP 192.0.2.1 is already in use"],
        );
        let modest = service("modest", json!({}), &[]);
        check(
            &[modest, wants("192.0.2.1")],
            &["wants 192.0.2.1", "modest 192.0.2.2"],
        );
        let moved = service(
            "moved",
            json!({"loadBalancerIP": "192.0.2.3"}),
            &["192.0.2.1"],
        );
        check(&[moved], &["moved 192.0.2.3"]);
    }

    #[test]
    fn addresses_are_taken_back_and_those_of_other_classes_left_alone() {
        let changed = service("changed", json!({"type": "ClusterIP"}), &["192.0.2.1"]);
        check(
            &[changed, service("new", json!({}), &[])],
            &["changed free", "new 192.0.2.2"],
        );
        check(
            &[service(
                "theirs",
                json!({"loadBalancerClass": "example.com/x"}),
                &["192.0.2.1"],
            )],
            &[],
        );
    }

    #[test]
    fn nothing_is_given_while_nobody_would_answer() {
        let pool = AddressRange::parse_list("192.0.2.1").expect("a pool");
        assert!(plan(&[service("new", json!({}), &[])], &pool, Answering::Nobody).is_empty());
        let changed = service("changed", json!({"type": "ClusterIP"}), &["192.0.2.1"]);
        assert_eq!(plan(&[changed], &pool, Answering::Nobody).len(), 1);
        let theirs = service("theirs", json!({"type": "ClusterIP"}), &["192.0.2.7"]);
        assert!(plan(&[theirs], &pool, Answering::Nobody).is_empty());
    }
}
