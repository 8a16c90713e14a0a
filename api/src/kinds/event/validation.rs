//! What an Event may say: little for old clients, more for those of `events.k8s.io`. Reads the core form only.

use serde_json::Value;

use crate::{
    field::{Error, Path, show_struct},
    meta::{self, complaints, immutable},
    names,
    value::str_of,
};

const TEXT_LENGTH_MAX: usize = 128;
const NOTE_LENGTH_MAX: usize = 1024;

/// Go's names of the fields of a reference, in Go's order.
const OBJECT_FIELDS: &[(&str, &str)] = &[
    ("Kind", "kind"),
    ("Namespace", "namespace"),
    ("Name", "name"),
    ("UID", "uid"),
    ("APIVersion", "apiVersion"),
    ("ResourceVersion", "resourceVersion"),
    ("FieldPath", "fieldPath"),
];

/// Checks an Event written through `v1`.
pub(super) fn validate_core(event: &Value) -> Vec<Error> {
    validate_basics(event, "reportingComponent")
}

/// Checks a new Event written through `events.k8s.io/v1`.
pub(super) fn validate_new(event: &Value) -> Vec<Error> {
    let mut errors = validate_basics(event, "reportingController");
    errors.extend(validate_series(event));
    if event["eventTime"].is_null() {
        errors.push(Error::required(&Path::new("eventTime"), ""));
    }
    let kind = str_of(&event["type"]);
    if kind != "Normal" && kind != "Warning" {
        let detail = format!("has invalid value: {kind}");
        errors.push(Error::invalid(&Path::new("type"), "", &detail));
    }
    let is_set = |field: &str| match &event[field] {
        Value::Null => false,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::Object(fields) => fields.values().any(|value| value != ""),
        _ => true,
    };
    for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        if is_set(field) {
            errors.push(Error::invalid(&Path::new(field), "", "needs to be unset"));
        }
    }
    errors
}

/// Checks a change written through `events.k8s.io/v1`: only the series may change.
pub(super) fn validate_change(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = validate_basics(new, "reportingController");
    if new["series"] != old["series"] {
        errors.extend(validate_series(new));
    }
    let fixed = |field: &str| immutable(&Path::new(field), &new[field], &old[field]);
    errors.extend(immutable_struct(new, old, "involvedObject", OBJECT_FIELDS));
    errors.extend(["reason", "message"].into_iter().filter_map(fixed));
    let source = [("Component", "component"), ("Host", "host")];
    errors.extend(immutable_struct(new, old, "source", &source));
    let middle = [
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "reason",
        "type",
        "eventTime",
        "action",
    ];
    errors.extend(middle.into_iter().filter_map(fixed));
    errors.extend(immutable_struct(new, old, "related", OBJECT_FIELDS));
    errors.extend(immutable(
        &Path::new("reportingController"),
        &new["reportingComponent"],
        &old["reportingComponent"],
    ));
    errors.extend(fixed("reportingInstance"));
    errors
}

fn immutable_struct(
    new: &Value,
    old: &Value,
    field: &str,
    fields: &[(&str, &str)],
) -> Option<Error> {
    (new[field] != old[field]).then(|| {
        let shown = match &new[field] {
            Value::Null if field == "related" => "null".to_owned(),
            value => show_struct(value, fields),
        };
        Error::invalid_shown(&Path::new(field), &shown, meta::IMMUTABLE)
    })
}

fn validate_basics(event: &Value, controller_field: &str) -> Vec<Error> {
    let mut errors = Vec::new();
    let namespace = meta::namespace(event);
    let involved = str_of(&event["involvedObject"]["namespace"]);
    let is_new_form = !event["eventTime"].is_null();
    let belongs = match (is_new_form, involved) {
        (false, "") => matches!(namespace, "" | "default"),
        (false, involved) => involved == namespace,
        (true, "") => matches!(namespace, "default" | "kube-system"),
        (true, _) => true,
    };
    if !belongs {
        errors.push(Error::invalid(
            &Path::new("involvedObject").child("namespace"),
            involved,
            "does not match event.namespace",
        ));
    }
    if is_new_form {
        errors.extend(validate_new_form(event, controller_field));
    }
    let path = Path::new("namespace");
    errors.extend(complaints(
        &path,
        namespace,
        names::dns1123_subdomain(namespace),
    ));
    errors
}

fn validate_new_form(event: &Value, controller_field: &str) -> Vec<Error> {
    let mut errors = Vec::new();
    let path = Path::new(controller_field);
    let controller = str_of(&event["reportingComponent"]);
    if controller.is_empty() {
        errors.push(Error::required(&path, ""));
    }
    errors.extend(complaints(
        &path,
        controller,
        names::qualified_name(controller),
    ));
    for field in ["reportingInstance", "action", "reason"] {
        let path = Path::new(field);
        match str_of(&event[field]).len() {
            0 => errors.push(Error::required(&path, "")),
            length if length > TEXT_LENGTH_MAX => errors.push(too_long(&path, TEXT_LENGTH_MAX)),
            _ => {}
        }
    }
    if str_of(&event["message"]).len() > NOTE_LENGTH_MAX {
        errors.push(too_long(&Path::new("message"), NOTE_LENGTH_MAX));
    }
    errors
}

fn too_long(path: &Path, characters_max: usize) -> Error {
    let detail = format!("can have at most {characters_max} characters");
    Error::invalid(path, "", &detail)
}

fn validate_series(event: &Value) -> Vec<Error> {
    let series = &event["series"];
    let mut errors = Vec::new();
    if series.is_null() {
        return errors;
    }
    if series["count"].as_i64().unwrap_or(0) < 2 {
        let path = Path::new("series.count");
        errors.push(Error::invalid(&path, "", "should be at least 2"));
    }
    if series["lastObservedTime"].is_null() {
        errors.push(Error::required(&Path::new("series.lastObservedTime"), ""));
    }
    errors
}
