//! What writes through `/status` may say of a pod.

use serde_json::{Value, json};

use super::{
    super::{
        checks::{self, Errors},
        internal,
    },
    validate,
};
use crate::{
    field::{Error, Path},
    meta,
    names::address::{self, Family},
    walk,
};

const CONDITIONS_OF_SYSTEM: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];

/// Keeps the spec and what a node may not change; a class of service once given stays.
pub fn prepare(new: &mut Value, old: &Value) {
    walk::carry(new, old, "spec");
    if let Some(meta) = new.get_mut("metadata") {
        walk::carry(meta, walk::at(old, "metadata"), "ownerReferences");
    }
    let class = walk::at(old, "status.qosClass").clone();
    let status = walk::object_mut(new, "status");
    if !class.is_null() {
        walk::fill_zero(status, "qosClass", class);
    }
    mirror_addresses(status, "podIP", "podIPs");
    mirror_addresses(status, "hostIP", "hostIPs");
    keep_observed_generations(new, old);
    fill_shapes(new);
}

/// `podIP` and the first of `podIPs` are one and the same.
fn mirror_addresses(status: &mut serde_json::Map<String, Value>, one: &str, many: &str) {
    let first = status
        .get(many)
        .and_then(|list| list.get(0))
        .map(|entry| walk::text(entry, "ip").to_owned());
    let single = status
        .get(one)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    match first {
        Some(first) if single.is_empty() => {
            status.insert(one.into(), json!(first));
        }
        None if !single.is_empty() => {
            status.insert(many.into(), json!([{"ip": single}]));
        }
        Some(first) if many == "podIPs" && first != single => {
            status.insert(many.into(), json!([{"ip": single}]));
        }
        _ => {}
    }
}

fn keep_observed_generations(new: &mut Value, old: &Value) {
    let before = walk::at(old, "status.observedGeneration").clone();
    if !before.is_null() {
        walk::fill_zero(
            walk::object_mut(new, "status"),
            "observedGeneration",
            before,
        );
    }
    let mut known: Vec<(&str, &Value)> = walk::list(old, "status.conditions")
        .iter()
        .map(|condition| {
            (
                walk::text(condition, "type"),
                walk::at(condition, "observedGeneration"),
            )
        })
        .collect();
    for condition in walk::list_mut(new, "status.conditions") {
        let kind = walk::text(condition, "type").to_owned();
        let Some(index) = known.iter().position(|(other, _)| *other == kind) else {
            continue;
        };
        let (_, generation) = known.remove(index);
        if !generation.is_null() {
            let map = walk::object_mut(condition, "");
            walk::fill_zero(map, "observedGeneration", generation.clone());
        }
    }
}

/// Fields that are always written, as Go writes the zero values of times and structs.
pub fn fill_shapes(pod: &mut Value) {
    for condition in walk::list_mut(pod, "status.conditions") {
        let map = walk::object_mut(condition, "");
        for time in ["lastProbeTime", "lastTransitionTime"] {
            map.entry(time).or_insert(Value::Null);
        }
    }
    for list in [
        "status.containerStatuses",
        "status.initContainerStatuses",
        "status.ephemeralContainerStatuses",
    ] {
        for status in walk::list_mut(pod, list) {
            let map = walk::object_mut(status, "");
            for (name, zero) in [
                ("name", json!("")),
                ("state", json!({})),
                ("lastState", json!({})),
                ("ready", json!(false)),
                ("restartCount", json!(0)),
                ("image", json!("")),
                ("imageID", json!("")),
            ] {
                walk::fill(map, name, zero);
            }
            fill_state_times(status);
        }
    }
}

fn fill_state_times(status: &mut Value) {
    for state in ["state", "lastState"] {
        if let Some(running) = walk::at_mut(status, &format!("{state}.running"))
            && running.is_object()
        {
            walk::object_mut(running, "")
                .entry("startedAt")
                .or_insert(Value::Null);
        }
        if let Some(terminated) = walk::at_mut(status, &format!("{state}.terminated"))
            && terminated.is_object()
        {
            let map = walk::object_mut(terminated, "");
            walk::fill(map, "exitCode", 0);
            for time in ["startedAt", "finishedAt"] {
                map.entry(time).or_insert(Value::Null);
            }
        }
    }
}

/// Validates a write through `/status`.
pub fn validate(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("status");
    let path_annotations = Path::new("metadata").child("annotations");
    validate::annotations(
        &mut errors,
        &path_annotations,
        walk::at(new, "metadata"),
        walk::at(new, "spec"),
    );
    conditions(&mut errors, &path.child("conditions"), new);
    nominated_node(&mut errors, &path.child("nominatedNodeName"), new, old);
    if let Some(generation) = walk::integer(new, "status.observedGeneration").filter(|g| *g < 0) {
        let path = path.child("observedGeneration");
        errors.push(Error::invalid(
            &path,
            generation,
            "must be a non-negative integer",
        ));
    }
    let class = walk::at(new, "status.qosClass");
    if class != walk::at(old, "status.qosClass") {
        let shown = class.as_str().unwrap_or_default();
        errors.push(Error::invalid(
            &path.child("qosClass"),
            shown,
            meta::IMMUTABLE,
        ));
    }
    for (list, containers) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", "ephemeralContainers"),
    ] {
        no_revival(&mut errors, &path.child(list), new, old, list, containers);
    }
    addresses(&mut errors, &path.child("podIPs"), new, old, "podIPs");
    host_addresses(&mut errors, &path.child("hostIPs"), new, old);
    errors
}

fn conditions(errors: &mut Errors, path: &Path, pod: &Value) {
    for (index, condition) in walk::list(pod, "status.conditions").iter().enumerate() {
        let path = path.index(index);
        if let Some(generation) = walk::integer(condition, "observedGeneration").filter(|g| *g < 0)
        {
            let path = path.child("observedGeneration");
            errors.push(Error::invalid(
                &path,
                generation,
                "must be a non-negative integer",
            ));
        }
        let kind = walk::text(condition, "type");
        if !CONDITIONS_OF_SYSTEM.contains(&kind) {
            checks::qualified_name(errors, &path.child("Type"), kind);
        }
    }
}

fn nominated_node(errors: &mut Errors, path: &Path, new: &Value, old: &Value) {
    let (now, before) = (
        walk::text(new, "status.nominatedNodeName"),
        walk::text(old, "status.nominatedNodeName"),
    );
    if now == before || now.is_empty() {
        return;
    }
    checks::complain(errors, path, now, crate::names::dns1123_subdomain(now));
    if !walk::text(old, "spec.nodeName").is_empty() {
        let detail = "may not be set on pods that are already bound to a node";
        errors.push(Error::forbidden(path, detail));
    }
}

/// A container that ended for good may not be said to live again.
fn no_revival(
    errors: &mut Errors,
    path: &Path,
    new: &Value,
    old: &Value,
    list: &str,
    containers: &str,
) {
    let field = format!("status.{list}");
    let now = walk::list(new, &field);
    for (index, before) in walk::list(old, &field).iter().enumerate() {
        let name = walk::text(before, "name");
        let Some(exit_code) = walk::integer(before, "state.terminated.exitCode") else {
            continue;
        };
        let revived = now.iter().any(|status| {
            walk::text(status, "name") == name && !walk::has(status, "state.terminated")
        });
        if revived && !may_restart(walk::at(old, "spec"), containers, name, exit_code) {
            let detail = "may not be transitioned to non-terminated state";
            errors.push(Error::forbidden(&path.index(index).child("state"), detail));
        }
    }
}

fn may_restart(spec: &Value, list: &str, name: &str, exit_code: i64) -> bool {
    if list == "ephemeralContainers" {
        return false;
    }
    let Some(container) = walk::list(spec, list)
        .iter()
        .find(|container| walk::text(container, "name") == name)
    else {
        return false;
    };
    if rule_restarts(container, exit_code) {
        return true;
    }
    let own = walk::text(container, "restartPolicy");
    let of_pod = walk::text(spec, "restartPolicy");
    match if own.is_empty() { of_pod } else { own } {
        "Always" => true,
        "OnFailure" => exit_code != 0,
        _ => false,
    }
}

fn rule_restarts(container: &Value, exit_code: i64) -> bool {
    walk::list(container, "restartPolicyRules")
        .iter()
        .any(|rule| {
            let listed = walk::list(rule, "exitCodes.values")
                .iter()
                .any(|value| value.as_i64() == Some(exit_code));
            walk::text(rule, "action") == "Restart"
                && match walk::text(rule, "exitCodes.operator") {
                    "In" => listed,
                    "NotIn" => !listed,
                    _ => false,
                }
        })
}

fn host_addresses(errors: &mut Errors, path: &Path, new: &Value, old: &Value) {
    let Some(first) = walk::list(new, "status.hostIPs").first() else {
        return;
    };
    let first = walk::text(first, "ip");
    if first != walk::text(new, "status.hostIP") {
        let path = path.index(0).child("ip");
        errors.push(Error::invalid(&path, first, "must be equal to `hostIP`"));
    }
    addresses(errors, path, new, old, "hostIPs");
}

fn addresses(errors: &mut Errors, path: &Path, new: &Value, old: &Value, list: &str) {
    let texts = |pod: &'_ Value| -> Vec<String> {
        walk::list(pod, &format!("status.{list}"))
            .iter()
            .map(|entry| walk::text(entry, "ip").to_owned())
            .collect()
    };
    let (now, before) = (texts(new), texts(old));
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    for (index, ip) in now.iter().enumerate() {
        errors.extend(address::validate_legacy(&path.index(index), ip, &before));
    }
    if now.len() < 2 {
        return;
    }
    let families: Vec<Family> = now
        .iter()
        .filter_map(|ip| address::parse_sloppy(ip))
        .map(Family::of)
        .collect();
    if families.len() == now.len() && (now.len() > 2 || families.first() == families.last()) {
        let detail = "may specify no more than one IP for each IP family";
        let entries: Vec<Value> = now.iter().map(|ip| json!({"ip": ip})).collect();
        let shown = internal::show("[]PodIP", &json!(entries));
        checks::invalid_shown(errors, path, &shown, detail);
    }
}
