//! Whether a pod may run on a node.

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration,
};

use crate::controllers::selector;

/// The most that one preference weighs; a taint that is to be avoided weighs as much.
const WEIGHT_MAX: i64 = 100;
const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

/// Why a pod cannot run on a node, ordered as reports list the reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Misfit {
    Selector,
    TooManyPods,
    Cpu,
    Memory,
    HostPort,
    NotReady,
    Tainted,
    Unschedulable,
    Affinity,
    AntiAffinity,
    ExistingAntiAffinity,
    Spread,
    SpreadLabel,
}

impl Misfit {
    /// As Kubernetes words it, after a count of nodes.
    pub(super) fn text(self) -> &'static str {
        match self {
            Misfit::Selector => "node(s) didn't match Pod's node affinity/selector",
            Misfit::TooManyPods => "Too many pods",
            Misfit::Cpu => "Insufficient cpu",
            Misfit::Memory => "Insufficient memory",
            Misfit::HostPort => "node(s) didn't have free ports for the requested pod ports",
            Misfit::NotReady => "node(s) were not ready",
            Misfit::Tainted => "node(s) had untolerated taint(s)",
            Misfit::Unschedulable => "node(s) were unschedulable",
            Misfit::Affinity => "node(s) didn't match pod affinity rules",
            Misfit::AntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Misfit::ExistingAntiAffinity => {
                "node(s) didn't satisfy existing pods anti-affinity rules"
            }
            Misfit::Spread => "node(s) didn't match pod topology spread constraints",
            Misfit::SpreadLabel => {
                "node(s) didn't match pod topology spread constraints (missing required label)"
            }
        }
    }
}

/// Checks everything but what other pods use up.
pub(in super::super) fn fits(pod: &Pod, node: &Node) -> Result<(), Misfit> {
    if !matches_node(pod, node) {
        return Err(Misfit::Selector);
    }
    let spec = node.spec.as_ref();
    if spec.and_then(|spec| spec.unschedulable) == Some(true) {
        let taint = Taint {
            key: UNSCHEDULABLE_TAINT.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        if !tolerates(tolerations(pod), &taint) {
            return Err(Misfit::Unschedulable);
        }
    }
    if bears_taints(pod, node) {
        Ok(())
    } else {
        Err(Misfit::Tainted)
    }
}

/// Whether no taint of the node keeps the pod away.
pub(super) fn bears_taints(pod: &Pod, node: &Node) -> bool {
    let repels = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    taints(node)
        .filter(repels)
        .all(|taint| tolerates(tolerations(pod), taint))
}

fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.into_iter().flatten()
}

/// How well a node suits a pod beyond what it must have; more is better.
pub(super) fn preference(pod: &Pod, node: &Node) -> i64 {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let preferred = affinity
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|a| {
            a.preferred_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let suits = preferred.into_iter().flatten();
    let suits = suits.filter(|term| term_matches(&term.preference, node));
    let suits: i64 = suits.map(|term| i64::from(term.weight)).sum();
    let avoided =
        |taint: &&Taint| taint.effect == "PreferNoSchedule" && !tolerates(tolerations(pod), taint);
    suits - WEIGHT_MAX * i64::try_from(taints(node).filter(avoided).count()).unwrap_or(i64::MAX)
}

pub(super) fn tolerations(pod: &Pod) -> &[Toleration] {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default()
}

/// Says whether one of `tolerations` bears with `taint`.
pub(in super::super) fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations
        .iter()
        .any(|toleration| bears(toleration, taint))
}

/// Says whether `toleration` bears with `taint`.
pub(in super::super) fn bears(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    if !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        Some("Equal" | "") | None => {
            toleration.value.as_deref().unwrap_or_default()
                == taint.value.as_deref().unwrap_or_default()
        }
        Some(_) => false,
    }
}

pub(super) fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// What the node says pods may use, as written.
pub(super) fn allocatable(node: &Node) -> Option<std::collections::BTreeMap<String, String>> {
    let allocatable = node.status.as_ref()?.allocatable.as_ref()?;
    Some(
        allocatable
            .iter()
            .map(|(name, quantity)| (name.clone(), quantity.0.clone()))
            .collect(),
    )
}

pub(super) fn matches_node(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let labels = node.metadata.labels.as_ref();
    if let Some(pairs) = &spec.node_selector
        && !selector::pairs_match(pairs, labels)
    {
        return false;
    }
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    required.is_none_or(|required| {
        required
            .node_selector_terms
            .iter()
            .any(|term| term_matches(term, node))
    })
}

/// An empty term matches no node.
fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let labels = node.metadata.labels.as_ref();
    let label = |key: &str| {
        labels
            .and_then(|labels| labels.get(key))
            .map(String::as_str)
    };
    let field = |key: &str| {
        node.metadata
            .name
            .as_deref()
            .filter(|_| key == "metadata.name")
    };
    expressions.iter().all(|r| meets(r, label(&r.key)))
        && fields.iter().all(|r| meets(r, field(&r.key)))
}

fn meets(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = |value: &str| values.iter().any(|v| v == value);
    let bound = || values.first().and_then(|bound| bound.parse::<i64>().ok());
    let number = || value.and_then(|value| value.parse::<i64>().ok());
    match requirement.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number()
            .zip(bound())
            .is_some_and(|(number, bound)| number > bound),
        "Lt" => number()
            .zip(bound())
            .is_some_and(|(number, bound)| number < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node() -> Node {
        let node = json!({"metadata": {"name": "n1", "labels": {"disk": "ssd", "cores": "8"}},
            "spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}, {"key": "soft", "effect": "PreferNoSchedule"}]}});
        serde_json::from_value(node).expect("a Node")
    }

    fn check(spec: Value, expected: Result<(), Misfit>) {
        let mut full =
            json!({"containers": [], "tolerations": [{"key": "gpu", "operator": "Exists"}]});
        for (key, value) in spec.as_object().into_iter().flatten() {
            full[key] = value.clone();
        }
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {}, "spec": full})).expect("a pod");
        assert_eq!(fits(&pod, &node()), expected, "{full}");
    }

    fn affinity(terms: Value) -> Value {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    }

    #[test]
    fn selectors_and_affinity_choose_nodes() {
        check(json!({}), Ok(()));
        check(json!({"nodeSelector": {"disk": "ssd"}}), Ok(()));
        check(
            json!({"nodeSelector": {"disk": "hdd"}}),
            Err(Misfit::Selector),
        );
        let named = |name: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
        check(affinity(json!([named("n1")])), Ok(()));
        check(affinity(json!([named("n2")])), Err(Misfit::Selector));
        check(affinity(json!([named("n2"), named("n1")])), Ok(()));
        check(affinity(json!([{}])), Err(Misfit::Selector));
        for (operator, values, expected) in [
            ("Gt", json!(["4"]), true),
            ("Gt", json!(["8"]), false),
            ("Lt", json!(["9"]), true),
            ("NotIn", json!(["8"]), false),
            ("Exists", json!([]), true),
            ("DoesNotExist", json!([]), false),
        ] {
            let terms = json!([{"matchExpressions": [{"key": "cores", "operator": operator, "values": values}]}]);
            check(
                affinity(terms),
                if expected {
                    Ok(())
                } else {
                    Err(Misfit::Selector)
                },
            );
        }
    }

    #[test]
    fn preferences_and_soft_taints_rank_nodes() {
        let check = |spec: Value, expected: i64| {
            let mut full = json!({"containers": []});
            for (key, value) in spec.as_object().into_iter().flatten() {
                full[key] = value.clone();
            }
            let pod = json!({"metadata": {}, "spec": full});
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            assert_eq!(preference(&pod, &node()), expected, "{full}");
        };
        let on = |disk: &str| json!({"weight": 7, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": [disk]}]}});
        let preferring = |terms: Value| json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}});
        check(json!({}), -100);
        check(
            json!({"tolerations": [{"key": "soft", "operator": "Exists"}]}),
            0,
        );
        check(preferring(json!([on("ssd"), on("hdd")])), 7 - 100);
    }

    #[test]
    fn taints_repel_pods_that_do_not_tolerate_them() {
        check(json!({"tolerations": []}), Err(Misfit::Tainted));
        check(
            json!({"tolerations": [{"key": "gpu", "value": "yes"}]}),
            Ok(()),
        );
        check(
            json!({"tolerations": [{"key": "gpu", "value": "no"}]}),
            Err(Misfit::Tainted),
        );
        check(
            json!({"tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}]}),
            Err(Misfit::Tainted),
        );
        check(json!({"tolerations": [{"operator": "Exists"}]}), Ok(()));
    }
}
