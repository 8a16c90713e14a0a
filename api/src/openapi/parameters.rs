//! Parameters of operations. Knows no kinds.

use serde_json::{Value, json};

use super::Dialect;

/// A query parameter: name, type and what it does.
type Query = (&'static str, &'static str, &'static str);

const DRY_RUN: Query = (
    "dryRun",
    "string",
    "With All, the request is checked and answered but nothing is stored.",
);
const FIELD_MANAGER: Query = (
    "fieldManager",
    "string",
    "Who makes this change, as recorded in metadata.managedFields; at most 128 printable characters.",
);
const FIELD_VALIDATION: Query = (
    "fieldValidation",
    "string",
    "What unknown and duplicate fields lead to: Ignore, Warn or Strict.",
);
const FORCE: Query = (
    "force",
    "boolean",
    "Takes fields over from other managers; only for apply.",
);
const RESOURCE_VERSION: Query = (
    "resourceVersion",
    "string",
    "The version the answer must be at least as new as, or start from.",
);

pub(super) const CREATE: &[Query] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
pub(super) const PATCH: &[Query] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
pub(super) const DELETE: &[Query] = &[
    DRY_RUN,
    (
        "gracePeriodSeconds",
        "integer",
        "Seconds the object has to end; 0 deletes at once.",
    ),
    (
        "orphanDependents",
        "boolean",
        "Deprecated: use propagationPolicy.",
    ),
    (
        "propagationPolicy",
        "string",
        "What becomes of dependents: Orphan, Background or Foreground.",
    ),
];
pub(super) const LIST: &[Query] = &[
    (
        "allowWatchBookmarks",
        "boolean",
        "Lets a watch send events that only carry a resource version.",
    ),
    (
        "continue",
        "string",
        "Where the next part of a limited list starts.",
    ),
    (
        "fieldSelector",
        "string",
        "Restricts the answer to objects with these field values.",
    ),
    (
        "labelSelector",
        "string",
        "Restricts the answer to objects with these labels.",
    ),
    ("limit", "integer", "How many objects one answer may hold."),
    RESOURCE_VERSION,
    (
        "resourceVersionMatch",
        "string",
        "How resourceVersion constrains the answer: Exact or NotOlderThan.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "Starts a watch with what exists and marks the end of it by a bookmark.",
    ),
    (
        "timeoutSeconds",
        "integer",
        "Seconds after which a watch ends.",
    ),
    ("watch", "boolean", "Answers with a stream of changes."),
];
pub(super) const PRETTY: &[Query] = &[("pretty", "string", "If true, the answer is indented.")];

/// Query parameters of an operation.
pub(super) fn query(dialect: Dialect, parameters: &[Query]) -> Vec<Value> {
    parameters
        .iter()
        .map(|(name, kind, description)| parameter(dialect, "query", name, kind, description))
        .collect()
}

/// A parameter that is part of the path.
pub(super) fn in_path(dialect: Dialect, name: &str, description: &str) -> Value {
    let mut parameter = parameter(dialect, "path", name, "string", description);
    if let Value::Object(out) = &mut parameter {
        out.insert("required".into(), true.into());
    }
    parameter
}

fn parameter(dialect: Dialect, place: &str, name: &str, kind: &str, description: &str) -> Value {
    let mut parameter = json!({
        "name": name,
        "in": place,
        "description": description,
        "uniqueItems": true,
    });
    if let Value::Object(out) = &mut parameter {
        match dialect {
            Dialect::V2 => out.insert("type".into(), kind.into()),
            Dialect::V3 => {
                out.remove("uniqueItems");
                out.insert("schema".into(), json!({"type": kind, "uniqueItems": true}))
            }
        };
    }
    parameter
}
