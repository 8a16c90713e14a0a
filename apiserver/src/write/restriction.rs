//! What a node agent may make of the objects that are its own: a node does not choose the labels and taints it is judged by.

use std::collections::BTreeSet;

use knarr_api::{
    kind::Kind,
    kinds::{lease::LEASE, node::NODE, pod::POD},
    meta,
    status::Status,
};
use serde_json::Value;

use crate::User;

/// Labels of Kubernetes' own that agents set on their node.
const OWN_LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// Domains whose labels agents may set, whatever they are.
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const PUBLIC_DOMAINS: [&str; 2] = ["kubernetes.io", "k8s.io"];
/// For labels that tell nodes apart and that no node may give itself.
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";

/// A node agent registers itself and its own lease; the path of a create does not say what is created.
pub(super) fn check_create(user: &User, kind: &Kind, object: &Value) -> Result<(), Status> {
    let Some(node) = user.node_name() else {
        return Ok(());
    };
    let name = meta::name(object);
    let refuse = |detail: &str| Err(Status::forbidden(kind, name, detail));
    if std::ptr::eq(kind, &NODE) {
        if node != name {
            return refuse(&format!(
                "node {node:?} is not allowed to modify node {name:?}"
            ));
        }
        let forbidden = forbidden_labels(object, &Value::Null);
        if !forbidden.is_empty() {
            return refuse(&format!(
                "node {node:?} is not allowed to set the following labels: {forbidden}"
            ));
        }
    } else if std::ptr::eq(kind, &LEASE) && node != name {
        return refuse("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

/// What an agent may change of its node and its pods.
pub(super) fn check_update(
    user: &User,
    kind: &Kind,
    new: &Value,
    old: &Value,
) -> Result<(), Status> {
    let Some(node) = user.node_name() else {
        return Ok(());
    };
    let refuse = |detail: String| Err(Status::forbidden(kind, meta::name(old), &detail));
    if std::ptr::eq(kind, &NODE) {
        let differs = |pointer: &str| new.pointer(pointer) != old.pointer(pointer);
        if differs("/spec/taints") {
            return refuse(format!("node {node:?} is not allowed to modify taints"));
        }
        if differs("/metadata/ownerReferences") {
            return refuse(format!(
                "node {node:?} is not allowed to modify ownerReferences"
            ));
        }
        let forbidden = forbidden_labels(new, old);
        if !forbidden.is_empty() {
            return refuse(format!(
                "node {node:?} is not allowed to modify labels: {forbidden}"
            ));
        }
    } else if std::ptr::eq(kind, &POD) && meta::labels(new) != meta::labels(old) {
        return refuse(format!(
            "node {node:?} cannot update labels through pod status"
        ));
    }
    Ok(())
}

/// The labels that differ and are none of an agent's, in a list.
fn forbidden_labels(new: &Value, old: &Value) -> String {
    let value = |object, key: &str| meta::labels(object).and_then(|labels| labels.get(key));
    let keys = [new, old].into_iter().filter_map(meta::labels);
    let keys: BTreeSet<&String> = keys.flat_map(|labels| labels.keys()).collect();
    let changed = keys
        .into_iter()
        .filter(|key| value(new, key) != value(old, key));
    let forbidden: Vec<&str> = changed
        .map(String::as_str)
        .filter(|key| is_forbidden(key))
        .collect();
    forbidden.join(", ")
}

fn is_forbidden(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return false;
    };
    let is_within = |parent: &&str| {
        let rest = domain.strip_suffix(*parent);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if is_within(&RESTRICTED_DOMAIN) {
        return true;
    }
    let is_own = OWN_LABELS.contains(&key) || OWN_DOMAINS.iter().any(is_within);
    PUBLIC_DOMAINS.iter().any(is_within) && !is_own
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agent() -> User {
        User::new("system:node:a", &["system:nodes"])
    }

    fn node(labels: Value, taints: Value) -> Value {
        json!({"metadata": {"name": "a", "labels": labels}, "spec": {"taints": taints}})
    }

    #[test]
    fn a_node_does_not_choose_what_it_is_judged_by() {
        let old = node(json!({"zone": "x"}), json!([]));
        let check = |new: Value, expected: &str| {
            let outcome = check_update(&agent(), &NODE, &new, &old);
            let message = outcome.err().map(|status| status.message);
            let prefix = "nodes \"a\" is forbidden: node \"a\" ";
            let expected = (!expected.is_empty()).then(|| format!("{prefix}{expected}"));
            assert_eq!(message, expected, "{new}");
        };
        let labelled = |labels: Value| node(labels, json!([]));
        check(labelled(json!({"zone": "y", "example.com/a": "1"})), "");
        check(labelled(json!({"kubernetes.io/hostname": "a"})), "");
        check(labelled(json!({"x.node.kubernetes.io/y": "1"})), "");
        check(
            labelled(json!({"node-role.kubernetes.io/control-plane": ""})),
            "is not allowed to modify labels: node-role.kubernetes.io/control-plane",
        );
        check(
            labelled(json!({"a.k8s.io/b": "1", "example.node-restriction.kubernetes.io/c": "1"})),
            "is not allowed to modify labels: a.k8s.io/b, example.node-restriction.kubernetes.io/c",
        );
        check(
            node(
                json!({"zone": "x"}),
                json!([{"key": "k", "effect": "NoSchedule"}]),
            ),
            "is not allowed to modify taints",
        );
        let made = check_create(&agent(), &NODE, &labelled(json!({"kubernetes.io/x": "1"})));
        let message = made.err().map(|status| status.message).unwrap_or_default();
        assert!(
            message.ends_with("set the following labels: kubernetes.io/x"),
            "{message}"
        );
    }

    #[test]
    fn pods_keep_their_labels_and_others_may_do_as_they_like() {
        let pod = |app: &str| json!({"metadata": {"name": "p", "labels": {"app": app}}});
        let outcome = check_update(&agent(), &POD, &pod("a"), &pod("b"));
        let message = outcome.err().map(|status| status.message);
        let expected =
            "pods \"p\" is forbidden: node \"a\" cannot update labels through pod status";
        assert_eq!(message.as_deref(), Some(expected));
        let admin = User::new("admin", &["system:masters"]);
        assert!(check_update(&admin, &POD, &pod("a"), &pod("b")).is_ok());
        let other = node(json!({"kubernetes.io/x": "1"}), json!([]));
        assert!(check_update(&admin, &NODE, &other, &Value::Null).is_ok());
    }
}
