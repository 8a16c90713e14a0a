//! How Services show in a Table.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    kind::Column,
    meta, table,
    value::{items, str_of, texts},
};

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Type", "ClusterIP, NodePort, LoadBalancer or ExternalName."),
    Column::string("Cluster-IP", "The address within the cluster."),
    Column::string(
        "External-IP",
        "Addresses from outside, or the external name.",
    ),
    Column::string("Port(s)", "Port, node port and protocol of each port."),
    Column::AGE,
    Column::string("Selector", "Labels of the pods that answer.").wide(),
];

pub(super) fn cells(service: &Value, now_seconds: i64) -> Vec<Value> {
    let spec = &service["spec"];
    let cluster_ips = texts(&spec["clusterIPs"]);
    vec![
        meta::name(service).into(),
        str_of(&spec["type"]).into(),
        (*cluster_ips.first().unwrap_or(&"<none>")).into(),
        external(service).into(),
        ports(spec).into(),
        table::age(service, now_seconds),
        table::show_labels(&spec["selector"]).into(),
    ]
}

fn external(service: &Value) -> String {
    let spec = &service["spec"];
    let mut addresses = Vec::new();
    match str_of(&spec["type"]) {
        "ExternalName" => return str_of(&spec["externalName"]).to_owned(),
        "LoadBalancer" => addresses.extend(ingress(service)),
        "ClusterIP" | "NodePort" => {}
        _ => return "<unknown>".into(),
    }
    let is_load_balancer = spec["type"] == "LoadBalancer";
    addresses.extend(texts(&spec["externalIPs"]));
    match (addresses.is_empty(), is_load_balancer) {
        (true, true) => "<pending>".into(),
        (true, false) => "<none>".into(),
        (false, _) => addresses.join(","),
    }
}

fn ingress(service: &Value) -> BTreeSet<&str> {
    items(&service["status"]["loadBalancer"]["ingress"])
        .iter()
        .map(|ingress| match str_of(&ingress["ip"]) {
            "" => str_of(&ingress["hostname"]),
            ip => ip,
        })
        .filter(|address| !address.is_empty())
        .collect()
}

fn ports(spec: &Value) -> String {
    let ports: Vec<String> = items(&spec["ports"])
        .iter()
        .map(|port| {
            let protocol = str_of(&port["protocol"]);
            match port["nodePort"].as_i64() {
                Some(node_port) if node_port > 0 => {
                    format!("{}:{node_port}/{protocol}", port["port"])
                }
                _ => format!("{}/{protocol}", port["port"]),
            }
        })
        .collect();
    if ports.is_empty() {
        "<none>".into()
    } else {
        ports.join(",")
    }
}
