//! Endpoints: the old form of EndpointSlices, deprecated and still served.

use serde_json::Value;

use super::{Column, Durability, Kind, Scope, Strategy};
use crate::{
    meta::{self, items, str_of},
    table,
};

const SHOWN_MAX: usize = 3;

pub static ENDPOINTS: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    categories: &[],
    scope: Scope::Namespaced,
    durability: Durability::Disk,
    verbs: Kind::VERBS,
    subresources: &[],
    strategy: Strategy {
        create_on_update: true,
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string("Endpoints", "Addresses and ports that are ready."),
        Column::AGE,
    ],
    cells,
    selectable: &[],
    view: None,
};

fn cells(object: &Value, now_seconds: i64) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        ready_addresses(object).into(),
        table::age(object, now_seconds),
    ]
}

fn ready_addresses(object: &Value) -> String {
    let subsets = items(&object["subsets"]);
    if subsets.is_empty() {
        return "<none>".into();
    }
    let shown: Vec<String> = subsets.iter().flat_map(subset_addresses).collect();
    let list = shown[..shown.len().min(SHOWN_MAX)].join(",");
    if shown.len() > SHOWN_MAX {
        format!("{list} + {} more...", shown.len() - SHOWN_MAX)
    } else {
        list
    }
}

fn subset_addresses(subset: &Value) -> Vec<String> {
    let ips = || items(&subset["addresses"]).iter().map(|a| str_of(&a["ip"]));
    let ports = items(&subset["ports"]);
    if ports.is_empty() {
        return ips().map(str::to_owned).collect();
    }
    let with_port = |ip: &str, port: &Value| {
        if ip.contains(':') {
            format!("[{ip}]:{}", port["port"])
        } else {
            format!("{ip}:{}", port["port"])
        }
    };
    ports
        .iter()
        .flat_map(|port| ips().map(move |ip| with_port(ip, port)))
        .collect()
}
