//! What an EndpointSlice may say. Knows nothing of Services or pods.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    field::{Error, Path},
    kinds::service::validate_protocol,
    meta::{self, complaints},
    names::{self, address, address::Family},
    value::{items, str_of, texts},
};

const ADDRESSES_MAX: usize = 100;
const ENDPOINTS_MAX: usize = 1_000;
const PORTS_MAX: usize = 20_000;
const HINTS_MAX: usize = 8;
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

pub(super) fn validate(slice: &Value) -> Vec<Error> {
    let mut errors = validate_head(slice);
    errors.extend(validate_endpoints(slice));
    errors
}

/// Endpoints that were stored under older rules may stay as they are.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = validate_head(new);
    if new["endpoints"] != old["endpoints"] {
        errors.extend(validate_endpoints(new));
    }
    let path = Path::new("addressType");
    errors.extend(meta::immutable(
        &path,
        &new["addressType"],
        &old["addressType"],
    ));
    errors
}

/// What the controllers write is known to be fine; that names are deprecated is said once.
pub(super) fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if new["addressType"] == "FQDN" && old.is_none() {
        // The path is Kubernetes', though the field has no parent.
        warnings.push("spec.addressType: FQDN endpoints are deprecated".into());
    }
    let managed_by = str_of(&new["metadata"]["labels"][MANAGED_BY]);
    if matches!(
        managed_by,
        "endpointslice-controller.k8s.io" | "endpointslicemirroring-controller.k8s.io"
    ) {
        return warnings;
    }
    for (index, endpoint) in items(&new["endpoints"]).iter().enumerate() {
        let path = Path::new("endpoints").index(index).child("addresses");
        for (index, text) in texts(&endpoint["addresses"]).into_iter().enumerate() {
            warnings.extend(address::warnings(&path.index(index), text));
        }
    }
    warnings
}

fn validate_head(slice: &Value) -> Vec<Error> {
    let path = Path::new("addressType");
    let mut errors = Vec::new();
    match str_of(&slice["addressType"]) {
        "" => errors.push(Error::required(&path, "")),
        "IPv4" | "IPv6" | "FQDN" => {}
        other => errors.push(Error::not_supported(
            &path,
            other,
            &["FQDN", "IPv4", "IPv6"],
        )),
    }
    errors.extend(validate_ports(slice));
    errors
}

fn validate_ports(slice: &Value) -> Vec<Error> {
    let path = Path::new("ports");
    let ports = items(&slice["ports"]);
    if ports.len() > PORTS_MAX {
        return vec![Error::too_many(&path, ports.len(), PORTS_MAX)];
    }
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = str_of(&port["name"]);
        let name_path = path.child("name");
        if !name.is_empty() {
            errors.extend(complaints(&name_path, name, names::dns1123_label(name)));
        }
        if !seen.insert(name) {
            errors.push(Error::duplicate(&name_path, name));
        }
        let protocol_path = path.child("protocol");
        errors.extend(match &port["protocol"] {
            Value::String(protocol) if protocol.is_empty() => {
                let known = ["SCTP", "TCP", "UDP"];
                Some(Error::not_supported(&protocol_path, "", &known))
            }
            protocol => validate_protocol(protocol, &protocol_path),
        });
        if let Value::String(protocol) = &port["appProtocol"] {
            let path = path.child("appProtocol");
            errors.extend(complaints(&path, protocol, names::qualified_name(protocol)));
        }
    }
    errors
}

fn validate_endpoints(slice: &Value) -> Vec<Error> {
    let path = Path::new("endpoints");
    let endpoints = items(&slice["endpoints"]);
    if endpoints.len() > ENDPOINTS_MAX {
        return vec![Error::too_many(&path, endpoints.len(), ENDPOINTS_MAX)];
    }
    let family = str_of(&slice["addressType"]);
    let mut errors = Vec::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        errors.extend(validate_endpoint(endpoint, family, &path.index(index)));
    }
    errors
}

fn validate_endpoint(endpoint: &Value, family: &str, path: &Path) -> Vec<Error> {
    let addresses_path = path.child("addresses");
    let addresses = texts(&endpoint["addresses"]);
    let mut errors = Vec::new();
    if addresses.is_empty() {
        let detail = "must contain at least 1 address";
        errors.push(Error::required(&addresses_path, detail));
    } else if addresses.len() > ADDRESSES_MAX {
        errors.push(Error::too_many(
            &addresses_path,
            addresses.len(),
            ADDRESSES_MAX,
        ));
    }
    for (index, address) in addresses.into_iter().enumerate() {
        errors.extend(validate_address(address, family, &addresses_path, index));
    }
    if let Value::String(node) = &endpoint["nodeName"] {
        let path = path.child("nodeName");
        errors.extend(complaints(&path, node, names::dns1123_subdomain(node)));
    }
    if let Value::String(hostname) = &endpoint["hostname"] {
        let path = path.child("hostname");
        errors.extend(complaints(&path, hostname, names::dns1123_label(hostname)));
    }
    errors.extend(validate_hints(&endpoint["hints"], &path.child("hints")));
    errors
}

fn validate_address(text: &str, family: &str, list: &Path, index: usize) -> Vec<Error> {
    let path = list.index(index);
    let malformed = match family {
        "IPv4" => address::validate_legacy(&path, text, &[]),
        "IPv6" => address::validate(&path, text),
        "FQDN" => return names::validate_domain(&path, text),
        _ => return Vec::new(),
    };
    if !malformed.is_empty() {
        return malformed;
    }
    let mut errors = Vec::new();
    let actual = address::parse_sloppy(text).map(|address| Family::of(address).wire());
    if actual != Some(family) {
        let detail = format!("must be an {family} address");
        errors.push(Error::invalid(list, text, &detail));
    }
    errors.extend(address::validate_endpoint(&path, text));
    errors
}

fn validate_hints(hints: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for list in ["forZones", "forNodes"] {
        let path = path.child(list);
        let targets = items(&hints[list]);
        if targets.len() > HINTS_MAX {
            errors.push(Error::too_many(&path, targets.len(), HINTS_MAX));
            return errors;
        }
        let mut seen = BTreeSet::new();
        for (index, target) in targets.iter().enumerate() {
            let path = path.index(index).child("name");
            let name = str_of(&target["name"]);
            if !seen.insert(name) {
                errors.push(Error::duplicate(&path, name));
            }
            let details = if list == "forZones" {
                names::label_value(name)
            } else {
                names::dns1123_subdomain(name)
            };
            errors.extend(complaints(&path, name, details));
        }
    }
    errors
}
