//! What is wrong with volumes that live on other machines: iSCSI, Fibre Channel, Quobyte, StorageOS. Connects to none.

use serde_json::{Value, json};

use super::super::checks::{self, Errors};
use crate::{
    field::{Error, Path},
    names, walk,
};

const UNIT_MAX: i64 = 255;
const TENANT_BYTES_MAX: usize = 64;
const REGISTRY_RULE: &str = "must be a host:port pair or multiple pairs separated by commas";

pub(super) fn iscsi(errors: &mut Errors, path: &Path, source: &Value) {
    let portal = walk::text(source, "targetPortal");
    checks::required(errors, &path.child("targetPortal"), portal);
    let name = walk::text(source, "iqn");
    if name.is_empty() {
        errors.push(Error::required(&path.child("iqn"), ""));
    } else {
        iscsi_name(errors, &path.child("iqn"), name);
    }
    unit(errors, path, walk::count(source, "lun"));
    let authenticates =
        walk::is_true(source, "chapAuthDiscovery") || walk::is_true(source, "chapAuthSession");
    if authenticates && !walk::has(source, "secretRef") {
        errors.push(Error::required(&path.child("secretRef"), ""));
    }
    if let Some(initiator) = walk::at(source, "initiatorName").as_str() {
        iscsi_name(errors, &path.child("initiatorname"), initiator);
    }
}

fn iscsi_name(errors: &mut Errors, path: &Path, name: &str) {
    let detail = match name.get(..3) {
        Some("iqn") if is_qualified_name(name) => return,
        Some("eui") if is_identifier(name, 16) => return,
        Some("naa") if is_identifier(name, 32) => return,
        Some("iqn" | "eui" | "naa") => "must be valid format",
        _ => "must be valid format starting with iqn, eui, or naa",
    };
    errors.push(Error::invalid(path, name, detail));
}

/// `iqn.2001-04.com.example:storage`: a month, a domain turned round and a name within it.
fn is_qualified_name(name: &str) -> bool {
    let Some((authority, rest)) = name.split_once(':') else {
        return false;
    };
    let forbidden = |c: char| c.is_ascii_whitespace() || ",;*&$|".contains(c);
    let mut parts = authority.splitn(3, '.').skip(1);
    let is_month = parts.next().is_some_and(|month| {
        month.len() == 7
            && month.bytes().enumerate().all(|(at, c)| {
                if at == 4 {
                    c == b'-'
                } else {
                    c.is_ascii_digit()
                }
            })
    });
    let is_domain = parts.next().is_some_and(|domain| {
        !domain.is_empty()
            && domain
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'.')
    });
    is_month && is_domain && !rest.is_empty() && !rest.contains(forbidden)
}

fn is_identifier(name: &str, digits: usize) -> bool {
    name.len() == digits + 4 && name.bytes().skip(4).all(|c| c.is_ascii_alphanumeric())
}

fn unit(errors: &mut Errors, path: &Path, unit: i64) {
    let messages = names::in_range(unit, 0, UNIT_MAX);
    checks::complain(errors, &path.child("lun"), unit, messages);
}

pub(super) fn fibre_channel(errors: &mut Errors, path: &Path, source: &Value) {
    let ports = walk::list(source, "targetWWNs");
    let path_ports = path.child("targetWWNs");
    match (ports.is_empty(), walk::list(source, "wwids").is_empty()) {
        (true, true) => {
            let detail = "must specify either targetWWNs or wwids, but not both";
            errors.push(Error::required(&path_ports, detail));
        }
        (false, false) => {
            let detail = "targetWWNs and wwids can not be specified simultaneously";
            errors.push(Error::invalid(&path_ports, json!(ports), detail));
        }
        (true, false) | (false, true) => {}
    }
    if ports.is_empty() {
        return;
    }
    match walk::integer(source, "lun") {
        Some(number) => unit(errors, path, number),
        None => {
            let detail = "lun is required if targetWWNs is specified";
            errors.push(Error::required(&path.child("lun"), detail));
        }
    }
}

pub(super) fn quobyte(errors: &mut Errors, path: &Path, source: &Value) {
    let registry = walk::text(source, "registry");
    let path_registry = path.child("registry");
    if registry.is_empty() {
        errors.push(Error::required(&path_registry, REGISTRY_RULE));
    } else if walk::text(source, "tenant").len() > TENANT_BYTES_MAX {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(Error::required(&path.child("tenant"), detail));
    } else {
        for pair in registry.split(',') {
            if !is_host_and_port(pair) {
                errors.push(Error::invalid(&path_registry, registry, REGISTRY_RULE));
            }
        }
    }
    checks::required(errors, &path.child("volume"), walk::text(source, "volume"));
}

/// A host with colons of its own stands in brackets.
fn is_host_and_port(pair: &str) -> bool {
    match pair.rsplit_once(':') {
        Some((host, _)) if host.starts_with('[') => {
            host.ends_with(']') && !host[1..].trim_end_matches(']').contains(['[', ']'])
        }
        Some((host, port)) => !host.contains([':', '[', ']']) && !port.contains(['[', ']']),
        None => false,
    }
}

pub(super) fn storage_os(errors: &mut Errors, path: &Path, source: &Value) {
    let name = walk::text(source, "volumeName");
    checks::required_dns_label(errors, &path.child("volumeName"), name);
    let namespace = walk::text(source, "volumeNamespace");
    if !namespace.is_empty() {
        checks::dns_label(errors, &path.child("volumeNamespace"), namespace);
    }
    let secret = walk::at(source, "secretRef");
    if !secret.is_null() {
        let path = path.child("secretRef").child("name");
        checks::required(errors, &path, walk::text(secret, "name"));
    }
}
