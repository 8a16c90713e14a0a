//! The plan for one DaemonSet: its pods, node by node, and its status.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};

use super::node::{Place, hash, pod, target};
use super::snapshot::{NodePods, Snapshot, nodes};
use super::update::roll;
use crate::controllers::event::Notice;
use crate::controllers::pods::{self, Availability};
use crate::controllers::queue::Next;
use crate::controllers::replicas::PodWrites;
use crate::controllers::selector;
use crate::controllers::write::Write;

pub(super) struct PodPlan {
    pub(super) writes: PodWrites,
    pub(super) notices: Vec<Notice>,
}

/// Plans the pod writes.
pub(super) fn plan_pods(snapshot: &Snapshot<'_>) -> PodPlan {
    let mut plan = PodPlan {
        writes: PodWrites {
            patched: snapshot.claimed.clone(),
            ..PodWrites::default()
        },
        notices: Vec::new(),
    };
    let set = snapshot.set;
    if set.metadata.deletion_timestamp.is_some() || selector::is_empty(&set.spec.selector) {
        return plan;
    }
    let nodes = nodes(snapshot);
    for (place, node, on_node) in &nodes {
        match place {
            Place::Runs | Place::Keeps => keep_one(snapshot, *place, node, on_node, &mut plan),
            Place::Never => {
                let staying = on_node.iter().filter(|pod| !pods::is_terminating(pod));
                plan.writes.deleted.extend(staying.cloned());
            }
        }
    }
    let known: Vec<&str> = snapshot
        .nodes
        .iter()
        .filter_map(|node| node.metadata.name.as_deref())
        .collect();
    let stray = |pod: &&Arc<Pod>| {
        !pods::is_terminating(pod)
            && pods::node_name(pod).is_none()
            && target(pod).is_none_or(|node| !known.contains(&node))
    };
    plan.writes
        .deleted
        .extend(snapshot.pods.iter().filter(stray).cloned());
    roll(snapshot, &nodes, &mut plan.writes);
    plan
}

fn keep_one(
    snapshot: &Snapshot<'_>,
    place: Place,
    node: &Arc<Node>,
    on_node: &NodePods,
    plan: &mut PodPlan,
) {
    let node_name = node.metadata.name.as_deref().unwrap_or_default();
    let mut running: Vec<&Arc<Pod>> = Vec::new();
    let mut ended = false;
    for pod in on_node.iter().filter(|pod| !pods::is_terminating(pod)) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let (reason, adjective) = match pods::phase(pod) {
            "Failed" => ("FailedDaemonPod", "failed"),
            "Succeeded" => ("SucceededDaemonPod", "succeeded"),
            _ => {
                running.push(pod);
                continue;
            }
        };
        ended = true;
        let verb = if adjective == "failed" {
            "kill"
        } else {
            "delete"
        };
        let message = format!(
            "Found {adjective} daemon pod {namespace}/{name} on node {node_name}, will try to {verb} it"
        );
        plan.notices.push(match adjective {
            "failed" => Notice::warning(reason, message),
            _ => Notice::normal(reason, message),
        });
        plan.writes.deleted.push(Arc::clone(pod));
    }
    let leaving = on_node.iter().any(|pod| pods::is_terminating(pod));
    if running.is_empty() && !ended && !leaving && place == Place::Runs {
        plan.writes
            .created
            .push(pod(snapshot.set, node, snapshot.hash));
    }
    // While a surge is under way there may be one pod of each template.
    for version in [true, false] {
        let same = running
            .iter()
            .filter(|pod| (hash(pod) == Some(snapshot.hash)) == version);
        plan.writes
            .deleted
            .extend(same.skip(1).map(|pod| Arc::clone(pod)));
    }
}

/// Plans the status.
pub(super) fn plan_status(snapshot: &Snapshot<'_>) -> (Option<Write<DaemonSet>>, Next) {
    let set = snapshot.set;
    let seconds = set.spec.min_ready_seconds.unwrap_or(0);
    let mut status = DaemonSetStatus {
        collision_count: set
            .status
            .as_ref()
            .and_then(|status| status.collision_count),
        conditions: set
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone()),
        observed_generation: set.metadata.generation,
        ..DaemonSetStatus::default()
    };
    let (mut available, mut updated) = (0, 0);
    let mut soonest: Option<Duration> = None;
    for (place, _, on_node) in nodes(snapshot) {
        if place != Place::Runs {
            status.number_misscheduled += i32::from(!on_node.is_empty());
            continue;
        }
        status.desired_number_scheduled += 1;
        let staying = on_node
            .iter()
            .find(|pod| !pods::is_terminating(pod))
            .or(on_node.first());
        let Some(pod) = staying else { continue };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pods::is_ready(pod));
        updated += i32::from(hash(pod) == Some(snapshot.hash));
        match pods::availability(pod, seconds, snapshot.now) {
            Availability::Available => available += 1,
            Availability::In(delay) => soonest = Some(soonest.map_or(delay, |d| d.min(delay))),
            Availability::Unavailable => {}
        }
    }
    let positive = |count: i32| Some(count).filter(|count| *count > 0);
    status.number_available = positive(available);
    status.number_unavailable = positive(status.desired_number_scheduled - available);
    status.updated_number_scheduled = positive(updated);
    let next = soonest.map_or(Next::OnChange, Next::After);
    if set.status.as_ref() == Some(&status) {
        return (None, next);
    }
    let mut changed = set.clone();
    changed.status = Some(status);
    (Some(Write::ReplaceStatus(changed)), next)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    fn set(spec: Value) -> DaemonSet {
        let mut full = json!({"selector": {"matchLabels": {"app": "d"}}, "template": {"metadata": {"labels": {"app": "d"}},
            "spec": {"nodeSelector": {"run": "yes"}, "containers": [{"name": "c"}]}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}});
        for (key, value) in spec.as_object().into_iter().flatten() {
            full[key] = value.clone();
        }
        serde_json::from_value(json!({"metadata": {"name": "d", "namespace": "ns", "uid": "d", "generation": 1}, "spec": full})).expect("a DaemonSet")
    }

    fn node(name: &str, taints: Value) -> Arc<Node> {
        let node = json!({"metadata": {"name": name, "labels": {"run": "yes"}}, "spec": {"taints": taints}});
        Arc::new(serde_json::from_value(node).expect("a Node"))
    }

    fn pod_on(name: &str, node: &str, hash: &str, ready: &str, phase: &str) -> Arc<Pod> {
        let pod = json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "d", "controller-revision-hash": hash}},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn check(
        set: &DaemonSet,
        nodes: &[Arc<Node>],
        pods: &[Arc<Pod>],
        created: &[&str],
        deleted: &[&str],
    ) {
        let snapshot = Snapshot {
            set,
            hash: "new",
            claimed: Vec::new(),
            pods: pods.to_vec(),
            nodes: nodes.to_vec(),
            now: Timestamp::UNIX_EPOCH,
        };
        let plan = plan_pods(&snapshot);
        let targets: Vec<&str> = plan.writes.created.iter().filter_map(target).collect();
        assert_eq!(targets, created);
        let names: Vec<&str> = plan
            .writes
            .deleted
            .iter()
            .filter_map(|p| p.metadata.name.as_deref())
            .collect();
        assert_eq!(names, deleted);
    }

    #[test]
    fn every_matching_node_runs_one_pod() {
        let mut other = (*node("c", json!([]))).clone();
        other.metadata.labels = None;
        let nodes = [node("a", json!([])), node("b", json!([])), Arc::new(other)];
        let running = |name: &str, node: &str| pod_on(name, node, "new", "True", "Running");
        check(&set(json!({})), &nodes, &[], &["a", "b"], &[]);
        check(
            &set(json!({})),
            &nodes,
            &[running("1", "a"), running("2", "a"), running("3", "c")],
            &["b"],
            &["2", "3"],
        );
        check(
            &set(json!({})),
            &nodes[..1],
            &[pod_on("1", "a", "new", "False", "Failed")],
            &[],
            &["1"],
        );
    }

    #[test]
    fn taints_stop_new_pods_and_drive_some_away() {
        let running = [pod_on("1", "a", "new", "True", "Running")];
        let taint = |key: &str, effect: &str| [node("a", json!([{"key": key, "effect": effect}]))];
        check(&set(json!({})), &taint("x", "NoSchedule"), &[], &[], &[]);
        check(
            &set(json!({})),
            &taint("x", "NoSchedule"),
            &running,
            &[],
            &[],
        );
        check(
            &set(json!({})),
            &taint("x", "NoExecute"),
            &running,
            &[],
            &["1"],
        );
        check(
            &set(json!({})),
            &taint("node.kubernetes.io/unreachable", "NoExecute"),
            &running,
            &[],
            &[],
        );
    }

    #[test]
    fn an_update_replaces_broken_pods_and_as_many_working_ones_as_allowed() {
        let nodes = [
            node("a", json!([])),
            node("b", json!([])),
            node("c", json!([])),
        ];
        let old = |name: &str, node: &str, ready: &str| pod_on(name, node, "old", ready, "Running");
        check(
            &set(json!({})),
            &nodes,
            &[
                old("1", "a", "True"),
                old("2", "b", "True"),
                old("3", "c", "True"),
            ],
            &[],
            &["1"],
        );
        check(
            &set(json!({})),
            &nodes,
            &[
                old("1", "a", "True"),
                old("2", "b", "False"),
                old("3", "c", "True"),
            ],
            &[],
            &["2"],
        );
        let waiting = [
            pod_on("1", "a", "new", "False", "Running"),
            old("2", "b", "True"),
            old("3", "c", "True"),
        ];
        check(&set(json!({})), &nodes, &waiting, &[], &[]);
        check(
            &set(json!({"updateStrategy": {"type": "OnDelete"}})),
            &nodes[..1],
            &[old("1", "a", "True")],
            &[],
            &[],
        );
    }

    #[test]
    fn a_surge_makes_the_new_pod_before_the_old_one_goes() {
        let surge = set(
            json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}),
        );
        let nodes = [node("a", json!([])), node("b", json!([]))];
        let old = |name: &str, node: &str| pod_on(name, node, "old", "True", "Running");
        check(&surge, &nodes, &[old("1", "a"), old("2", "b")], &["a"], &[]);
        let begun = [
            old("1", "a"),
            old("2", "b"),
            pod_on("3", "a", "new", "False", "Running"),
        ];
        check(&surge, &nodes, &begun, &[], &[]);
        let done = [
            old("1", "a"),
            old("2", "b"),
            pod_on("3", "a", "new", "True", "Running"),
        ];
        check(&surge, &nodes, &done, &["b"], &["1"]);
    }
}
