//! Roles and their bindings: stored, checked and shown; knarr asks them nothing.

mod validation;

use serde_json::Value;

use validation::{validate_binding, validate_binding_update, validate_cluster_role, validate_role};

use crate::{
    kind::{Column, Kind, MetadataCheck, Scope, Strategy},
    meta, names, table,
    value::{default_to, fields_mut, items, items_mut, of_object, str_of},
};

const GROUP: &str = "rbac.authorization.k8s.io";

const ROW: Kind = Kind {
    group: GROUP,
    strategy: STRATEGY,
    columns: &[
        Column::NAME,
        Column {
            kind: "date",
            ..Column::string(
                "Created At",
                "metadata.creationTimestamp: set by the server.",
            )
        },
    ],
    cells: role_cells,
    ..Kind::BASE
};

const STRATEGY: Strategy = Strategy {
    validate_name: names::path_segment,
    validate_create: |role| validate_role(role, Scope::Namespaced),
    validate_update: |new, _| validate_role(new, Scope::Namespaced),
    metadata_checks: &[MetadataCheck::Create, MetadataCheck::Update],
    create_on_update: true,
    ..Strategy::BASE
};

pub static ROLE: Kind = Kind {
    kind: "Role",
    plural: "roles",
    singular: "role",
    ..ROW
};

pub static CLUSTER_ROLE: Kind = Kind {
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    scope: Scope::Cluster,
    strategy: Strategy {
        validate_create: validate_cluster_role,
        validate_update: |new, _| validate_cluster_role(new),
        ..STRATEGY
    },
    ..ROW
};

pub static ROLE_BINDING: Kind = Kind {
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    strategy: Strategy {
        default: default_binding,
        validate_create: |binding| validate_binding(binding, Scope::Namespaced),
        validate_update: |new, old| validate_binding_update(new, old, Scope::Namespaced),
        ..STRATEGY
    },
    columns: BINDING_COLUMNS,
    cells: binding_cells,
    ..ROW
};

pub static CLUSTER_ROLE_BINDING: Kind = Kind {
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    scope: Scope::Cluster,
    strategy: Strategy {
        default: default_binding,
        validate_create: |binding| validate_binding(binding, Scope::Cluster),
        validate_update: |new, old| validate_binding_update(new, old, Scope::Cluster),
        ..STRATEGY
    },
    columns: BINDING_COLUMNS,
    cells: binding_cells,
    ..ROW
};

const BINDING_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Role", "The role that is granted."),
    Column::AGE,
    Column::string("Users", "Users it is granted to.").wide(),
    Column::string("Groups", "Groups it is granted to.").wide(),
    Column::string("ServiceAccounts", "Service accounts it is granted to.").wide(),
];

fn default_binding(binding: &mut Value) {
    default_to(fields_mut(binding, "roleRef"), "apiGroup", GROUP);
    for subject in items_mut(binding, "subjects") {
        if matches!(str_of(&subject["kind"]), "User" | "Group") {
            default_to(of_object(subject), "apiGroup", GROUP);
        }
    }
}

fn role_cells(object: &Value, _: i64) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        meta::creation_timestamp(object).into(),
    ]
}

fn binding_cells(object: &Value, now_seconds: i64) -> Vec<Value> {
    let role = &object["roleRef"];
    let mut cells = vec![
        meta::name(object).into(),
        format!("{}/{}", str_of(&role["kind"]), str_of(&role["name"])).into(),
        table::age(object, now_seconds),
    ];
    for kind in ["User", "Group", "ServiceAccount"] {
        let subjects: Vec<String> = items(&object["subjects"])
            .iter()
            .filter(|subject| subject["kind"] == kind)
            .map(show_subject)
            .collect();
        cells.push(subjects.join(", ").into());
    }
    cells
}

fn show_subject(subject: &Value) -> String {
    let name = str_of(&subject["name"]);
    match (str_of(&subject["kind"]), str_of(&subject["namespace"])) {
        ("ServiceAccount", namespace) => format!("{namespace}/{name}"),
        _ => name.to_owned(),
    }
}
