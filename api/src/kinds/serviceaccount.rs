//! ServiceAccount: an identity for pods; its token subresource is the API server's.

use serde_json::Value;

use super::{Column, Durability, Kind, Scope, Strategy, Subresource};
use crate::{meta, table};

pub static SERVICE_ACCOUNT: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    categories: &[],
    scope: Scope::Namespaced,
    durability: Durability::Disk,
    verbs: Kind::VERBS,
    subresources: &[Subresource {
        name: "token",
        body: Some(("authentication.k8s.io", "v1", "TokenRequest")),
        verbs: &["create"],
    }],
    strategy: Strategy {
        returns_deleted_object: true,
        ..Strategy::BASE
    },
    columns: &[Column::NAME, Column::AGE],
    cells,
    selectable: &[],
    view: None,
};

fn cells(object: &Value, now_seconds: i64) -> Vec<Value> {
    vec![meta::name(object).into(), table::age(object, now_seconds)]
}
