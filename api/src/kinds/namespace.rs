//! Namespace: the user's grouping of objects; its deletion is finished by a controller through `finalize`.

use serde_json::Value;

use super::{Column, Durability, Kind, Scope, Strategy, Subresource};
use crate::{
    meta::{self, str_of},
    names, table,
};

pub static NAMESPACE: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    categories: &[],
    scope: Scope::Cluster,
    durability: Durability::Disk,
    verbs: &[
        "create", "delete", "get", "list", "patch", "update", "watch",
    ],
    subresources: &[
        Subresource {
            name: "finalize",
            body: None,
            verbs: &["update"],
        },
        Subresource::STATUS,
    ],
    strategy: Strategy {
        validate_name: names::dns1123_label,
        returns_deleted_object: true,
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string("Status", "Active, or Terminating once deleted."),
        Column::AGE,
    ],
    cells,
    selectable: &[("status.phase", |object| {
        str_of(&object["status"]["phase"]).to_owned()
    })],
    view: None,
};

fn cells(object: &Value, now_seconds: i64) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        str_of(&object["status"]["phase"]).into(),
        table::age(object, now_seconds),
    ]
}
