//! ConfigMap: its keys, its size, and that an immutable one stays as it is.

use serde_json::Value;

use crate::{
    field::{Error, Path},
    kind::{Column, Kind, MetadataCheck, Strategy},
    meta::{self, complaints},
    names, table,
    value::{entries, is_true, str_of},
};

/// Together, the data of a ConfigMap or a Secret may be this many bytes.
pub(super) const SIZE_MAX: usize = 1024 * 1024;

pub static CONFIG_MAP: Kind = Kind {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    strategy: Strategy {
        validate_create: validate,
        validate_update,
        metadata_checks: &[MetadataCheck::Update, MetadataCheck::Create],
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string("Data", "Number of keys in data and binaryData."),
        Column::AGE,
    ],
    cells,
    ..Kind::BASE
};

fn cells(object: &Value, now_seconds: i64) -> Vec<Value> {
    let count = key_count(&object["data"]) + key_count(&object["binaryData"]);
    vec![
        meta::name(object).into(),
        count.into(),
        table::age(object, now_seconds),
    ]
}

fn validate(object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in entries(&object["data"]) {
        let path = Path::new("data").key(key);
        errors.extend(complaints(&path, key, names::config_map_key(key)));
        if !object["binaryData"][key].is_null() {
            let detail = "duplicate of key present in binaryData";
            errors.push(Error::invalid(&path, key, detail));
        }
        size += str_of(value).len();
    }
    for (key, value) in entries(&object["binaryData"]) {
        let path = Path::new("binaryData").key(key);
        errors.extend(complaints(&path, key, names::config_map_key(key)));
        size += decoded_length(value);
    }
    if size > SIZE_MAX {
        // The path of the whole object, as Kubernetes prints it.
        errors.push(Error::too_long(&Path::new("[]"), SIZE_MAX));
    }
    errors
}

fn validate_update(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = validate_immutable(new, old, &["data", "binaryData"]);
    errors.extend(validate(new));
    errors
}

/// What an object with `immutable: true` may not change any more.
pub(super) fn validate_immutable(new: &Value, old: &Value, fields: &[&str]) -> Vec<Error> {
    if !is_true(&old["immutable"]) {
        return Vec::new();
    }
    let detail = "field is immutable when `immutable` is set";
    let switched_off = (!is_true(&new["immutable"])).then_some("immutable");
    let changed = fields
        .iter()
        .copied()
        .filter(|field| new[*field] != old[*field]);
    switched_off
        .into_iter()
        .chain(changed)
        .map(|field| Error::forbidden(&Path::new(field), detail))
        .collect()
}

/// How many bytes a base64 text stands for.
pub(super) fn decoded_length(value: &Value) -> usize {
    let text = str_of(value);
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

fn key_count(map: &Value) -> usize {
    map.as_object().map_or(0, |map| map.len())
}
