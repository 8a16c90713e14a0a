//! What a pod's status means to the controllers.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodCondition};

use super::cluster::Cluster;
use super::terms;

/// Says whether the pod has ended for good.
pub(super) fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Says whether the pod counts towards its controller's replicas.
pub(super) fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

pub(super) fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub(super) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

pub(super) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Since when the pod has been ready, or unready.
pub(super) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready")?
        .last_transition_time
        .as_ref()
        .map(|time| time.0)
}

/// Whether a pod has been ready for long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Availability {
    Available,
    /// Becomes available after this long, if it stays ready.
    In(Duration),
    Unavailable,
}

/// A pod is available once it has been ready for `min_ready_seconds`.
pub(super) fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    if !is_ready(pod) {
        return Availability::Unavailable;
    }
    if min_ready_seconds <= 0 {
        return Availability::Available;
    }
    let Some(since) = ready_since(pod) else {
        return Availability::Unavailable;
    };
    let required = Duration::from_secs(min_ready_seconds.unsigned_abs().into());
    let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    match required.checked_sub(passed) {
        Some(left) if !left.is_zero() => Availability::In(left),
        Some(_) | None => Availability::Available,
    }
}

pub(super) fn node_name(pod: &Pod) -> Option<&str> {
    let name = pod.spec.as_ref()?.node_name.as_deref()?;
    Some(name).filter(|name| !name.is_empty())
}

/// When a pod ended, as far as it can be told.
pub(super) fn ended(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let finished = statuses.into_iter().flatten().filter_map(|status| {
        let terminated = status.state.as_ref()?.terminated.as_ref()?;
        terminated.finished_at.as_ref().map(|time| time.0)
    });
    let ready = condition(pod, "Ready")
        .and_then(|c| c.last_transition_time.as_ref())
        .map(|time| time.0);
    let deleted = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    finished.max().or(deleted).or(ready).or(created)
}

/// How other objects point at the pod.
pub(super) fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The pods that have their place on a node.
pub(super) fn of_node(cluster: &Cluster, node: &str) -> Vec<Arc<Pod>> {
    let is_there = |pod: &Pod| node_name(pod) == Some(node);
    cluster.pods.found_by("", &terms::node(node), is_there)
}

/// The pod's addresses, in the order of its status.
pub(super) fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let all: Vec<&str> = status
        .pod_ips
        .iter()
        .flatten()
        .map(|ip| ip.ip.as_str())
        .filter(|ip| !ip.is_empty())
        .collect();
    if all.is_empty() {
        let only = status.pod_ip.as_deref().filter(|ip| !ip.is_empty());
        return only.into_iter().collect();
    }
    all
}
