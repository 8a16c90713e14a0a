//! ConfigMap: its keys, its size, and that an immutable one stays as it is.

use serde_json::Value;

use super::{Column, Durability, Kind, Scope, Strategy};
use crate::{meta, table};

pub static CONFIG_MAP: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    categories: &[],
    scope: Scope::Namespaced,
    durability: Durability::Disk,
    verbs: Kind::VERBS,
    subresources: &[],
    strategy: Strategy { ..Strategy::BASE },
    columns: &[
        Column::NAME,
        Column::string("Data", "Number of keys in data and binaryData."),
        Column::AGE,
    ],
    cells,
    selectable: &[],
    view: None,
};

fn cells(object: &Value, now_seconds: i64) -> Vec<Value> {
    let count = key_count(&object["data"]) + key_count(&object["binaryData"]);
    vec![
        meta::name(object).into(),
        count.into(),
        table::age(object, now_seconds),
    ]
}

fn key_count(map: &Value) -> usize {
    map.as_object().map_or(0, |map| map.len())
}
