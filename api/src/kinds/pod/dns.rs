//! Names of pods and how they look others up: `dnsConfig`, `hostAliases`, host names. Resolves nothing.

use serde_json::{Value, json};

use super::super::checks::{self, Errors};
use crate::{
    field::{Error, Path},
    names::{self, address},
    walk,
};

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_LENGTH_MAX: usize = 2048;
const HOSTNAME_LENGTH_MAX: usize = 64;

/// Validates `spec.dnsConfig` for the policy it goes with.
pub fn config(errors: &mut Errors, path: &Path, spec: &Value) {
    let config = walk::at(spec, "dnsConfig");
    let nameservers = walk::list(config, "nameservers");
    if walk::text(spec, "dnsPolicy") == "None" {
        if config.is_null() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(Error::required(path, detail));
            return;
        }
        if nameservers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(Error::required(&path.child("nameservers"), detail));
            return;
        }
    }
    let path_servers = path.child("nameservers");
    if nameservers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.push(Error::invalid(&path_servers, json!(nameservers), &detail));
    }
    for (index, server) in nameservers.iter().enumerate() {
        let server = server.as_str().unwrap_or_default();
        errors.extend(address::validate_legacy(
            &path_servers.index(index),
            server,
            &[],
        ));
    }
    searches(
        errors,
        &path.child("searches"),
        walk::list(config, "searches"),
    );
    for (index, option) in walk::list(config, "options").iter().enumerate() {
        if walk::text(option, "name").is_empty() {
            let path = path.child("options").index(index);
            errors.push(Error::required(&path, "must not be empty"));
        }
    }
}

fn searches(errors: &mut Errors, path: &Path, searches: &[Value]) {
    let texts: Vec<&str> = searches
        .iter()
        .map(|search| search.as_str().unwrap_or_default())
        .collect();
    if texts.len() > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.push(Error::invalid(path, json!(texts), &detail));
    }
    if texts.join(" ").len() > SEARCH_LENGTH_MAX {
        let detail = format!(
            "must not have more than {SEARCH_LENGTH_MAX} characters (including spaces) in the search list"
        );
        errors.push(Error::invalid(path, json!(texts), &detail));
    }
    for (index, search) in texts
        .into_iter()
        .enumerate()
        .filter(|(_, search)| *search != ".")
    {
        let search = search.strip_suffix('.').unwrap_or(search);
        let messages = names::dns1123_subdomain_with_underscore(search);
        checks::complain(errors, &path.index(index), search, messages);
    }
}

/// Validates `spec.hostAliases`.
pub fn host_aliases(errors: &mut Errors, path: &Path, aliases: &[Value]) {
    for (index, alias) in aliases.iter().enumerate() {
        let path = path.index(index);
        let ip = walk::text(alias, "ip");
        errors.extend(address::validate_legacy(&path.child("ip"), ip, &[]));
        for (index, name) in walk::list(alias, "hostnames").iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            let messages = names::dns1123_subdomain(name);
            checks::complain(
                errors,
                &path.child("hostnames").index(index),
                name,
                messages,
            );
        }
    }
}

/// Validates `spec.hostnameOverride`.
pub fn hostname_override(errors: &mut Errors, path: &Path, spec: &Value) {
    let Some(name) = walk::at(spec, "hostnameOverride").as_str() else {
        return;
    };
    for (field, detail) in [
        (
            "setHostnameAsFQDN",
            "may not be specified when setHostnameAsFQDN is true",
        ),
        (
            "hostNetwork",
            "may not be specified when hostNetwork is true",
        ),
    ] {
        if walk::is_true(spec, field) {
            errors.push(Error::forbidden(path, detail));
        }
    }
    if name.len() > HOSTNAME_LENGTH_MAX {
        errors.push(Error::too_long(path, HOSTNAME_LENGTH_MAX));
    }
    checks::complain(errors, path, name, names::dns1123_subdomain(name));
}
