//! Which pods a node's `NoExecute` taints drive away, and when.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

use super::ages::Borne;
use crate::controllers::pods;
use crate::controllers::queue::Next;
use crate::controllers::scheduler::bears;

pub(super) struct Plan {
    pub(super) due: Vec<Arc<Pod>>,
    pub(super) next: Next,
}

/// Says whether the node has a taint that drives pods away.
pub(super) fn is_evicting(node: &Node) -> bool {
    evicting(node).next().is_some()
}

/// The taints of `node` that drive pods away.
pub(super) fn evicting(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    taints.iter().filter(|taint| taint.effect == "NoExecute")
}

/// Plans the evictions that are due and the moment of the next.
pub(super) fn plan(taints: &[Borne], on_node: &[Arc<Pod>]) -> Plan {
    let mut plan = Plan {
        due: Vec::new(),
        next: Next::OnChange,
    };
    if taints.is_empty() {
        return plan;
    }
    for pod in on_node.iter().filter(|pod| pods::is_active(pod)) {
        match stays(pod, taints) {
            Stay::Forever => {}
            Stay::For(left) if left.is_zero() => plan.due.push(Arc::clone(pod)),
            Stay::For(left) => {
                plan.next = match plan.next {
                    Next::After(delay) => Next::After(delay.min(left)),
                    Next::OnChange => Next::After(left),
                }
            }
        }
    }
    plan
}

#[derive(Debug, PartialEq)]
enum Stay {
    Forever,
    For(Duration),
}

fn stays(pod: &Pod, taints: &[Borne]) -> Stay {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let mut stay = Stay::Forever;
    for Borne { taint, age } in taints {
        let bearing: Vec<&Toleration> = tolerations
            .iter()
            .filter(|toleration| bears(toleration, taint))
            .collect();
        if bearing.is_empty() {
            return Stay::For(Duration::ZERO);
        }
        let Some(seconds) = bearing
            .iter()
            .filter_map(|toleration| toleration.toleration_seconds)
            .min()
        else {
            continue;
        };
        let borne_at_most = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let left = borne_at_most.saturating_sub(*age);
        stay = match stay {
            Stay::Forever => Stay::For(left),
            Stay::For(earlier) => Stay::For(earlier.min(left)),
        };
    }
    stay
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(taints: Value, tolerations: Value, expected: &Stay) {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"taints": taints}}))
                .expect("a Node");
        let age = Duration::from_secs(60);
        let borne = |taint: &Taint| Borne {
            taint: taint.clone(),
            age,
        };
        let taints: Vec<Borne> = evicting(&node).map(borne).collect();
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [], "nodeName": "a", "tolerations": tolerations}});
        let pod = Arc::new(serde_json::from_value(pod).expect("a pod"));
        let plan = plan(&taints, &[pod]);
        let seen = match (plan.due.len(), plan.next) {
            (1, Next::OnChange) => Stay::For(Duration::ZERO),
            (0, Next::After(left)) => Stay::For(left),
            (0, Next::OnChange) => Stay::Forever,
            other => panic!("unexpected {other:?}"),
        };
        assert_eq!(seen, *expected);
    }

    #[test]
    fn pods_stay_as_long_as_they_tolerate_every_taint() {
        let unreachable = json!({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"});
        let bear = |seconds: Value| json!({"key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": seconds});
        let seconds = |seconds| Stay::For(Duration::from_secs(seconds));
        check(json!([]), json!([]), &Stay::Forever);
        check(
            json!([{"key": "x", "effect": "NoSchedule"}]),
            json!([]),
            &Stay::Forever,
        );
        check(json!([unreachable]), json!([]), &seconds(0));
        check(
            json!([unreachable]),
            json!([bear(json!(300))]),
            &seconds(240),
        );
        check(json!([unreachable]), json!([bear(json!(60))]), &seconds(0));
        check(
            json!([unreachable]),
            json!([bear(json!(null))]),
            &Stay::Forever,
        );
        check(
            json!([unreachable]),
            json!([bear(json!(300)), bear(json!(90))]),
            &seconds(30),
        );
        let second = json!({"key": "x", "effect": "NoExecute"});
        check(
            json!([unreachable, second]),
            json!([bear(json!(300))]),
            &seconds(0),
        );
    }
}
