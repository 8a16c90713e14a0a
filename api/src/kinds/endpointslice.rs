//! EndpointSlice: addresses that answer for a Service.

mod validation;

use serde_json::Value;

use crate::{
    kind::{Column, Generation, Kind, MetadataCheck, Strategy},
    meta, table,
    value::{items, items_mut, of_object, str_of, texts},
};

const SHOWN_MAX: usize = 3;

pub static ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    strategy: Strategy {
        default,
        prepare_create: drop_topology,
        validate_create: validation::validate,
        prepare_update: |new, old| {
            if new["endpoints"] != old["endpoints"] {
                drop_topology(new);
            }
        },
        validate_update: validation::validate_update,
        metadata_checks: &[MetadataCheck::Create],
        warnings: validation::warnings,
        generation: Generation::Content,
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string("AddressType", "IPv4, IPv6 or FQDN."),
        Column::string("Ports", "Ports that every endpoint listens on."),
        Column::string("Endpoints", "Addresses, ready or not."),
        Column::AGE,
    ],
    cells,
    ..Kind::BASE
};

fn default(slice: &mut Value) {
    for port in items_mut(slice, "ports") {
        let port = of_object(port);
        if port.get("name").is_none_or(Value::is_null) {
            port.insert("name".into(), "".into());
        }
        if port.get("protocol").is_none_or(Value::is_null) {
            port.insert("protocol".into(), "TCP".into());
        }
    }
    let fields = of_object(slice);
    for list in ["endpoints", "ports"] {
        let value = fields.entry(list).or_insert(Value::Null);
        // Kubernetes does not keep the difference between an empty list and none.
        if items(value).is_empty() {
            *value = Value::Null;
        }
    }
}

/// The field of the beta version, which nothing reads.
fn drop_topology(slice: &mut Value) {
    for endpoint in items_mut(slice, "endpoints") {
        of_object(endpoint).remove("deprecatedTopology");
    }
}

fn cells(object: &Value, now_seconds: i64) -> Vec<Value> {
    let ports = items(&object["ports"]).iter().map(show_port);
    let addresses = items(&object["endpoints"])
        .iter()
        .flat_map(|endpoint| texts(&endpoint["addresses"]))
        .map(str::to_owned);
    vec![
        meta::name(object).into(),
        str_of(&object["addressType"]).into(),
        first_few(ports.collect()).into(),
        first_few(addresses.collect()).into(),
        table::age(object, now_seconds),
    ]
}

fn show_port(port: &Value) -> String {
    match (&port["port"], &port["name"]) {
        (Value::Number(number), _) => number.to_string(),
        (_, Value::String(name)) => name.clone(),
        _ => "*".into(),
    }
}

fn first_few(texts: Vec<String>) -> String {
    let list = texts[..texts.len().min(SHOWN_MAX)].join(",");
    if texts.len() > SHOWN_MAX {
        format!("{list} + {} more...", texts.len() - SHOWN_MAX)
    } else if list.is_empty() {
        "<unset>".into()
    } else {
        list
    }
}
