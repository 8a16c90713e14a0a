//! Whether a node is well: its conditions when it falls silent, and the taints its conditions call for.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::controllers::event::Notice;
use crate::controllers::pods;
use crate::controllers::queue::Next;
use crate::controllers::store::Key;
use crate::controllers::write::Write;

/// Silence after which a node is given up.
const GRACE: Duration = Duration::from_secs(40);
/// Silence allowed to a node that never spoke.
const STARTUP_GRACE: Duration = Duration::from_secs(60);

pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Condition, the status that taints, and the taint.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "node.kubernetes.io/network-unavailable",
    ),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

pub(super) struct Plan {
    pub(super) status: Option<Write<Node>>,
    pub(super) taints: Option<Write<Node>>,
    pub(super) notices: Vec<Notice>,
    pub(super) next: Next,
}

pub(super) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// What the node's agent last said of it, as a sign of life.
pub(super) fn reported(node: Option<&Node>) -> Option<(Option<Time>, String)> {
    let ready = condition(node?, "Ready")?;
    Some((ready.last_heartbeat_time.clone(), ready.status.clone()))
}

/// Says whether the node was given up.
pub(super) fn is_silent(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready.status == "Unknown")
}

/// Plans the node's conditions, or, these being right, its taints; `silence` is how long there was no sign of life.
pub(super) fn plan(node: &Node, silence: Duration, now: Timestamp) -> Plan {
    let mut plan = Plan {
        status: None,
        taints: None,
        notices: Vec::new(),
        next: Next::OnChange,
    };
    if !is_silent(node) {
        let grace = match condition(node, "Ready") {
            Some(_) => GRACE,
            None => STARTUP_GRACE,
        };
        let left = grace.saturating_sub(silence);
        if !left.is_zero() {
            plan.next = Next::After(left);
        } else {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let message = format!("Node {name} status is now: NodeNotReady");
            plan.notices.push(Notice::normal("NodeNotReady", message));
            plan.status = Some(given_up(node, now));
            return plan;
        }
    }
    plan.taints = taints(node, now);
    plan
}

fn given_up(node: &Node, now: Timestamp) -> Write<Node> {
    let mut conditions: Vec<NodeCondition> = node
        .status
        .as_ref()
        .and_then(|s| s.conditions.clone())
        .unwrap_or_default();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let (reason, message) = match conditions.iter().any(|c| c.type_ == kind) {
            true => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            false => (
                "NodeStatusNeverUpdated",
                "Kubelet never posted node status.",
            ),
        };
        let heartbeat = conditions
            .iter()
            .find(|c| c.type_ == kind)
            .and_then(|c| c.last_heartbeat_time.clone());
        let heartbeat = heartbeat.or_else(|| node.metadata.creation_timestamp.clone());
        conditions.retain(|c| c.type_ != kind);
        conditions.push(NodeCondition {
            type_: kind.to_owned(),
            status: "Unknown".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: heartbeat,
            last_transition_time: Some(Time(now)),
        });
    }
    Write::MergeStatus {
        key: Key::of(node),
        patch: json!({
            "metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
            "status": {"conditions": conditions},
        }),
    }
}

/// The taints that follow from conditions and spec, beside those that others put there.
fn taints(node: &Node, now: Timestamp) -> Option<Write<Node>> {
    let spec = node.spec.as_ref();
    let present = spec
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let ready = condition(node, "Ready");
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match ready.map(|ready| ready.status.as_str()) {
        Some("True") => {}
        Some("Unknown") => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        Some(_) => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        // Admission tainted the new node; the first report decides.
        None => wanted.push((NOT_READY, "NoSchedule")),
    }
    for (kind, taint) in PRESSURES {
        if condition(node, kind).is_some_and(|condition| condition.status == "True") {
            wanted.push((taint, "NoSchedule"));
        }
    }
    if spec.and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let managed = |taint: &Taint| {
        [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
            || PRESSURES.iter().any(|(_, key)| *key == taint.key)
    };
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> = present
        .iter()
        .filter(|t| !managed(t) || is_wanted(t))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !taints
            .iter()
            .any(|taint| taint.key == key && taint.effect == effect)
        {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    if taints == present {
        return None;
    }
    let taints = Some(taints).filter(|taints| !taints.is_empty());
    let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": taints}});
    Some(Write::merge(node, patch))
}

/// Pods that still claim to be ready although their node ceased to be, with the write that says so.
pub(super) fn unready(
    node: &Node,
    on_node: &[Arc<Pod>],
    now: Timestamp,
) -> Vec<(Arc<Pod>, Write<Pod>)> {
    let Some(ready) = condition(node, "Ready").filter(|ready| ready.status != "True") else {
        return Vec::new();
    };
    let fell = ready.last_transition_time.as_ref().map(|time| time.0);
    let claims = |pod: &&Arc<Pod>| pods::is_ready(pod) && pods::ready_since(pod) <= fell;
    let marked = on_node
        .iter()
        .filter(claims)
        .map(|pod| (Arc::clone(pod), mark(pod, now)));
    marked.collect()
}

fn mark(pod: &Pod, now: Timestamp) -> Write<Pod> {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let conditions: Vec<Value> = conditions
        .into_iter()
        .flatten()
        .map(|condition| {
            let mut value = json!(condition);
            if condition.type_ == "Ready" {
                value["status"] = "False".into();
                value["lastTransitionTime"] = json!(Time(now));
            }
            value
        })
        .collect();
    Write::MergeStatus {
        key: Key::of(pod),
        patch: json!({
            "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
            "status": {"conditions": conditions},
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-06-01T12:00:00Z";

    fn node(ready: Option<&str>, taints: Value) -> Node {
        let conditions: Vec<Value> = ready
            .map(|status| json!({"type": "Ready", "status": status, "lastTransitionTime": "2026-06-01T11:30:00Z"}))
            .into_iter()
            .collect();
        let node = json!({"metadata": {"name": "a", "uid": "a"}, "spec": {"taints": taints}, "status": {"conditions": conditions}});
        serde_json::from_value(node).expect("a Node")
    }

    fn check(node: &Node, silent_seconds: u64, expected: Value) {
        let now: Timestamp = NOW.parse().expect("a time");
        let plan = plan(node, Duration::from_secs(silent_seconds), now);
        let seen = match (plan.status, plan.taints, plan.next) {
            (Some(Write::MergeStatus { patch, .. }), None, _) => {
                let conditions = patch["status"]["conditions"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                let ready = conditions
                    .iter()
                    .find(|c| c["type"] == "Ready")
                    .expect("Ready");
                json!([ready["status"], ready["reason"]])
            }
            (None, Some(Write::Merge { patch, .. }), _) => {
                let taints = patch["spec"]["taints"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                taints
                    .iter()
                    .map(|taint| {
                        json!(format!(
                            "{}:{}",
                            taint["key"].as_str().unwrap_or_default(),
                            taint["effect"].as_str().unwrap_or_default()
                        ))
                    })
                    .collect()
            }
            (None, None, Next::After(delay)) => json!(delay.as_secs()),
            (None, None, Next::OnChange) => json!("nothing"),
            other => panic!("unexpected {other:?}"),
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_silent_node_is_given_up_after_forty_seconds() {
        check(&node(Some("True"), json!([])), 10, json!(30));
        check(
            &node(Some("True"), json!([])),
            40,
            json!(["Unknown", "NodeStatusUnknown"]),
        );
        check(
            &node(
                Some("False"),
                json!([{"key": NOT_READY, "effect": "NoSchedule"}, {"key": NOT_READY, "effect": "NoExecute"}]),
            ),
            39,
            json!(1),
        );
        check(
            &node(None, json!([{"key": NOT_READY, "effect": "NoSchedule"}])),
            59,
            json!(1),
        );
        check(
            &node(None, json!([])),
            60,
            json!(["Unknown", "NodeStatusNeverUpdated"]),
        );
    }

    #[test]
    fn taints_follow_the_conditions_and_spare_those_of_others() {
        let both = |key: &str| json!([format!("{key}:NoSchedule"), format!("{key}:NoExecute")]);
        check(&node(Some("False"), json!([])), 0, both(NOT_READY));
        check(&node(Some("Unknown"), json!([])), 0, both(UNREACHABLE));
        check(
            &node(
                Some("True"),
                json!([{"key": NOT_READY, "effect": "NoSchedule"}]),
            ),
            0,
            json!([]),
        );
        let foreign = json!([{"key": "gpu", "effect": "NoSchedule"}, {"key": UNREACHABLE, "effect": "NoExecute"}]);
        check(&node(Some("True"), foreign), 0, json!(["gpu:NoSchedule"]));
        let mut cordoned = node(Some("True"), json!([]));
        cordoned.spec.get_or_insert_default().unschedulable = Some(true);
        check(
            &cordoned,
            0,
            json!(["node.kubernetes.io/unschedulable:NoSchedule"]),
        );
    }

    #[test]
    fn pods_lose_readiness_with_their_node_but_may_regain_it() {
        let pod = |since: &str| -> Arc<Pod> {
            let pod = json!({"metadata": {"name": "p"}, "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}]}});
            Arc::new(serde_json::from_value(pod).expect("a pod"))
        };
        let now: Timestamp = NOW.parse().expect("a time");
        let count = |status: &str, since: &str| {
            unready(&node(Some(status), json!([])), &[pod(since)], now).len()
        };
        assert_eq!(count("Unknown", "2026-06-01T11:00:00Z"), 1);
        assert_eq!(count("False", "2026-06-01T11:00:00Z"), 1);
        assert_eq!(count("True", "2026-06-01T11:00:00Z"), 0);
        assert_eq!(count("False", "2026-06-01T11:45:00Z"), 0);
    }
}
