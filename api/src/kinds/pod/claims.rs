//! What is wrong with a volume claim that is made from a template. Makes no claim.

use serde_json::{Value, json};

use super::super::checks::{self, Errors};
use crate::{
    field::{Error, Path},
    names,
    quantity::Quantity,
    selector, walk,
};

const ACCESS_MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
/// Metadata that a claim's template cannot set, in Go's order and under Go's names.
const UNSETTABLE: [(&str, &str); 12] = [
    ("name", "name"),
    ("generateName", "generateName"),
    ("namespace", "namespace"),
    ("selfLink", "selfLink"),
    ("uid", "uID"),
    ("resourceVersion", "resourceVersion"),
    ("generation", "generation"),
    ("creationTimestamp", "creationTimestamp"),
    ("deletionTimestamp", "deletionTimestamp"),
    ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
    ("ownerReferences", "ownerReferences"),
    ("finalizers", "finalizers"),
];

/// Validates the template in an ephemeral volume.
pub(super) fn template(errors: &mut Errors, path: &Path, template: &Value) {
    let meta = walk::at(template, "metadata");
    let path_meta = path.child("metadata");
    checks::annotations(
        errors,
        &path_meta.child("annotations"),
        walk::at(meta, "annotations"),
    );
    checks::labels(errors, &path_meta.child("labels"), walk::at(meta, "labels"));
    let unset = [json!(null), json!(""), json!(0)];
    for (field, shown) in UNSETTABLE {
        if !unset.contains(walk::at(meta, field)) {
            errors.push(Error::forbidden(&path_meta.child(shown), "cannot be set"));
        }
    }
    spec(errors, &path.child("spec"), walk::at(template, "spec"));
}

/// Validates a claim's spec.
pub fn spec(errors: &mut Errors, path: &Path, spec: &Value) {
    let modes: Vec<&str> = walk::list(spec, "accessModes")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let path_modes = path.child("accessModes");
    if modes.is_empty() {
        let detail = "at least 1 access mode is required";
        errors.push(Error::required(&path_modes, detail));
    }
    let selector = walk::at(spec, "selector");
    if !selector.is_null() {
        let path = path.child("selector");
        errors.extend(selector::validate_label_selector(selector, &path));
    }
    access_modes(errors, &path_modes, &modes);
    storage(errors, &path.child("resources").key("storage"), spec);
    class(errors, path, spec, "storageClassName");
    let mode = walk::at(spec, "volumeMode");
    checks::one_of_if_set(errors, &path.child("volumeMode"), mode, &VOLUME_MODES);
    sources(errors, path, spec);
    class(errors, path, spec, "volumeAttributesClassName");
}

fn access_modes(errors: &mut Errors, path: &Path, modes: &[&str]) {
    for mode in modes {
        if !ACCESS_MODES.contains(mode) {
            errors.push(Error::not_supported(path, *mode, &ACCESS_MODES));
        }
    }
    let exclusive = |mode: &&str| *mode == "ReadWriteOncePod";
    let shared = |mode: &&str| ACCESS_MODES.contains(mode) && !exclusive(mode);
    if modes.iter().any(exclusive) && modes.iter().any(shared) {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.push(Error::forbidden(path, detail));
    }
}

fn storage(errors: &mut Errors, path: &Path, spec: &Value) {
    let Some(amount) = walk::at(spec, "resources.requests.storage").as_str() else {
        errors.push(Error::required(path, ""));
        return;
    };
    if let Ok(quantity) = Quantity::parse(amount)
        && quantity <= Quantity::ZERO
    {
        errors.push(Error::invalid(path, amount, "must be greater than zero"));
    }
}

fn class(errors: &mut Errors, path: &Path, spec: &Value, field: &str) {
    let name = walk::text(spec, field);
    if !name.is_empty() {
        let messages = names::dns1123_subdomain(name);
        checks::complain(errors, &path.child(field), name, messages);
    }
}

fn sources(errors: &mut Errors, path: &Path, spec: &Value) {
    let [old, new] = ["dataSource", "dataSourceRef"].map(|field| walk::at(spec, field));
    source(errors, &path.child("dataSource"), old);
    source(errors, &path.child("dataSourceRef"), new);
    if old.is_null() || new.is_null() {
        return;
    }
    let same = ["apiGroup", "kind", "name"]
        .iter()
        .all(|field| walk::at(old, field) == walk::at(new, field));
    let detail = if !walk::text(new, "namespace").is_empty() {
        "may not be specified when dataSourceRef.namespace is specified"
    } else if !same {
        "must match dataSourceRef"
    } else {
        return;
    };
    let shown = path.child("dataSource").to_string();
    errors.push(Error::invalid(path, shown, detail));
}

fn source(errors: &mut Errors, path: &Path, source: &Value) {
    if source.is_null() {
        return;
    }
    for field in ["name", "kind"] {
        checks::required(errors, &path.child(field), walk::text(source, field));
    }
    let (group, kind) = (walk::text(source, "apiGroup"), walk::text(source, "kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(Error::invalid(path, kind, detail));
    }
    if !group.is_empty() {
        let messages = names::dns1123_subdomain(group);
        checks::complain(errors, &path.child("apiGroup"), group, messages);
    }
    let namespace = walk::text(source, "namespace");
    if !namespace.is_empty() {
        checks::dns_label(errors, &path.child("namespace"), namespace);
    }
}
