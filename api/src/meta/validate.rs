//! What Kubernetes demands of an object's metadata on create and on update.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Scope, annotations, deletion_timestamp, finalizers, generate_name, generation, name, namespace,
    owner_references, resource_version, text,
};
use crate::{
    field::{Error, Path, quote},
    names,
    value::{items, str_of},
};

const ANNOTATIONS_SIZE_MAX: usize = 256 * 1024;
const FIELD_MANAGER_LENGTH_MAX: usize = 128;
const SUBRESOURCE_LENGTH_MAX: usize = 256;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Checks that each finalizer is one of Kubernetes' own or has a prefix.
pub(crate) fn validate_finalizer_prefixes(object: &Value) -> Vec<Error> {
    let path = Path::new("metadata").child("finalizers");
    let finalizers = finalizers(object).into_iter().enumerate();
    finalizers
        .filter_map(|(index, name)| validate_finalizer_prefix(name, &path.index(index)))
        .collect()
}

/// Only the finalizers that Kubernetes itself treats have no prefix.
pub fn validate_finalizer_prefix(finalizer: &str, path: &Path) -> Option<Error> {
    let is_known =
        finalizer.contains('/') || ["kubernetes", ORPHAN, FOREGROUND].contains(&finalizer);
    let detail = "name is neither a standard finalizer name nor is it fully qualified";
    (!is_known).then(|| Error::invalid(path, finalizer, detail))
}

/// Checks what every update of every kind must keep, before the kind's own rules.
pub fn validate_update(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("metadata");
    let mut errors = Vec::new();
    if deletion_timestamp(old).is_some() {
        errors.extend(no_new_finalizers(new, old, &path.child("finalizers")));
    }
    if resource_version(new).is_empty() {
        let version = path.child("resourceVersion");
        errors.push(Error::invalid(
            &version,
            "",
            "must be specified for an update",
        ));
    }
    if generation(new) < generation(old) {
        errors.push(Error::invalid(
            &path.child("generation"),
            generation(new),
            "must not be decremented",
        ));
    }
    for field in ["name", "namespace", "uid"] {
        let (now, before) = (text(new, field), text(old, field));
        if now != before {
            errors.push(Error::invalid(&path.child(field), now, IMMUTABLE));
        }
    }
    for field in [
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let (now, before) = (&new["metadata"][field], &old["metadata"][field]);
        if now != before {
            errors.push(Error::invalid(&path.child(field), now.clone(), IMMUTABLE));
        }
    }
    errors.extend(validate_labels(
        &new["metadata"]["labels"],
        &path.child("labels"),
    ));
    errors.extend(validate_annotations(new, &path));
    errors.extend(validate_owner_references(new, &path));
    errors.extend(validate_managed_fields(new, &path));
    errors
}

/// What the field says that may never change.
pub const IMMUTABLE: &str = "field is immutable";

/// An error unless the field at `path` is the same in both.
pub fn immutable(path: &Path, new: &Value, old: &Value) -> Option<Error> {
    (new != old).then(|| Error::invalid(path, new.clone(), IMMUTABLE))
}

/// Checks a map of labels, wherever it stands.
pub fn validate_labels(labels: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.extend(validate_label_key(key, path));
        let value = value.as_str().unwrap_or_default();
        errors.extend(complaints(path, value, names::label_value(value)));
    }
    errors
}

/// Checks the key of a label.
pub fn validate_label_key(key: &str, path: &Path) -> Vec<Error> {
    complaints(path, key, names::qualified_name(key))
}

/// Turns what a name check says into errors at `path`.
pub fn complaints(path: &Path, value: &str, details: Vec<String>) -> Vec<Error> {
    details
        .iter()
        .map(|detail| Error::invalid(path, value, detail))
        .collect()
}

/// Checks the metadata of an object whose kind has such names and lives in such a `scope`.
pub(crate) fn validate(
    object: &Value,
    scope: Scope,
    validate_name: fn(&str) -> Vec<String>,
) -> Vec<Error> {
    let path = Path::new("metadata");
    let mut errors = Vec::new();
    let prefix = generate_name(object);
    if !prefix.is_empty() {
        let details = validate_name(&mask_trailing_dash(prefix));
        errors.extend(complaints(&path.child("generateName"), prefix, details));
    }
    let name = name(object);
    if name.is_empty() {
        let detail = "name or generateName is required";
        errors.push(Error::required(&path.child("name"), detail));
    } else {
        errors.extend(complaints(&path.child("name"), name, validate_name(name)));
    }
    errors.extend(validate_namespace(object, scope, &path.child("namespace")));
    if generation(object) < 0 {
        errors.push(Error::invalid(
            &path.child("generation"),
            generation(object),
            "must be greater than or equal to 0",
        ));
    }
    errors.extend(validate_labels(
        &object["metadata"]["labels"],
        &path.child("labels"),
    ));
    errors.extend(validate_annotations(object, &path));
    errors.extend(validate_owner_references(object, &path));
    errors.extend(validate_finalizers(object, &path.child("finalizers")));
    errors.extend(validate_managed_fields(object, &path));
    errors
}

fn validate_namespace(object: &Value, scope: Scope, path: &Path) -> Vec<Error> {
    let namespace = namespace(object);
    match (scope, namespace.is_empty()) {
        (Scope::Namespaced, true) => vec![Error::required(path, "")],
        (Scope::Namespaced, false) => complaints(path, namespace, names::dns1123_label(namespace)),
        (Scope::Cluster, false) => vec![Error::forbidden(path, "not allowed on this type")],
        (Scope::Cluster, true) => Vec::new(),
    }
}

fn validate_annotations(object: &Value, path: &Path) -> Vec<Error> {
    let path = path.child("annotations");
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in annotations(object).into_iter().flatten() {
        let details = names::qualified_name(&key.to_lowercase());
        errors.extend(complaints(&path, key, details));
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > ANNOTATIONS_SIZE_MAX {
        errors.push(Error::too_long(&path, ANNOTATIONS_SIZE_MAX));
    }
    errors
}

fn validate_owner_references(object: &Value, path: &Path) -> Vec<Error> {
    let path = path.child("ownerReferences");
    let mut errors = Vec::new();
    let mut first_controller: Option<String> = None;
    let references = owner_references(object);
    for reference in references {
        errors.extend(validate_owner_reference(reference, &path));
        if reference["controller"] != Value::Bool(true) {
            continue;
        }
        let this = format!(
            "{}/{}",
            str_of(&reference["kind"]),
            str_of(&reference["name"])
        );
        match &first_controller {
            Some(first) => {
                let shown: Vec<String> = references.iter().map(show_owner_reference).collect();
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                let shown = format!("[{}]", shown.join(","));
                errors.push(Error::invalid_shown(&path, &shown, &detail));
            }
            None => first_controller = Some(this),
        }
    }
    errors
}

fn validate_owner_reference(reference: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let api_version = str_of(&reference["apiVersion"]);
    let (group, version) = split_api_version(api_version);
    if version.is_empty() {
        let path = path.child("apiVersion");
        errors.push(Error::invalid(
            &path,
            api_version,
            "version must not be empty",
        ));
    }
    for field in ["kind", "name", "uid"] {
        if str_of(&reference[field]).is_empty() {
            errors.push(Error::invalid(&path.child(field), "", "must not be empty"));
        }
    }
    if (group, version, str_of(&reference["kind"])) == ("", "v1", "Event") {
        errors.push(Error::invalid_shown(
            path,
            &show_owner_reference(reference),
            "/v1, Kind=Event is disallowed from being an owner",
        ));
    }
    errors
}

/// `apps/v1` as group and version; more than one slash leaves both empty, as Go's parser does.
fn split_api_version(api_version: &str) -> (&str, &str) {
    match api_version.matches('/').count() {
        0 => ("", api_version),
        1 => api_version.split_once('/').unwrap_or_default(),
        _ => ("", ""),
    }
}

fn show_owner_reference(reference: &Value) -> String {
    let mut fields: Vec<String> = ["apiVersion", "kind", "name", "uid"]
        .iter()
        .map(|field| format!("\"{field}\":{}", Value::from(str_of(&reference[*field]))))
        .collect();
    for field in ["controller", "blockOwnerDeletion"] {
        if !reference[field].is_null() {
            fields.push(format!("\"{field}\":{}", reference[field]));
        }
    }
    format!("{{{}}}", fields.join(","))
}

fn validate_finalizers(object: &Value, path: &Path) -> Vec<Error> {
    let finalizers = finalizers(object);
    let mut errors: Vec<Error> = finalizers
        .iter()
        .flat_map(|f| complaints(path, f, names::qualified_name(f)))
        .collect();
    if finalizers.contains(&ORPHAN) && finalizers.contains(&FOREGROUND) {
        errors.push(Error::invalid(
            path,
            object["metadata"]["finalizers"].clone(),
            &format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set"),
        ));
    }
    errors
}

fn no_new_finalizers(new: &Value, old: &Value, path: &Path) -> Option<Error> {
    let before = finalizers(old);
    let added: BTreeSet<String> = finalizers(new)
        .into_iter()
        .filter(|f| !before.contains(f))
        .map(quote)
        .collect();
    if added.is_empty() {
        return None;
    }
    let added: Vec<String> = added.into_iter().collect();
    Some(Error::forbidden(
        path,
        &format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        ),
    ))
}

fn validate_managed_fields(object: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, entry) in items(&object["metadata"]["managedFields"])
        .iter()
        .enumerate()
    {
        let path = path.child("managedFields").index(index);
        let operation = str_of(&entry["operation"]);
        if operation != "Apply" && operation != "Update" {
            let path = path.child("operation");
            errors.push(Error::invalid(
                &path,
                operation,
                "must be `Apply` or `Update`",
            ));
        }
        let fields_type = str_of(&entry["fieldsType"]);
        if !fields_type.is_empty() && fields_type != "FieldsV1" {
            let path = path.child("fieldsType");
            errors.push(Error::invalid(&path, fields_type, "must be `FieldsV1`"));
        }
        let manager = str_of(&entry["manager"]);
        errors.extend(validate_field_manager(manager, &path.child("manager")));
        if str_of(&entry["subresource"]).len() > SUBRESOURCE_LENGTH_MAX {
            errors.push(Error::too_long(
                &path.child("subresource"),
                SUBRESOURCE_LENGTH_MAX,
            ));
        }
    }
    errors
}

/// Checks the name a client gives itself with `fieldManager`.
pub fn validate_field_manager(manager: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if manager.len() > FIELD_MANAGER_LENGTH_MAX {
        errors.push(Error::too_long(path, FIELD_MANAGER_LENGTH_MAX));
    }
    for (position, c) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        let detail = format!(
            "invalid character U+{:04X} (at position {position})",
            u32::from(c)
        );
        errors.push(Error::invalid(path, manager, &detail));
    }
    errors
}

/// A prefix may end in a dash, because characters follow it.
fn mask_trailing_dash(prefix: &str) -> String {
    if prefix.len() > 1 && prefix.ends_with('-') {
        let mut masked: String = prefix.chars().collect();
        masked.pop();
        masked.pop();
        masked.push('a');
        return masked;
    }
    prefix.to_owned()
}

#[cfg(test)]
mod tests;
