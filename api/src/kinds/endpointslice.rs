//! EndpointSlice: addresses that answer for a Service.

use serde_json::Value;

use super::{Column, Generation, Kind, Strategy};
use crate::{
    meta, table,
    value::{items, str_of, texts},
};

const SHOWN_MAX: usize = 3;

pub static ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    strategy: Strategy {
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
