//! The order in which surplus pods go: those that matter least first.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::controllers::pods;

const DELETION_COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Sorts `candidates` by how little they would be missed; `related` pods on the same node make a pod more dispensable.
pub(super) fn deletion_order(
    candidates: Vec<Arc<Pod>>,
    related: &[Arc<Pod>],
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| pods::is_active(pod)) {
        if let Some(node) = pods::node_name(pod) {
            *on_node.entry(node).or_insert(0) += 1;
        }
    }
    let mut ranked: Vec<(usize, Arc<Pod>)> = candidates
        .into_iter()
        .map(|pod| {
            let crowd = pods::node_name(&pod).and_then(|node| on_node.get(node));
            (crowd.copied().unwrap_or(0), pod)
        })
        .collect();
    ranked.sort_by(|(crowd_a, a), (crowd_b, b)| {
        coarse(a)
            .cmp(&coarse(b))
            .then_with(|| crowd_b.cmp(crowd_a))
            .then_with(|| younger(ready_since(a), ready_since(b), now, a, b))
            .then_with(|| Reverse(restarts(a)).cmp(&Reverse(restarts(b))))
            .then_with(|| younger(created(a), created(b), now, a, b))
    });
    ranked.into_iter().map(|(_, pod)| pod).collect()
}

/// Unassigned before assigned, pending before running, unready before ready, cheap before dear.
fn coarse(pod: &Pod) -> (bool, u8, bool, i32) {
    let phase = match pods::phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    let cost = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(DELETION_COST_ANNOTATION));
    let cost = cost.and_then(|cost| cost.parse().ok()).unwrap_or(0);
    (
        pods::node_name(pod).is_some(),
        phase,
        pods::is_ready(pod),
        cost,
    )
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    pods::ready_since(pod).filter(|_| pods::is_ready(pod))
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    statuses
        .into_iter()
        .flatten()
        .map(|status| status.restart_count)
        .max()
        .unwrap_or(0)
}

/// Compares ages by orders of magnitude, so that pods of about the same age go in no particular order of time.
fn younger(
    a: Option<Timestamp>,
    b: Option<Timestamp>,
    now: Timestamp,
    pod_a: &Pod,
    pod_b: &Pod,
) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) if a == b => Ordering::Equal,
        (Some(a), Some(b)) => {
            let by_magnitude = magnitude(a, now).cmp(&magnitude(b, now));
            by_magnitude.then_with(|| pod_a.metadata.uid.cmp(&pod_b.metadata.uid))
        }
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

fn magnitude(since: Timestamp, now: Timestamp) -> Option<u32> {
    let age = now.duration_since(since).as_nanos();
    u128::try_from(age).ok().and_then(u128::checked_ilog2)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, patch: Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {"name": name, "uid": name, "annotations": {}, "creationTimestamp": "2026-06-01T11:00:00Z"},
            "spec": {"nodeName": "a", "containers": []},
            "status": {"phase": "Running", "containerStatuses": [],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-06-01T11:00:00Z"}]},
        });
        for (pointer, value) in patch.as_object().into_iter().flatten() {
            *pod.pointer_mut(pointer).expect("a field") = value.clone();
        }
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn check(first: Value, second: Value) {
        let (first, second) = (pod("z", first), pod("b", second));
        let now = "2026-06-01T12:00:00Z".parse().expect("a time");
        let related = [
            pod("c1", json!({"/spec/nodeName": "crowded"})),
            pod("c2", json!({"/spec/nodeName": "crowded"})),
        ];
        for order in [
            vec![first.clone(), second.clone()],
            vec![second, first.clone()],
        ] {
            let sorted = deletion_order(order, &related, now);
            assert_eq!(sorted[0].metadata.name, first.metadata.name, "{first:?}");
        }
    }

    #[test]
    fn the_least_useful_pod_goes_first() {
        let ready =
            |time: &str| json!([{"type": "Ready", "status": "True", "lastTransitionTime": time}]);
        check(
            json!({"/spec/nodeName": ""}),
            json!({"/status/phase": "Pending"}),
        );
        check(
            json!({"/status/phase": "Pending"}),
            json!({"/status/phase": "Unknown"}),
        );
        check(json!({"/status/phase": "Unknown"}), json!({}));
        check(json!({"/status/conditions": []}), json!({}));
        check(
            json!({"/metadata/annotations": {DELETION_COST_ANNOTATION: "-5"}}),
            json!({}),
        );
        check(json!({"/spec/nodeName": "crowded"}), json!({}));
        check(
            json!({"/status/conditions": ready("2026-06-01T11:59:59Z")}),
            json!({}),
        );
        check(
            json!({"/status/containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 3}]}),
            json!({}),
        );
        check(
            json!({"/metadata/creationTimestamp": "2026-06-01T11:59:50Z"}),
            json!({}),
        );
    }

    #[test]
    fn pods_of_about_the_same_age_go_by_uid() {
        let now = "2026-06-01T12:00:00Z".parse().expect("a time");
        let at =
            |time: &str| json!({"/metadata/creationTimestamp": time, "/status/conditions": []});
        let pods = vec![
            pod("b", at("2026-06-01T11:00:10Z")),
            pod("a", at("2026-06-01T11:00:00Z")),
        ];
        let sorted = deletion_order(pods, &[], now);
        assert_eq!(sorted[0].metadata.name.as_deref(), Some("a"));
    }
}
