//! Service: a stable address for a changing set of pods.

mod columns;

use super::{Durability, Kind, Scope, Strategy, Subresource};
use crate::{meta::str_of, names};

pub static SERVICE: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    scope: Scope::Namespaced,
    durability: Durability::Disk,
    verbs: Kind::VERBS,
    subresources: &[
        Subresource::proxy("ServiceProxyOptions"),
        Subresource::STATUS,
    ],
    strategy: Strategy {
        validate_name: names::dns1123_label,
        create_on_update: true,
        returns_deleted_object: true,
        ..Strategy::BASE
    },
    columns: columns::COLUMNS,
    cells: columns::cells,
    selectable: &[
        ("spec.clusterIP", |service| {
            str_of(&service["spec"]["clusterIP"]).to_owned()
        }),
        ("spec.type", |service| {
            str_of(&service["spec"]["type"]).to_owned()
        }),
    ],
    view: None,
};
