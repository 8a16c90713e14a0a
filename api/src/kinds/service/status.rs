//! Writes through `/status`: load-balancer addresses and conditions, never the spec.

use serde_json::Value;

use super::kind_of;
use crate::{
    field::{Error, Path},
    meta::complaints,
    names::{self, address},
    value::{items, restore, str_of},
};

pub(super) fn prepare(new: &mut Value, old: &Value) {
    restore(new, old, "spec");
}

pub(super) fn validate(new: &Value, old: &Value) -> Vec<Error> {
    let path = ingress_path();
    let ingresses = ingresses(new);
    if kind_of(new) != "LoadBalancer" && !ingresses.is_empty() {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        return vec![Error::forbidden(&path, detail)];
    }
    let accepted: Vec<&str> = self::ingresses(old)
        .iter()
        .map(|i| str_of(&i["ip"]))
        .collect();
    let mut errors = Vec::new();
    for (index, ingress) in ingresses.iter().enumerate() {
        errors.extend(validate_ingress(ingress, &path.index(index), &accepted));
    }
    errors
}

pub(super) fn warnings(new: &Value, _: &Value) -> Vec<String> {
    let path = ingress_path();
    ingresses(new)
        .iter()
        .enumerate()
        .filter_map(|(index, ingress)| {
            address::warnings(&path.index(index), str_of(&ingress["ip"]))
        })
        .collect()
}

fn validate_ingress(ingress: &Value, path: &Path, accepted: &[&str]) -> Vec<Error> {
    let ip = str_of(&ingress["ip"]);
    let mut errors = Vec::new();
    if !ip.is_empty() {
        errors.extend(address::validate_legacy(&path.child("ip"), ip, accepted));
    }
    let mode_path = path.child("ipMode");
    match &ingress["ipMode"] {
        Value::Null if ip.is_empty() => {}
        Value::Null => {
            let detail = "must be specified when `ip` is set";
            errors.push(Error::required(&mode_path, detail));
        }
        _ if ip.is_empty() => {
            let detail = "may not be specified when `ip` is not set";
            errors.push(Error::forbidden(&mode_path, detail));
        }
        mode if mode == "VIP" || mode == "Proxy" => {}
        other => {
            let known = ["Proxy", "VIP"];
            errors.push(Error::not_supported(&mode_path, other.clone(), &known));
        }
    }
    let hostname = str_of(&ingress["hostname"]);
    if !hostname.is_empty() {
        let path = path.child("hostname");
        errors.extend(complaints(
            &path,
            hostname,
            names::dns1123_subdomain(hostname),
        ));
        if address::parse_sloppy(hostname).is_some() {
            let detail = "must be a DNS name, not an IP address";
            errors.push(Error::invalid(&path, hostname, detail));
        }
    }
    errors
}

fn ingresses(service: &Value) -> &[Value] {
    items(&service["status"]["loadBalancer"]["ingress"])
}

fn ingress_path() -> Path {
    Path::new("status").child("loadBalancer").child("ingress")
}
