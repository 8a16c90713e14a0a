//! Which Service gets which address.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use knarr_api::kinds::service::LOAD_BALANCER_CLASS;

use super::pool::Pools;
use crate::controllers::addresses::AddressRange;
use crate::controllers::well_known::LOAD_BALANCER_FINALIZER;

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
    balanced && !is_foreign(service) && service.metadata.deletion_timestamp.is_none()
}

fn is_foreign(service: &Service) -> bool {
    let class = |spec: &ServiceSpec| spec.load_balancer_class.clone();
    let class = service.spec.as_ref().and_then(class);
    class.is_some_and(|class| class != LOAD_BALANCER_CLASS)
}

fn has_finalizer(service: &Service) -> bool {
    service
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|f| f == LOAD_BALANCER_FINALIZER)
}

/// The finalizers with ours, if it is missing.
pub(super) fn with_finalizer(service: &Service) -> Option<Vec<String>> {
    if has_finalizer(service) {
        return None;
    }
    let mut finalizers = service.metadata.finalizers.clone().unwrap_or_default();
    finalizers.push(LOAD_BALANCER_FINALIZER.to_owned());
    Some(finalizers)
}

pub(super) fn without_finalizer(service: &Service) -> Vec<String> {
    let finalizers = service.metadata.finalizers.iter().flatten();
    finalizers
        .filter(|finalizer| *finalizer != LOAD_BALANCER_FINALIZER)
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

/// A Service without the address that it should have.
struct Waiting<'a> {
    service: &'a Arc<Service>,
    pool: Vec<AddressRange>,
}

/// Plans every gift and return; Services that have what they want are left alone.
pub(super) fn plan(services: &[Arc<Service>], pools: &Pools, answering: Answering) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut used: BTreeSet<IpAddr> = BTreeSet::new();
    let mut waiting: Vec<Waiting<'_>> = Vec::new();
    for service in services {
        if wants(service) {
            let held = held(service);
            match pools.of(service) {
                Ok(pool) if pool.is_empty() => {}
                Ok(pool)
                    if is_satisfied(service, &held, &pool)
                        && held.iter().all(|address| !used.contains(address)) =>
                {
                    used.extend(held);
                }
                Ok(pool) => waiting.push(Waiting { service, pool }),
                // Nobody else gets what it has while its annotation is wrong.
                Err(why) => {
                    used.extend(held);
                    let service = Arc::clone(service);
                    steps.push(Step::Refuse { service, why });
                }
            }
        } else if has_finalizer(service) && !is_foreign(service) {
            let held = held(service);
            let is_ours = held.iter().any(|address| pools.have(*address));
            if answering == Answering::Nobody && !is_ours {
                continue;
            }
            used.extend(held);
            steps.push(Step::Take {
                service: Arc::clone(service),
            });
        }
    }
    if answering == Answering::Somebody {
        give(waiting, &mut used, &mut steps);
    }
    steps
}

/// Who asks for one address comes first, then who has waited longest.
fn give(mut waiting: Vec<Waiting<'_>>, used: &mut BTreeSet<IpAddr>, steps: &mut Vec<Step>) {
    waiting.sort_by_key(|Waiting { service, pool }| {
        let created = service.metadata.creation_timestamp.as_ref();
        let created = created.map(|time| time.0);
        (requested_of(service, pool).is_none(), created)
    });
    for Waiting { service, pool } in waiting {
        let service = Arc::clone(service);
        match choose(&service, &pool, used) {
            Ok(addresses) => {
                used.extend(&addresses);
                let ignored = ignored(&service, &pool);
                steps.push(Step::Give {
                    service,
                    addresses,
                    ignored,
                });
            }
            Err(why) => steps.push(Step::Refuse { service, why }),
        }
    }
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
mod tests;
