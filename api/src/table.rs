//! Tables and partial metadata: how the server shows objects to people and to clients that need little.

pub mod age;

use serde_json::{Value, json};

use crate::{
    field::quote,
    kind::{Column, Kind},
    meta,
    status::Status,
    value::str_of,
};

/// How much of each object a row carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; empty is the default.
    ///
    /// # Errors
    /// 400, in Kubernetes' words, for any other text.
    pub fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "" | "Metadata" => Ok(IncludeObject::Metadata),
            "Object" => Ok(IncludeObject::Object),
            "None" => Ok(IncludeObject::None),
            other => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be 'Metadata', 'Object', 'None', or empty",
                quote(other)
            ))),
        }
    }
}

/// The two versions of `meta.k8s.io` that clients ask Tables and partial metadata in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V1beta1,
}

impl Version {
    /// `meta.k8s.io/v1` or `meta.k8s.io/v1beta1`.
    pub fn api_version(self) -> &'static str {
        match self {
            Version::V1 => "meta.k8s.io/v1",
            Version::V1beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// Whether a Table names its columns; watches do so only in their first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    Named,
    Omitted,
}

/// How a Table is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub version: Version,
    pub include: IncludeObject,
    pub columns: Columns,
    /// Unix time, for ages.
    pub now_seconds: i64,
}

/// The Table of `objects`; `list_metadata` becomes its metadata, for one object its resourceVersion is enough.
pub fn table(kind: &Kind, objects: &[&Value], list_metadata: Value, form: Form) -> Value {
    let rows: Vec<Value> = objects.iter().map(|o| row(kind, o, form)).collect();
    let columns: Value = match form.columns {
        Columns::Named => kind.columns.iter().map(definition).collect(),
        Columns::Omitted => Value::Null,
    };
    json!({
        "kind": "Table",
        "apiVersion": form.version.api_version(),
        "metadata": list_metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// One object reduced to its metadata.
pub fn partial_metadata(object: &Value, version: Version) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": version.api_version(),
        "metadata": object["metadata"],
    })
}

/// A list of objects reduced to their metadata.
pub fn partial_metadata_list(objects: &[&Value], list_metadata: Value, version: Version) -> Value {
    let items = objects
        .iter()
        .map(|object| partial_metadata(object, version));
    // Of nothing, Kubernetes makes no list but null.
    let items = match objects {
        [] => Value::Null,
        _ => items.collect(),
    };
    json!({
        "kind": "PartialObjectMetadataList",
        "apiVersion": version.api_version(),
        "metadata": list_metadata,
        "items": items,
    })
}

/// The age cell of an object.
pub fn age(object: &Value, now_seconds: i64) -> Value {
    age::since(meta::creation_timestamp(object), now_seconds).into()
}

/// A map of labels in one cell: `app=web,tier=front`, or `<none>`.
pub fn show_labels(labels: &Value) -> String {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", str_of(value)))
        .collect();
    if pairs.is_empty() {
        "<none>".into()
    } else {
        pairs.join(",")
    }
}

fn row(kind: &Kind, object: &Value, form: Form) -> Value {
    let shown = match form.include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => partial_metadata(object, form.version),
        IncludeObject::Object => object.clone(),
    };
    let mut row = json!({"cells": (kind.cells)(object, form.now_seconds), "object": shown});
    if let Some((reason, message)) = (kind.completed)(object) {
        row["conditions"] = json!([
            {"type": "Completed", "status": "True", "reason": reason, "message": message}
        ]);
    }
    row
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.kind,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

#[cfg(test)]
mod tests;
