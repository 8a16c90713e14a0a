//! Endpoints: the old form of EndpointSlices, deprecated and still served.

use serde_json::Value;

use super::service::validate_protocol;
use crate::{
    field::{Error, Path},
    kind::{Column, Kind, MetadataCheck, Strategy},
    meta::{self, complaints},
    names::{self, address},
    table,
    value::{default_to, int_of, items, items_mut, of_object, str_of},
};

const SHOWN_MAX: usize = 3;

pub static ENDPOINTS: Kind = Kind {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    strategy: Strategy {
        default,
        validate_create: validate,
        validate_update: |new, old| {
            if new["subsets"] == old["subsets"] {
                Vec::new()
            } else {
                validate(new)
            }
        },
        metadata_checks: &[MetadataCheck::Update, MetadataCheck::Create],
        warnings: |new, _| warnings(new),
        create_on_update: true,
        ..Strategy::BASE
    },
    deprecation: Some(
        "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ),
    columns: &[
        Column::NAME,
        Column::string("Endpoints", "Addresses and ports that are ready."),
        Column::AGE,
    ],
    cells,
    ..Kind::BASE
};

fn default(endpoints: &mut Value) {
    for subset in items_mut(endpoints, "subsets") {
        for port in items_mut(subset, "ports") {
            default_to(of_object(port), "protocol", "TCP");
        }
    }
}

fn validate(endpoints: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, subset) in items(&endpoints["subsets"]).iter().enumerate() {
        let path = Path::new("subsets").index(index);
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|list| items(&subset[*list]).is_empty()) {
            let detail = "must specify `addresses` or `notReadyAddresses`";
            errors.push(Error::required(&path, detail));
        }
        for list in lists {
            for (index, address) in items(&subset[list]).iter().enumerate() {
                errors.extend(validate_address(address, &path.child(list).index(index)));
            }
        }
        let ports = items(&subset["ports"]);
        for (index, port) in ports.iter().enumerate() {
            let path = path.child("ports").index(index);
            if ports.len() > 1 && str_of(&port["name"]).is_empty() {
                errors.push(Error::required(&path.child("name"), ""));
            }
            errors.extend(validate_port(port, &path));
        }
    }
    errors
}

fn validate_address(endpoint: &Value, path: &Path) -> Vec<Error> {
    let ip = str_of(&endpoint["ip"]);
    let mut errors = address::validate_legacy(&path.child("ip"), ip, &[]);
    let hostname = str_of(&endpoint["hostname"]);
    if !hostname.is_empty() {
        let path = path.child("hostname");
        errors.extend(complaints(&path, hostname, names::dns1123_label(hostname)));
    }
    if let Value::String(node) = &endpoint["nodeName"] {
        let path = path.child("nodeName");
        errors.extend(complaints(&path, node, names::dns1123_subdomain(node)));
    }
    errors.extend(address::validate_endpoint(&path.child("ip"), ip));
    errors
}

fn validate_port(port: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let name = str_of(&port["name"]);
    if !name.is_empty() {
        errors.extend(complaints(
            &path.child("name"),
            name,
            names::dns1123_label(name),
        ));
    }
    let number = int_of(&port["port"]);
    let number_path = path.child("port");
    for detail in names::port_number(number) {
        errors.push(Error::invalid(&number_path, number, &detail));
    }
    errors.extend(validate_protocol(
        &port["protocol"],
        &path.child("protocol"),
    ));
    if let Value::String(protocol) = &port["appProtocol"] {
        let path = path.child("appProtocol");
        errors.extend(complaints(&path, protocol, names::qualified_name(protocol)));
    }
    errors
}

/// What the endpoints controller writes is known to be fine.
fn warnings(endpoints: &Value) -> Vec<String> {
    let managed_by = &endpoints["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"];
    if managed_by == "endpoint-controller" {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    for (index, subset) in items(&endpoints["subsets"]).iter().enumerate() {
        let path = Path::new("subsets").index(index);
        for list in ["addresses", "notReadyAddresses"] {
            for (index, endpoint) in items(&subset[list]).iter().enumerate() {
                let path = path.child(list).index(index).child("ip");
                warnings.extend(address::warnings(&path, str_of(&endpoint["ip"])));
            }
        }
    }
    warnings
}

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
