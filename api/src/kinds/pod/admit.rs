//! What admission adds to a new pod: its service account, the token that goes with it, tolerations and priority.
//!
//! Called between defaulting and `Kind::prepare_create`; looks nothing up, so the caller passes the account it found.

use serde_json::{Value, json};

use crate::{
    field::quote,
    walk::{self, fill, fill_zero},
};

const TOKEN_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKEN_SECONDS: i64 = 3607;
const TOLERATION_SECONDS: i64 = 300;
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The name of the service account a pod wants, which is the one the caller has to look up.
pub fn service_account(pod: &Value) -> &str {
    match walk::text(pod, "spec.serviceAccountName") {
        "" => "default",
        name => name,
    }
}

/// Whether service accounts are none of this pod's business: mirror pods only report what runs anyway.
pub fn is_exempt(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get(MIRROR).is_some()
}

/// Adds all of it, in the order of Kubernetes' own plugins.
///
/// `account` is the ServiceAccount of that name and `suffix` five random characters from the alphabet of generated names,
/// so that the token's volume collides with none of the pod's own.
///
/// # Errors
/// Why the pod is not let in.
pub fn admit(pod: &mut Value, account: &Value, suffix: &str) -> Result<(), String> {
    if !is_exempt(pod) {
        name_account(pod, account);
        if wants_token(pod, account) {
            mount_token(pod, &format!("kube-api-access-{suffix}"));
        }
    }
    prioritize(pod)?;
    tolerate_node_trouble(pod);
    match walk::text(pod, "spec.runtimeClassName") {
        "" => Ok(()),
        // No RuntimeClass is ever there.
        class => Err(format!(
            "pod rejected: RuntimeClass {} not found",
            quote(class)
        )),
    }
}

/// What is looked at once the pod is known to be valid.
///
/// # Errors
/// Why the pod is not let in.
pub fn confirm(pod: &Value) -> Result<(), &'static str> {
    if walk::entries(pod, "spec.overhead").next().is_none() {
        return Ok(());
    }
    // No RuntimeClass is ever there to define one.
    Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
}

/// Adds to a pod that is written again what a manifest of it leaves out.
pub fn readmit(pod: &mut Value, old: &Value) {
    for field in ["priority", "preemptionPolicy"] {
        let before = walk::at(&old["spec"], field);
        if walk::at(&pod["spec"], field).is_null() && !before.is_null() {
            walk::object_mut(pod, "spec").insert(field.to_owned(), before.clone());
        }
    }
    tolerate_node_trouble(pod);
}

fn name_account(pod: &mut Value, account: &Value) {
    let name = service_account(pod).to_owned();
    let spec = walk::object_mut(pod, "spec");
    spec.insert("serviceAccountName".into(), json!(name));
    spec.insert("serviceAccount".into(), json!(name));
    let secrets = walk::list(account, "imagePullSecrets");
    if !secrets.is_empty() && walk::list(pod, "spec.imagePullSecrets").is_empty() {
        walk::object_mut(pod, "spec").insert("imagePullSecrets".into(), json!(secrets));
    }
}

/// The pod's own word counts before the account's; silence means yes.
fn wants_token(pod: &Value, account: &Value) -> bool {
    let field = "automountServiceAccountToken";
    walk::at(&pod["spec"], field)
        .as_bool()
        .or_else(|| walk::at(account, field).as_bool())
        .unwrap_or(true)
}

fn mount_token(pod: &mut Value, volume: &str) {
    let mut is_needed = false;
    for list in ["spec.initContainers", "spec.containers"] {
        for container in walk::list_mut(pod, list) {
            let has_own = walk::list(container, "volumeMounts")
                .iter()
                .any(|mount| walk::text(mount, "mountPath") == TOKEN_DIRECTORY);
            if !has_own {
                is_needed = true;
                let mount = json!({"mountPath": TOKEN_DIRECTORY, "name": volume, "readOnly": true});
                push(container, "volumeMounts", mount);
            }
        }
    }
    if is_needed {
        push(&mut pod["spec"], "volumes", token_volume(volume));
    }
}

fn push(holder: &mut Value, list: &str, element: Value) {
    let list = walk::object_mut(holder, "")
        .entry(list)
        .or_insert(Value::Null);
    match list {
        Value::Array(elements) => elements.push(element),
        other => *other = json!([element]),
    }
}

fn token_volume(name: &str) -> Value {
    let bundle = |map: &str, key: &str| json!({"configMap": {"items": [{"key": key, "path": key}], "name": map}});
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                bundle("kube-root-ca.crt", "ca.crt"),
                {"downwardAPI": {"items": [{
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                    "path": "namespace",
                }]}},
                // The reference server projects this bundle as well, so a comparison of stored pods expects it.
                bundle("openshift-service-ca.crt", "service-ca.crt"),
            ],
        },
    })
}

/// A node that is not ready or unreachable keeps the pod for five minutes, unless the pod says otherwise.
fn tolerate_node_trouble(pod: &mut Value) {
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let tolerated = walk::list(pod, "spec.tolerations")
            .iter()
            .any(|toleration| {
                let own_key = walk::text(toleration, "key");
                let effect = walk::text(toleration, "effect");
                (own_key == key || own_key.is_empty())
                    && (effect == "NoExecute" || effect.is_empty())
            });
        if !tolerated {
            let toleration = json!({
                "effect": "NoExecute",
                "key": key,
                "operator": "Exists",
                "tolerationSeconds": TOLERATION_SECONDS,
            });
            push(&mut pod["spec"], "tolerations", toleration);
        }
    }
}

/// The two classes that every cluster has give their priority; no class gives none.
fn prioritize(pod: &mut Value) -> Result<(), String> {
    let priority = match walk::text(pod, "spec.priorityClassName") {
        "" => 0,
        "system-cluster-critical" => 2_000_000_000,
        "system-node-critical" => 2_000_001_000,
        other => return Err(format!("no PriorityClass with name {other} was found")),
    };
    let given = |what: &str, value: &dyn std::fmt::Display, computed: &dyn std::fmt::Display| {
        Err(format!(
            "the {what} ({value}) must not be provided in pod spec; \
             priority admission controller computed {computed} from the given PriorityClass name"
        ))
    };
    if let Some(value) = walk::integer(pod, "spec.priority").filter(|value| *value != priority) {
        return given("integer value of priority", &value, &priority);
    }
    const POLICY: &str = "PreemptLowerPriority";
    if let Some(policy) = walk::at(pod, "spec.preemptionPolicy").as_str()
        && policy != POLICY
    {
        return given("string value of PreemptionPolicy", &policy, &POLICY);
    }
    let spec = walk::object_mut(pod, "spec");
    fill(spec, "priority", priority);
    fill_zero(spec, "preemptionPolicy", POLICY);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(spec: Value, account: Value) -> Value {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": spec});
        admit(&mut pod, &account, "abcde").unwrap();
        pod["spec"].take()
    }

    #[test]
    fn a_pod_without_wishes_gets_the_default_account_and_its_token() {
        let spec = admitted(json!({"containers": [{"name": "c"}]}), json!({}));
        assert_eq!(spec["serviceAccountName"], "default");
        assert_eq!(spec["serviceAccount"], "default");
        assert_eq!(spec["volumes"][0]["name"], "kube-api-access-abcde");
        assert_eq!(
            spec["containers"][0]["volumeMounts"],
            json!([{"mountPath": TOKEN_DIRECTORY, "name": "kube-api-access-abcde", "readOnly": true}])
        );
        assert_eq!(spec["priority"], 0);
        assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn the_pod_decides_about_its_token_before_the_account_does() {
        let with = |pod: Value, account: Value| {
            let spec = json!({"containers": [{"name": "c"}], "automountServiceAccountToken": pod});
            !admitted(spec, json!({"automountServiceAccountToken": account}))["volumes"].is_null()
        };
        assert!(with(json!(true), json!(false)));
        assert!(!with(json!(false), json!(true)));
        assert!(!with(json!(null), json!(false)));
        assert!(with(json!(null), json!(null)));
    }

    #[test]
    fn a_container_with_its_own_token_mount_is_left_alone() {
        let mount = json!([{"mountPath": TOKEN_DIRECTORY, "name": "own"}]);
        let spec = admitted(
            json!({"containers": [{"name": "c", "volumeMounts": mount}]}),
            json!({}),
        );
        assert!(spec["volumes"].is_null());
        assert_eq!(spec["containers"][0]["volumeMounts"], mount);
    }

    #[test]
    fn own_tolerations_of_node_trouble_stand() {
        let own = json!({"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"});
        let spec = admitted(json!({"tolerations": [own]}), json!({}));
        assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
        let all = json!([{"operator": "Exists"}]);
        let spec = admitted(json!({"tolerations": all}), json!({}));
        assert_eq!(spec["tolerations"], all);
    }

    #[test]
    fn classes_that_are_not_there_keep_a_pod_out() {
        let check = |spec: Value, expected: &str| {
            let mut pod = json!({"metadata": {"name": "p"}, "spec": spec});
            let outcome = admit(&mut pod, &json!({}), "abcde");
            assert_eq!(outcome.err().unwrap_or_default(), expected);
        };
        check(json!({"priorityClassName": "system-node-critical"}), "");
        check(json!({"priority": 0}), "");
        check(
            json!({"priorityClassName": "high"}),
            "no PriorityClass with name high was found",
        );
        check(
            json!({"priority": 5}),
            "the integer value of priority (5) must not be provided in pod spec; \
             priority admission controller computed 0 from the given PriorityClass name",
        );
        check(
            json!({"preemptionPolicy": "Never"}),
            "the string value of PreemptionPolicy (Never) must not be provided in pod spec; \
             priority admission controller computed PreemptLowerPriority from the given PriorityClass name",
        );
        check(
            json!({"runtimeClassName": "gvisor"}),
            "pod rejected: RuntimeClass \"gvisor\" not found",
        );
    }

    #[test]
    fn a_pod_written_again_keeps_its_priority_and_tolerations() {
        let old = json!({"spec": {"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}});
        let mut pod = json!({"spec": {}});
        readmit(&mut pod, &old);
        assert_eq!(pod["spec"]["priority"], 0);
        assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
    }
}
