//! Binding a pod to a node, as the scheduler does through `/binding`.

use serde_json::{Value, json};

use super::super::checks::Errors;
use crate::{
    field::{Error, Path},
    walk,
};

/// Validates the `Binding` itself.
pub fn validate(binding: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("target");
    let kind = walk::text(binding, "target.kind");
    if !kind.is_empty() && kind != "Node" {
        let path = path.child("kind");
        errors.push(Error::not_supported(&path, kind, &["Node", "<empty>"]));
    }
    if walk::text(binding, "target.name").is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    errors
}

/// Assigns a pod to the binding's node; `time` is the RFC 3339 time of the `PodScheduled` condition.
///
/// # Errors
/// What a 409 of `pods/binding` says after the pod's name.
pub fn bind(pod: &mut Value, binding: &Value, time: &str) -> Result<(), String> {
    let name = walk::text(pod, "metadata.name");
    let uid = walk::text(binding, "metadata.uid");
    let own_uid = walk::text(pod, "metadata.uid");
    if !uid.is_empty() && uid != own_uid {
        return Err(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {own_uid}"
        ));
    }
    if walk::has(pod, "metadata.deletionTimestamp") {
        return Err(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    let node = walk::text(pod, "spec.nodeName");
    if !node.is_empty() {
        let node = crate::field::quote(node);
        return Err(format!("pod {name} is already assigned to node {node}"));
    }
    if !walk::list(pod, "spec.schedulingGates").is_empty() {
        return Err(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let target = walk::at(binding, "target.name").clone();
    walk::object_mut(pod, "spec").insert("nodeName".into(), target);
    for field in ["annotations", "labels"] {
        for (key, value) in walk::entries(&binding["metadata"], field) {
            let map = walk::object_mut(pod, &format!("metadata.{field}"));
            map.insert(key.to_owned(), value.clone());
        }
    }
    scheduled(pod, time);
    Ok(())
}

fn scheduled(pod: &mut Value, time: &str) {
    walk::object_mut(pod, "status").remove("nominatedNodeName");
    let condition = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": time,
    });
    let conditions = walk::object_mut(pod, "status")
        .entry("conditions")
        .or_insert_with(|| json!([]));
    let Value::Array(conditions) = conditions else {
        return;
    };
    match conditions
        .iter_mut()
        .find(|c| walk::text(c, "type") == "PodScheduled")
    {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-01-02T03:04:05Z";

    fn binding() -> Value {
        json!({"metadata": {"annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "n"}})
    }

    #[test]
    fn a_bound_pod_knows_its_node_and_says_so() {
        let mut pod =
            json!({"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Pending"}});
        assert_eq!(bind(&mut pod, &binding(), TIME), Ok(()));
        assert_eq!(pod["spec"]["nodeName"], "n");
        assert_eq!(pod["metadata"]["annotations"]["a"], "b");
        assert_eq!(pod["status"]["conditions"][0]["status"], "True");
        assert_eq!(pod["status"]["conditions"][0]["lastTransitionTime"], TIME);
    }

    #[test]
    fn pods_that_may_not_be_bound_say_why() {
        let check = |mut pod: Value, expected: &str| {
            pod["metadata"]["name"] = json!("p");
            assert_eq!(bind(&mut pod, &binding(), TIME), Err(expected.into()));
        };
        check(
            json!({"spec": {"nodeName": "m"}}),
            "pod p is already assigned to node \"m\"",
        );
        check(
            json!({"spec": {"schedulingGates": [{"name": "g"}]}}),
            "pod p has non-empty .spec.schedulingGates",
        );
        check(
            json!({"metadata": {"deletionTimestamp": TIME}}),
            "pod p is being deleted, cannot be assigned to a host",
        );
    }

    #[test]
    fn a_binding_has_to_name_a_node() {
        let errors = validate(&json!({"target": {"kind": "Rock"}}));
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "target.kind: Unsupported value: \"Rock\": supported values: \"Node\", \"<empty>\"",
                "target.name: Required value",
            ]
        );
    }
}
