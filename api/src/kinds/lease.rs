//! Lease: who holds what until when; node heartbeats, so kept in memory.

use serde_json::Value;

use super::{Column, Durability, Kind, Scope, Strategy};
use crate::{
    meta::{self, str_of},
    table,
};

pub static LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    durability: Durability::Memory,
    verbs: Kind::VERBS,
    subresources: &[],
    strategy: Strategy {
        create_on_update: true,
        unconditional_update: false,
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string("Holder", "Identity of the current holder."),
        Column::AGE,
    ],
    cells,
    selectable: &[],
    view: None,
};

fn cells(object: &Value, now_seconds: i64) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        str_of(&object["spec"]["holderIdentity"]).into(),
        table::age(object, now_seconds),
    ]
}
