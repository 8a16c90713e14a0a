//! Says which service ranges may be used, and keeps one from going while its addresses are in use.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::queue::{Next, Queue};
use super::store::Key;
use super::write::{Error, Write, perform};
use crate::allocate::MANAGER;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: &str = "Ready";
const MANAGED_BY_LABEL: &str = "ipaddress.kubernetes.io/managed-by";
/// For so long after its deletion a range stays, so that no allocator still takes from it.
const GRACE: SignedDuration = SignedDuration::from_secs(10);

/// Adds the controller's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    let (known, ranges) = (Arc::downgrade(cluster), Arc::clone(&queue));
    cluster.service_cidrs.observe(move |old, new| {
        if let Some(range) = new.or(old) {
            ranges.add(Key::of(range.as_ref()));
        }
        let Some(cluster) = known.upgrade().filter(|_| old.is_some() != new.is_some()) else {
            return;
        };
        leaving(&cluster).for_each(|key| ranges.add(key));
    });
    let (known, freed) = (Arc::downgrade(cluster), Arc::clone(&queue));
    cluster.ip_addresses.observe(move |_, new| {
        if let (None, Some(cluster)) = (new, known.upgrade()) {
            leaving(&cluster).for_each(|key| freed.add(key));
        }
    });
    cluster.reconcile("servicecidr", queue, reconcile, shutdown, tasks);
}

/// The ranges that wait for their addresses to be given back.
fn leaving(cluster: &Cluster) -> impl Iterator<Item = Key> {
    let ranges = cluster.service_cidrs.all().into_iter();
    let leaving = ranges.filter(|range| range.metadata.deletion_timestamp.is_some());
    leaving.map(|range| Key::of(range.as_ref()))
}

async fn reconcile(cluster: Arc<Cluster>, key: Key) -> Result<Next, Error> {
    let Some(range) = cluster.service_cidrs.get_key(&key) else {
        return Ok(Next::OnChange);
    };
    let step = {
        let ranges = cluster.service_cidrs.all();
        // There are as many addresses as Services, and only a range that leaves has a question about them.
        let leaves = range.metadata.deletion_timestamp.is_some();
        let addresses = if leaves {
            cluster.ip_addresses.all()
        } else {
            Vec::new()
        };
        plan(&range, &ranges, &addresses, Timestamp::now())
    };
    let write = match step {
        Step::Nothing => return Ok(Next::OnChange),
        Step::Wait(time) => return Ok(Next::After(time)),
        Step::Write(write) => *write,
    };
    match perform(&cluster.client, write).await {
        Ok(_) => Ok(Next::After(Duration::ZERO)),
        Err(error) if error.is_not_found() => Ok(Next::OnChange),
        Err(error) => Err(error),
    }
}

/// What to do next about one range.
enum Step {
    Write(Box<Write<ServiceCIDR>>),
    Wait(Duration),
    Nothing,
}

fn cidrs(range: &ServiceCIDR) -> Vec<IpNet> {
    let spec = range.spec.as_ref();
    let cidrs = spec
        .and_then(|spec| spec.cidrs.as_ref())
        .into_iter()
        .flatten();
    cidrs.filter_map(|cidr| cidr.parse().ok()).collect()
}

/// Plans the next write for one range: its finalizer, its condition, or its release.
fn plan(
    range: &ServiceCIDR,
    ranges: &[Arc<ServiceCIDR>],
    addresses: &[Arc<IPAddress>],
    now: Timestamp,
) -> Step {
    let finalizers = range.metadata.finalizers.clone().unwrap_or_default();
    let held = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    let Some(deleted) = &range.metadata.deletion_timestamp else {
        if !held {
            let finalizers: Vec<String> = finalizers
                .into_iter()
                .chain([FINALIZER.to_owned()])
                .collect();
            return Step::Write(Box::new(finalized(range, Some(finalizers))));
        }
        return conditioned(range, "True", "", "Kubernetes Service CIDR is ready", now);
    };
    if !held {
        return Step::Nothing;
    }
    if is_needed(range, ranges, addresses) {
        let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        return conditioned(range, "False", "Terminating", message, now);
    }
    let left = GRACE - now.duration_since(deleted.0);
    if left.is_positive() {
        return Step::Wait(left.unsigned_abs());
    }
    let others: Vec<String> = finalizers
        .into_iter()
        .filter(|finalizer| finalizer != FINALIZER)
        .collect();
    let others = Some(others).filter(|others| !others.is_empty());
    Step::Write(Box::new(finalized(range, others)))
}

/// Says whether an address that the allocator gave out of this range lies in no other that stays.
fn is_needed(
    range: &ServiceCIDR,
    ranges: &[Arc<ServiceCIDR>],
    addresses: &[Arc<IPAddress>],
) -> bool {
    let own = cidrs(range);
    let staying = ranges.iter().filter(|other| {
        other.metadata.uid != range.metadata.uid && other.metadata.deletion_timestamp.is_none()
    });
    let staying: Vec<IpNet> = staying.flat_map(|other| cidrs(other)).collect();
    let within = |nets: &[IpNet], address| nets.iter().any(|net| gives(net, address));
    addresses
        .iter()
        .filter(|address| is_allocated(address))
        .filter_map(|address| address.metadata.name.as_deref()?.parse::<IpAddr>().ok())
        .any(|address| within(&own, address) && !within(&staying, address))
}

fn is_allocated(address: &IPAddress) -> bool {
    let labels = address.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(MANAGED_BY_LABEL))
        .map(String::as_str)
        == Some(MANAGER)
}

/// The first address of a range is nobody's, nor is the last one in IPv4.
fn gives(net: &IpNet, address: IpAddr) -> bool {
    let is_last = address.is_ipv4() && address == net.broadcast();
    net.contains(&address) && address != net.network() && !is_last
}

fn finalized(range: &ServiceCIDR, finalizers: Option<Vec<String>>) -> Write<ServiceCIDR> {
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": range.metadata.resource_version}});
    Write::merge(range, patch)
}

fn conditioned(
    range: &ServiceCIDR,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Step {
    let conditions = range
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let same = |condition: &Condition| {
        condition.type_ == READY
            && condition.status == value
            && condition.reason == reason
            && condition.message == message
    };
    if conditions.iter().any(same) {
        return Step::Nothing;
    }
    let mut conditions: Vec<Condition> = conditions
        .into_iter()
        .filter(|condition| condition.type_ != READY)
        .collect();
    conditions.push(Condition {
        type_: READY.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(now),
        observed_generation: None,
    });
    Step::Write(Box::new(Write::MergeStatus {
        key: Key::of(range),
        patch: json!({
            "metadata": {"uid": range.metadata.uid, "resourceVersion": range.metadata.resource_version},
            "status": {"conditions": conditions},
        }),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn range(name: &str, cidr: &str, finalizers: Value, leaving: Option<&str>) -> Arc<ServiceCIDR> {
        let range = json!({"metadata": {"name": name, "uid": name, "finalizers": finalizers, "deletionTimestamp": leaving}, "spec": {"cidrs": [cidr]}});
        Arc::new(serde_json::from_value(range).expect("a ServiceCIDR"))
    }

    fn address(name: &str, manager: &str) -> Arc<IPAddress> {
        let address = json!({"metadata": {"name": name, "labels": {MANAGED_BY_LABEL: manager}}, "spec": {"parentRef": {"name": "s", "resource": "services"}}});
        Arc::new(serde_json::from_value(address).expect("an IPAddress"))
    }

    fn check_at(
        now: &str,
        range: &ServiceCIDR,
        others: &[Arc<ServiceCIDR>],
        addresses: &[Arc<IPAddress>],
        expected: Value,
    ) {
        let now = now.parse().expect("a time");
        let seen = match plan(range, others, addresses, now) {
            Step::Write(write) => match *write {
                Write::Merge { patch, .. } => patch["metadata"]["finalizers"].clone(),
                Write::MergeStatus { patch, .. } => {
                    patch["status"]["conditions"][0]["reason"].clone()
                }
                other => panic!("unexpected {other:?}"),
            },
            Step::Wait(time) => json!(time.as_secs()),
            Step::Nothing => json!("nothing"),
        };
        assert_eq!(seen, expected);
    }

    const LATER: &str = "2026-06-01T12:00:10Z";

    #[test]
    fn a_range_is_held_and_ready_until_it_is_deleted() {
        let held = json!([FINALIZER]);
        let check = |range: &ServiceCIDR, expected| check_at(LATER, range, &[], &[], expected);
        check(&range("a", "10.7.0.0/28", json!(null), None), held.clone());
        check(&range("a", "10.7.0.0/28", held, None), json!(""));
    }

    #[test]
    fn a_range_goes_once_none_of_its_addresses_needs_it() {
        let gone = Some("2026-06-01T12:00:00Z");
        let held = json!([FINALIZER]);
        let leaving = range("a", "10.7.0.0/28", held.clone(), gone);
        let check = |others: &[Arc<ServiceCIDR>], address, expected| {
            let ranges = [std::slice::from_ref(&leaving), others].concat();
            check_at(LATER, &leaving, &ranges, &[address], expected);
        };
        let used = || address("10.7.0.5", MANAGER);
        check(&[], used(), json!("Terminating"));
        check(&[], address("10.7.0.5", "somebody"), json!(null));
        check(&[], address("10.8.0.5", MANAGER), json!(null));
        let wider = range("b", "10.7.0.0/16", held.clone(), None);
        check(&[wider], used(), json!(null));
        let edge = range("b", "10.7.0.5/31", held, None);
        check(&[edge], used(), json!("Terminating"));
    }

    #[test]
    fn a_deleted_range_stays_for_ten_seconds() {
        let gone = Some("2026-06-01T12:00:00Z");
        let leaving = range("a", "10.7.0.0/28", json!([FINALIZER]), gone);
        check_at("2026-06-01T12:00:03Z", &leaving, &[], &[], json!(7));
        check_at(LATER, &leaving, &[], &[], json!(null));
    }
}
