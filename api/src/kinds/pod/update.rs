//! What may change of a pod once it is stored, through the pod itself and through its subresources.

use serde_json::{Value, json};

use super::{
    super::{
        checks::{self, Errors},
        internal,
    },
    containers, resources, scheduling,
    validate::{self, annotations},
};
use crate::{
    field::{Error, Path},
    meta, names, walk,
};

const MIRROR: &str = "kubernetes.io/config.mirror";
const UNCHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Validates a write of a stored pod.
pub fn validate(new: &Value, old: &Value) -> Errors {
    let mut errors = super::POD.validate_metadata(new);
    validate::metadata_and_spec(&mut errors, new);
    annotation_changes(&mut errors, new, old);
    let path = Path::new("spec");
    for list in ["containers", "initContainers"] {
        if !container_list(&mut errors, &path.child(list), new, old, list) {
            return errors;
        }
    }
    if !deadline(&mut errors, &path.child("activeDeadlineSeconds"), new, old) {
        return errors;
    }
    tolerations(&mut errors, &path.child("tolerations"), new, old);
    gates(&mut errors, &path.child("schedulingGates"), new, old);
    let (new_spec, old_spec) = (walk::at(new, "spec"), walk::at(old, "spec"));
    if walk::same(new_spec, old_spec) {
        return errors;
    }
    let mut rest = with_changeable_fields_of(new_spec, old_spec);
    if !walk::list(old_spec, "schedulingGates").is_empty() {
        gated_changes(&mut errors, &mut rest, old_spec);
    }
    if !walk::same(&rest, old_spec) {
        let diff = internal::diff::of("PodSpec", old_spec, &rest);
        let detail = format!("{UNCHANGEABLE}\n{diff}");
        errors.push(Error::forbidden(&path, &detail));
    }
    errors
}

fn annotation_changes(errors: &mut Errors, new: &Value, old: &Value) {
    let path = Path::new("metadata").child("annotations");
    let (now, before) = (meta::annotation(new, MIRROR), meta::annotation(old, MIRROR));
    if now != before {
        let verb = if before.is_empty() {
            "add"
        } else {
            "remove or update"
        };
        let detail = format!("may not {verb} mirror pod annotation");
        errors.push(Error::forbidden(&path.key(MIRROR), &detail));
    }
    annotations(
        errors,
        &path,
        walk::at(new, "metadata"),
        walk::at(new, "spec"),
    );
}

/// Says whether the lists can be compared any further.
fn container_list(errors: &mut Errors, path: &Path, new: &Value, old: &Value, list: &str) -> bool {
    let field = format!("spec.{list}");
    let containers = walk::list(new, &field);
    if containers.len() != walk::list(old, &field).len() {
        let detail = "pod updates may not add or remove containers";
        errors.push(Error::forbidden(path, detail));
        return false;
    }
    for (index, container) in containers.iter().enumerate() {
        let path = path.index(index);
        if containers::lacks_image(container) {
            errors.push(Error::required(&path.child("image"), ""));
        }
        containers::only_for_pod(errors, &path, container);
    }
    true
}

/// Says whether the rest of the spec is worth comparing.
fn deadline(errors: &mut Errors, path: &Path, new: &Value, old: &Value) -> bool {
    let field = "spec.activeDeadlineSeconds";
    match (walk::integer(new, field), walk::integer(old, field)) {
        (Some(now), _) if !(0..=i64::from(i32::MAX)).contains(&now) => {
            for message in names::in_range(now, 0, i64::from(i32::MAX)) {
                errors.push(Error::invalid(path, now, &message));
            }
            false
        }
        (Some(now), Some(before)) if before < now => {
            let detail = "must be less than or equal to previous value";
            errors.push(Error::invalid(path, now, detail));
            false
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(Error::invalid(path, Value::Null, detail));
            true
        }
        _ => true,
    }
}

fn tolerations(errors: &mut Errors, path: &Path, new: &Value, old: &Value) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        walk::object_mut(&mut toleration, "").remove("tolerationSeconds");
        toleration
    };
    let now = walk::list(new, "spec.tolerations");
    let kept: Vec<Value> = now.iter().map(without_seconds).collect();
    let before = walk::list(old, "spec.tolerations");
    if before
        .iter()
        .any(|toleration| !kept.contains(&without_seconds(toleration)))
    {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(Error::forbidden(path, detail));
        return;
    }
    scheduling::tolerations(errors, path, now);
}

fn gates(errors: &mut Errors, path: &Path, new: &Value, old: &Value) {
    let before = walk::list(old, "spec.schedulingGates");
    for (index, gate) in walk::list(new, "spec.schedulingGates").iter().enumerate() {
        let name = walk::text(gate, "name");
        if !before.iter().any(|gate| walk::text(gate, "name") == name) {
            let path = path.index(index).child("name");
            let detail =
                format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(Error::forbidden(&path, &detail));
        }
    }
}

/// The new spec with everything that may change put back, so that what still differs is at fault.
fn with_changeable_fields_of(new: &Value, old: &Value) -> Value {
    let mut rest = new.clone();
    for list in ["containers", "initContainers"] {
        let before = walk::list(old, list);
        for (container, before) in walk::list_mut(&mut rest, list).iter_mut().zip(before) {
            walk::carry(container, before, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        walk::carry(&mut rest, old, field);
    }
    let grace = "terminationGracePeriodSeconds";
    if walk::count(old, grace) < 0 && walk::integer(&rest, grace) == Some(1) {
        walk::carry(&mut rest, old, grace);
    }
    rest
}

/// Until its last gate is gone, a pod's node selector and node affinity may still become narrower.
fn gated_changes(errors: &mut Errors, rest: &mut Value, old: &Value) {
    let path = Path::new("spec");
    if !walk::same(
        walk::at(rest, "nodeSelector"),
        walk::at(old, "nodeSelector"),
    ) {
        let now = walk::at(rest, "nodeSelector");
        let narrowed =
            walk::entries(old, "nodeSelector").all(|(key, value)| now.get(key) == Some(value));
        if !narrowed {
            let detail =
                "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.push(Error::invalid(
                &path.child("nodeSelector"),
                now.clone(),
                detail,
            ));
        }
        walk::carry(rest, old, "nodeSelector");
    }
    let before = walk::at(old, "affinity.nodeAffinity").clone();
    let now = walk::at(rest, "affinity.nodeAffinity").clone();
    if walk::same(&now, &before) {
        return;
    }
    let path = path.child("affinity").child("nodeAffinity");
    node_affinity_change(errors, &path, &now, &before);
    let affinity = walk::object_mut(rest, "affinity");
    if before.is_null() {
        affinity.remove("nodeAffinity");
    } else {
        affinity.insert("nodeAffinity".into(), before);
    }
    if affinity.is_empty() && !walk::has(old, "affinity") {
        walk::object_mut(rest, "").remove("affinity");
    }
}

fn node_affinity_change(errors: &mut Errors, path: &Path, new: &Value, old: &Value) {
    let field = "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let path = path
        .child("requiredDuringSchedulingIgnoredDuringExecution")
        .child("nodeSelectorTerms");
    let (now, before) = (walk::list(new, field), walk::list(old, field));
    if !before.is_empty() && before.len() != now.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        let shown = internal::show("[]NodeSelectorTerm", &json!(now));
        checks::invalid_shown(errors, &path, &shown, detail);
        return;
    }
    for (index, (now, before)) in now.iter().zip(before).enumerate() {
        if !only_adds(now, before) {
            let detail = "only additions are allowed (no mutations or deletions)";
            let shown = internal::show("NodeSelectorTerm", now);
            checks::invalid_shown(errors, &path.index(index), &shown, detail);
        }
    }
}

fn only_adds(new: &Value, old: &Value) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    let is_empty = |term: &Value| lists.iter().all(|list| walk::list(term, list).is_empty());
    if is_empty(old) {
        return is_empty(new);
    }
    lists
        .iter()
        .all(|list| walk::list(new, list).starts_with(walk::list(old, list)))
}

fn raise_generation(new: &mut Value, old: &Value) {
    if walk::at(new, "spec") != walk::at(old, "spec") {
        let generation = meta::generation(old) + 1;
        walk::object_mut(new, "metadata").insert("generation".into(), json!(generation));
    }
}

fn metadata_and_spec(new: &Value, old: &Value) -> Errors {
    let mut errors = meta::validate_update(new, old);
    errors.extend(super::POD.validate_metadata(new));
    validate::metadata_and_spec(&mut errors, new);
    errors
}

/// Keeps everything but resources and resize policies; stands in for `Kind::prepare_update` where `/resize` is written.
pub fn prepare_resize(new: &mut Value, old: &Value) {
    meta::keep_server_fields(new, old);
    let lists = ["containers", "initContainers"];
    let wanted = lists.map(|list| walk::list(new, &format!("spec.{list}")).to_vec());
    let pod_level = walk::at(new, "spec.resources").clone();
    let counts_match = lists
        .iter()
        .zip(&wanted)
        .all(|(list, wanted)| walk::list(old, &format!("spec.{list}")).len() == wanted.len());
    if !counts_match {
        return;
    }
    keep_all_but_spec(new, old);
    let spec = walk::object_mut(new, "spec");
    if pod_level.is_null() {
        spec.remove("resources");
    } else {
        spec.insert("resources".into(), pod_level);
    }
    for (list, wanted) in lists.iter().zip(wanted) {
        let before = walk::list_mut(new, &format!("spec.{list}"));
        let same_order = before
            .iter()
            .zip(&wanted)
            .all(|(b, w)| walk::text(b, "name") == walk::text(w, "name"));
        for (container, wanted) in before.iter_mut().zip(wanted) {
            if same_order {
                walk::carry(container, &wanted, "resources");
                walk::carry(container, &wanted, "resizePolicy");
            } else {
                *container = wanted;
            }
        }
    }
    raise_generation(new, old);
}

/// Validates a write through `/resize`, metadata included.
pub fn validate_resize(new: &Value, old: &Value) -> Errors {
    if !meta::annotation(old, MIRROR).is_empty() {
        let detail = "static pods cannot be resized";
        return vec![Error::forbidden(&Path::default(), detail)];
    }
    if walk::text(old, "spec.os.name") == "windows" {
        let detail = "windows pods cannot be resized";
        return vec![Error::forbidden(&Path::default(), detail)];
    }
    let mut errors = metadata_and_spec(new, old);
    let path = Path::new("spec");
    let class = walk::text(old, "status.qosClass");
    if class != resources::qos_class(walk::at(new, "spec")) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(Error::invalid(
            &path,
            walk::text(new, "status.qosClass"),
            detail,
        ));
    }
    if !containers_keep_order(&mut errors, &path, new, old) {
        return errors;
    }
    for list in ["initContainers", "containers"] {
        let field = format!("spec.{list}");
        let pairs = walk::list(new, &field).iter().zip(walk::list(old, &field));
        for (index, (now, before)) in pairs.enumerate() {
            resized_container(&mut errors, &path, list, index, now, before);
        }
    }
    errors
}

fn containers_keep_order(errors: &mut Errors, path: &Path, new: &Value, old: &Value) -> bool {
    let before_count = errors.len();
    for list in ["containers", "initContainers"] {
        let (now, before) = (
            walk::list(&new["spec"], list),
            walk::list(&old["spec"], list),
        );
        let path = path.child(list);
        if now.len() != before.len() {
            let detail = format!("{list} may not be added or removed on resize");
            errors.push(Error::forbidden(&path, &detail));
            continue;
        }
        for (index, (now, before)) in now.iter().zip(before).enumerate() {
            if walk::text(now, "name") != walk::text(before, "name") {
                let detail = format!("{list} may not be renamed or reordered on resize");
                errors.push(Error::forbidden(&path.index(index).child("name"), &detail));
            }
        }
    }
    errors.len() == before_count
}

fn resized_container(
    errors: &mut Errors,
    path: &Path,
    list: &str,
    index: usize,
    new: &Value,
    old: &Value,
) {
    let own = path.child(list).index(index);
    let sidecar = walk::text(old, "restartPolicy") == "Always";
    if list == "initContainers" && !sidecar {
        if !walk::same(new, old) {
            let detail = "resources for non-sidecar init containers are immutable";
            errors.push(Error::forbidden(path, detail));
        }
        return;
    }
    for (name, singular) in [
        ("requests", "resource requests"),
        ("limits", "resource limits"),
    ] {
        let before = walk::at(&old["resources"], name);
        let now = walk::at(&new["resources"], name);
        let removed = before
            .as_object()
            .is_some_and(|map| map.keys().any(|key| now.get(key).is_none()));
        if removed {
            let path = own.child("resources").child(name);
            let detail = format!("{singular} cannot be removed");
            errors.push(Error::forbidden(&path, &detail));
        }
    }
    if other_resources_change(&new["resources"], &old["resources"]) {
        errors.push(if list == "containers" {
            Error::forbidden(path, "only cpu and memory resources are mutable")
        } else {
            Error::forbidden(
                &own,
                "only cpu and memory resources for sidecar containers are mutable",
            )
        });
    }
}

fn other_resources_change(new: &Value, old: &Value) -> bool {
    let others = |resources: &Value, name: &str| -> resources::Amounts {
        let mut amounts = resources::amounts(resources, name);
        amounts.retain(|resource, _| resource != "cpu" && resource != "memory");
        amounts
    };
    ["limits", "requests"]
        .iter()
        .any(|name| others(new, name) != others(old, name))
        || !walk::same(&new["claims"], &old["claims"])
}

/// Puts the stored spec and status back, and what of the metadata a subresource may not touch.
fn keep_all_but_spec(new: &mut Value, old: &Value) {
    for part in ["spec", "status"] {
        walk::carry(new, old, part);
    }
    if let Some(meta) = new.get_mut("metadata") {
        for field in [
            "labels",
            "annotations",
            "finalizers",
            "ownerReferences",
            "deletionGracePeriodSeconds",
        ] {
            walk::carry(meta, walk::at(old, "metadata"), field);
        }
    }
}
