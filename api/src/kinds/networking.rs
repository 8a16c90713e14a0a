//! IPAddress and ServiceCIDR: which cluster IPs there are, and which Service holds each.

mod validation;

use serde_json::Value;

use crate::{
    kind::{Column, Kind, MetadataCheck, Scope, Strategy, Subresource},
    meta, table,
    value::{of_object, restore, str_of, texts},
};

const ROW: Kind = Kind {
    group: "networking.k8s.io",
    scope: Scope::Cluster,
    ..Kind::BASE
};

pub static IP_ADDRESS: Kind = Kind {
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short_names: &["ip"],
    strategy: Strategy {
        validate_name: validation::address_name,
        validate_create: validation::validate_address,
        validate_update: validation::validate_address_update,
        metadata_checks: &[MetadataCheck::Create, MetadataCheck::Update],
        generate_name: |base, _| base.to_owned(),
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string("ParentRef", "The object that holds this address."),
    ],
    cells: address_cells,
    ..ROW
};

pub static SERVICE_CIDR: Kind = Kind {
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    subresources: &[Subresource::STATUS],
    strategy: Strategy {
        prepare_create: |range| {
            of_object(range).remove("status");
        },
        validate_create: validation::validate_ranges,
        prepare_update: |new, old| restore(new, old, "status"),
        validate_update: validation::validate_ranges_update,
        prepare_status: |new, old| {
            restore(new, old, "spec");
            meta::restore_for_status(new, old);
        },
        status_resets: &[&["spec"], &["metadata"]],
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string("CIDRs", "Ranges that cluster IPs are taken from."),
        Column::AGE,
    ],
    cells: range_cells,
    ..ROW
};

/// Kubernetes gives three cells for its two columns, and so clients get here.
fn address_cells(object: &Value, now_seconds: i64) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        parent(&object["spec"]["parentRef"]).into(),
        table::age(object, now_seconds),
    ]
}

fn parent(reference: &Value) -> String {
    if reference.is_null() {
        return "<none>".into();
    }
    let mut text = str_of(&reference["resource"]).to_lowercase();
    let group = str_of(&reference["group"]);
    if !group.is_empty() {
        text = format!("{text}.{}", group.to_lowercase());
    }
    let namespace = str_of(&reference["namespace"]);
    if !namespace.is_empty() {
        text = format!("{text}/{namespace}");
    }
    format!("{text}/{}", str_of(&reference["name"]))
}

fn range_cells(object: &Value, now_seconds: i64) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        texts(&object["spec"]["cidrs"]).join(",").into(),
        table::age(object, now_seconds),
    ]
}
