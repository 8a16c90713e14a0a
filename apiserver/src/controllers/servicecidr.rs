//! Says which service ranges may be used, and keeps one from going while its addresses are in use.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::queue::{Next, Queue};
use super::store::Key;
use super::write::{Error, Write, perform};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: &str = "Ready";

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
    let (cluster, shutdown) = (Arc::clone(cluster), shutdown.clone());
    tasks.spawn(async move {
        cluster.wait_synced().await;
        let reconcile = |key| reconcile(Arc::clone(&cluster), key);
        queue.run("servicecidr", shutdown.clone(), reconcile).await;
    });
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
    let write = {
        let (ranges, addresses) = (cluster.service_cidrs.all(), cluster.ip_addresses.all());
        plan(&range, &ranges, &addresses, Timestamp::now())
    };
    if let Some(write) = write {
        match perform(&cluster.client, &cluster.service_cidrs, write).await {
            Ok(_) => return Ok(Next::After(std::time::Duration::ZERO)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Next::OnChange)
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
) -> Option<Write<ServiceCIDR>> {
    let finalizers = range.metadata.finalizers.clone().unwrap_or_default();
    let held = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    if range.metadata.deletion_timestamp.is_none() {
        if !held {
            let finalizers: Vec<String> = finalizers
                .into_iter()
                .chain([FINALIZER.to_owned()])
                .collect();
            return Some(finalized(range, Some(finalizers)));
        }
        return conditioned(range, "True", "", "Kubernetes Service CIDR is ready", now);
    }
    if !held {
        return None;
    }
    if is_needed(range, ranges, addresses) {
        let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        return conditioned(range, "False", "Terminating", message, now);
    }
    let others: Vec<String> = finalizers
        .into_iter()
        .filter(|finalizer| finalizer != FINALIZER)
        .collect();
    Some(finalized(
        range,
        Some(others).filter(|others| !others.is_empty()),
    ))
}

/// Says whether an address of this range lies in no other that stays.
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
    let parsed = addresses
        .iter()
        .filter_map(|address| address.metadata.name.as_deref()?.parse::<IpAddr>().ok());
    let within = |nets: &[IpNet], address: &IpAddr| nets.iter().any(|net| net.contains(address));
    parsed
        .into_iter()
        .any(|address| within(&own, &address) && !within(&staying, &address))
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
) -> Option<Write<ServiceCIDR>> {
    let conditions = range
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let same = |condition: &Condition| {
        condition.type_ == READY && condition.status == value && condition.reason == reason
    };
    if conditions.iter().any(same) {
        return None;
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
    Some(Write::MergeStatus {
        key: Key::of(range),
        patch: json!({
            "metadata": {"uid": range.metadata.uid, "resourceVersion": range.metadata.resource_version},
            "status": {"conditions": conditions},
        }),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn range(name: &str, cidr: &str, finalizers: Value, leaving: Option<&str>) -> Arc<ServiceCIDR> {
        let range = json!({"metadata": {"name": name, "uid": name, "finalizers": finalizers, "deletionTimestamp": leaving}, "spec": {"cidrs": [cidr]}});
        Arc::new(serde_json::from_value(range).expect("a ServiceCIDR"))
    }

    fn check(
        range: &ServiceCIDR,
        others: &[Arc<ServiceCIDR>],
        addresses: &[&str],
        expected: Value,
    ) {
        let addresses: Vec<Arc<IPAddress>> = addresses
            .iter()
            .map(|name| Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"parentRef": {"name": "s", "resource": "services"}}})).expect("an IPAddress")))
            .collect();
        let seen = match plan(range, others, &addresses, Timestamp::UNIX_EPOCH) {
            Some(Write::Merge { patch, .. }) => patch["metadata"]["finalizers"].clone(),
            Some(Write::MergeStatus { patch, .. }) => {
                patch["status"]["conditions"][0]["reason"].clone()
            }
            None => json!("nothing"),
            other => panic!("unexpected {other:?}"),
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_range_goes_once_none_of_its_addresses_needs_it() {
        let gone = Some("2026-06-01T12:00:00Z");
        let held = json!([FINALIZER]);
        check(
            &range("a", "10.7.0.0/28", json!(null), None),
            &[],
            &[],
            held.clone(),
        );
        check(
            &range("a", "10.7.0.0/28", held.clone(), None),
            &[],
            &[],
            json!(""),
        );
        let leaving = range("a", "10.7.0.0/28", held.clone(), gone);
        check(
            &leaving,
            std::slice::from_ref(&leaving),
            &["10.7.0.5"],
            json!("Terminating"),
        );
        check(
            &leaving,
            std::slice::from_ref(&leaving),
            &["10.8.0.5"],
            json!(null),
        );
        let wider = range("b", "10.7.0.0/16", held, None);
        check(
            &leaving,
            &[leaving.clone(), wider],
            &["10.7.0.5"],
            json!(null),
        );
    }
}
