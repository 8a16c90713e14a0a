//! What a row is where it says nothing else.

use super::{Column, Durability, Kind, Scope, Strategy};
use crate::{meta, table};

impl Kind {
    /// A namespaced kind of no group, without subresources, columns or rules; rows extend it with `..Kind::BASE`.
    pub const BASE: Kind = Kind {
        group: "",
        version: "v1",
        kind: "",
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        scope: Scope::Namespaced,
        durability: Durability::Disk,
        verbs: Kind::VERBS,
        subresources: &[],
        strategy: Strategy::BASE,
        columns: &[Column::NAME, Column::AGE],
        cells: |object, now_seconds| {
            vec![meta::name(object).into(), table::age(object, now_seconds)]
        },
        completed: |_| None,
        selectable: &[],
        unknown_field: None,
        view: None,
        hidden: None,
        deprecation: None,
    };
}
