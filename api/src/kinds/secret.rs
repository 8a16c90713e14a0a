//! Secret: its types, its keys and size, and that an immutable one stays as it is.

use serde_json::Value;

use super::{Column, Durability, Kind, Scope, Strategy};
use crate::{
    meta::{self, str_of},
    table,
};

pub static SECRET: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    durability: Durability::Disk,
    verbs: Kind::VERBS,
    subresources: &[],
    strategy: Strategy { ..Strategy::BASE },
    columns: &[
        Column::NAME,
        Column::string("Type", "What the data is for, and which keys it must have."),
        Column::string("Data", "Number of keys in data."),
        Column::AGE,
    ],
    cells,
    selectable: &[("type", |object| str_of(&object["type"]).to_owned())],
    view: None,
};

fn cells(object: &Value, now_seconds: i64) -> Vec<Value> {
    let count = object["data"].as_object().map_or(0, |data| data.len());
    vec![
        meta::name(object).into(),
        str_of(&object["type"]).into(),
        count.into(),
        table::age(object, now_seconds),
    ]
}
