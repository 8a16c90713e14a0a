//! What a Service may say, whether it is new or changed.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{families, is_externally_accessible, is_headless, kind_of, needs_health_check_port};
use crate::{
    field::{Error, Path},
    meta::{self, complaints},
    names::{self, address},
    value::{int_of, items, str_of, texts},
};

pub(super) const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
pub(super) const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const AFFINITY_SECONDS_MAX: i64 = 86_400;
const LOAD_BALANCER_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";

/// Everything that is wrong, in the order in which Kubernetes lists it.
pub(super) fn validate(service: &Value, old: Option<&Value>) -> Vec<Error> {
    let spec = Path::new("spec");
    let mut errors = Vec::new();
    errors.extend(validate_topology_annotations(service));
    errors.extend(validate_type_needs(service));
    errors.extend(validate_ports(service));
    let selector = &service["spec"]["selector"];
    errors.extend(meta::validate_labels(selector, &spec.child("selector")));
    errors.extend(validate_affinity(service));
    errors.extend(families::validate_cluster_ips(service, old));
    errors.extend(validate_external_ips(service, old));
    errors.extend(validate_type(service));
    errors.extend(validate_port_pairs(service));
    errors.extend(validate_source_ranges(service, old));
    errors.extend(validate_load_balancer_fields(service));
    errors.extend(validate_external_policy(service));
    errors.extend(validate_internal_policy(service));
    errors.extend(validate_distribution(service));
    errors
}

fn validate_topology_annotations(service: &Value) -> Option<Error> {
    let annotations = meta::annotations(service)?;
    let mode = str_of(annotations.get(TOPOLOGY_MODE)?);
    let hints = str_of(annotations.get(TOPOLOGY_HINTS)?);
    (mode != hints).then(|| {
        let path = Path::new("metadata")
            .child("annotations")
            .key(TOPOLOGY_MODE);
        let detail = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        Error::invalid(&path, mode, &detail)
    })
}

fn validate_type_needs(service: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let spec = &service["spec"];
    let kind = kind_of(service);
    let headless = is_headless(service);
    let mut errors = Vec::new();
    if items(&spec["ports"]).is_empty() && !headless && kind != "ExternalName" {
        errors.push(Error::required(&path.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {kind} services");
            let path = path.child("clusterIPs").index(0);
            errors.push(Error::invalid(&path, super::HEADLESS, &detail));
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let is_set = match &spec[field] {
                    Value::Null => false,
                    Value::Array(values) => !values.is_empty(),
                    _ => true,
                };
                if is_set {
                    let detail = "may not be set for ExternalName services";
                    errors.push(Error::forbidden(&path.child(field), detail));
                }
            }
            errors.extend(validate_external_name(str_of(&spec["externalName"])));
        }
        _ => {}
    }
    errors
}

fn validate_external_name(name: &str) -> Vec<Error> {
    let path = Path::new("spec").child("externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => vec![Error::required(&path, "")],
        name => complaints(&path, name, names::dns1123_subdomain(name)),
    }
}

fn validate_ports(service: &Value) -> Vec<Error> {
    let ports = items(&service["spec"]["ports"]);
    let mut names_seen = BTreeSet::new();
    let mut errors = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = ports_path().index(index);
        let name = str_of(&port["name"]);
        if name.is_empty() {
            if ports.len() > 1 {
                errors.push(Error::required(&path.child("name"), ""));
            }
        } else {
            let path = path.child("name");
            errors.extend(complaints(&path, name, names::dns1123_label(name)));
            if !names_seen.insert(name) {
                errors.push(Error::duplicate(&path, name));
            }
        }
        errors.extend(validate_port(port, &path));
    }
    errors
}

fn validate_port(port: &Value, path: &Path) -> Vec<Error> {
    let mut errors = validate_port_number(int_of(&port["port"]), &path.child("port"));
    errors.extend(validate_protocol(
        &port["protocol"],
        &path.child("protocol"),
    ));
    let target = path.child("targetPort");
    match &port["targetPort"] {
        Value::String(name) => errors.extend(complaints(&target, name, names::port_name(name))),
        number => errors.extend(validate_port_number(int_of(number), &target)),
    }
    if let Value::String(protocol) = &port["appProtocol"] {
        let path = path.child("appProtocol");
        errors.extend(complaints(&path, protocol, names::qualified_name(protocol)));
    }
    errors
}

fn validate_port_number(number: i64, path: &Path) -> Vec<Error> {
    names::port_number(number)
        .iter()
        .map(|detail| Error::invalid(path, number, detail))
        .collect()
}

/// Checks the protocol of a port of any kind.
pub(in crate::kinds) fn validate_protocol(protocol: &Value, path: &Path) -> Option<Error> {
    match str_of(protocol) {
        "" => Some(Error::required(path, "")),
        "SCTP" | "TCP" | "UDP" => None,
        other => Some(Error::not_supported(path, other, &["SCTP", "TCP", "UDP"])),
    }
}

fn validate_affinity(service: &Value) -> Option<Error> {
    let spec = Path::new("spec");
    let path = spec.child("sessionAffinity");
    let config_path = spec.child("sessionAffinityConfig");
    let config = &service["spec"]["sessionAffinityConfig"];
    match str_of(&service["spec"]["sessionAffinity"]) {
        "" => Some(Error::required(&path, "")),
        "ClientIP" => validate_affinity_timeout(config, &config_path),
        "None" if !config.is_null() => Some(Error::forbidden(
            &config_path,
            "must not be set when session affinity is None",
        )),
        "None" => None,
        other => Some(Error::not_supported(&path, other, &["ClientIP", "None"])),
    }
}

fn validate_affinity_timeout(config: &Value, path: &Path) -> Option<Error> {
    let client = path.child("clientIP");
    let timeout = client.child("timeoutSeconds");
    let required = |path| {
        let detail = "when session affinity type is ClientIP";
        Some(Error::required(path, detail))
    };
    if config.is_null() {
        return required(path);
    }
    if config["clientIP"].is_null() {
        return required(&client);
    }
    let Some(seconds) = config["clientIP"]["timeoutSeconds"].as_i64() else {
        return required(&timeout);
    };
    let detail = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
    (!(1..=AFFINITY_SECONDS_MAX).contains(&seconds))
        .then(|| Error::invalid(&timeout, seconds, &detail))
}

fn validate_external_ips(service: &Value, old: Option<&Value>) -> Vec<Error> {
    let path = Path::new("spec").child("externalIPs");
    let accepted = old
        .map(|old| texts(&old["spec"]["externalIPs"]))
        .unwrap_or_default();
    let mut errors = Vec::new();
    for (index, ip) in texts(&service["spec"]["externalIPs"])
        .into_iter()
        .enumerate()
    {
        let path = path.index(index);
        let malformed = address::validate_legacy(&path, ip, &accepted);
        if malformed.is_empty() {
            errors.extend(address::validate_endpoint(&path, ip));
        } else {
            errors.extend(malformed);
        }
    }
    errors
}

fn validate_type(service: &Value) -> Option<Error> {
    let path = Path::new("spec").child("type");
    let known = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    match kind_of(service) {
        "" => Some(Error::required(&path, "")),
        kind if known.contains(&kind) => None,
        other => Some(Error::not_supported(&path, other, &known)),
    }
}

fn validate_port_pairs(service: &Value) -> Vec<Error> {
    let ports = items(&service["spec"]["ports"]);
    let mut errors = Vec::new();
    if kind_of(service) == "ClusterIP" {
        for (index, port) in ports.iter().enumerate() {
            if int_of(&port["nodePort"]) != 0 {
                let path = ports_path().index(index).child("nodePort");
                let detail = "may not be used when `type` is 'ClusterIP'";
                errors.push(Error::forbidden(&path, detail));
            }
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let node_port = int_of(&port["nodePort"]);
        if node_port != 0 && !seen.insert((str_of(&port["protocol"]), node_port)) {
            let path = ports_path().index(index).child("nodePort");
            errors.push(Error::duplicate(&path, node_port));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let (protocol, number) = (str_of(&port["protocol"]), int_of(&port["port"]));
        if !seen.insert((protocol, number)) {
            // Go shows its internal struct with only these two fields set.
            let shown = format!(
                r#"{{"Name":"","Protocol":"{protocol}","AppProtocol":null,"Port":{number},"TargetPort":0,"NodePort":0}}"#
            );
            errors.push(Error::duplicate_shown(
                &ports_path().index(index),
                &shown,
                "",
            ));
        }
    }
    errors
}

fn validate_source_ranges(service: &Value, old: Option<&Value>) -> Vec<Error> {
    let ranges = texts(&service["spec"]["loadBalancerSourceRanges"]);
    if ranges.is_empty() {
        return validate_source_ranges_annotation(service, old);
    }
    // The capital L is Kubernetes'.
    let path = Path::new("spec").child("LoadBalancerSourceRanges");
    let mut errors = Vec::new();
    if kind_of(service) != "LoadBalancer" {
        errors.push(Error::forbidden(&path, LOAD_BALANCER_ONLY));
    }
    let accepted: Vec<&str> = old
        .map(|old| texts(&old["spec"]["loadBalancerSourceRanges"]))
        .unwrap_or_default()
        .into_iter()
        .map(str::trim)
        .collect();
    for (index, range) in ranges.into_iter().enumerate() {
        let path = path.index(index);
        errors.extend(address::validate_cidr_legacy(
            &path,
            range.trim(),
            &accepted,
        ));
    }
    errors
}

fn validate_source_ranges_annotation(service: &Value, old: Option<&Value>) -> Vec<Error> {
    let ranges_of = |service: &Value| {
        let ranges = meta::annotations(service)?.get(SOURCE_RANGES)?;
        Some(str_of(ranges).to_owned())
    };
    let Some(ranges) = ranges_of(service) else {
        return Vec::new();
    };
    let path = Path::new("metadata")
        .child("annotations")
        .key(SOURCE_RANGES);
    let mut errors = Vec::new();
    if kind_of(service) != "LoadBalancer" {
        errors.push(Error::forbidden(&path, LOAD_BALANCER_ONLY));
    }
    let before = old.map(|old| ranges_of(old).unwrap_or_default());
    if before.as_ref() != Some(&ranges) && !ranges.trim().is_empty() {
        for range in ranges.trim().split(',') {
            errors.extend(address::validate_cidr_legacy(&path, range.trim(), &[]));
        }
    }
    errors
}

fn validate_load_balancer_fields(service: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let spec = &service["spec"];
    let is_load_balancer = kind_of(service) == "LoadBalancer";
    let mut errors = Vec::new();
    match (
        is_load_balancer,
        spec["allocateLoadBalancerNodePorts"].is_null(),
    ) {
        (false, false) => {
            let path = path.child("allocateLoadBalancerNodePorts");
            errors.push(Error::forbidden(&path, LOAD_BALANCER_ONLY));
        }
        (true, true) => {
            let path = Path::new("allocateLoadBalancerNodePorts");
            errors.push(Error::required(&path, ""));
        }
        _ => {}
    }
    errors.extend(validate_class(service));
    errors
}

/// Checks `loadBalancerClass` as far as it can be without the stored Service.
pub(super) fn validate_class(service: &Value) -> Vec<Error> {
    let path = Path::new("spec").child("loadBalancerClass");
    match &service["spec"]["loadBalancerClass"] {
        Value::String(class) if kind_of(service) == "LoadBalancer" => {
            complaints(&path, class, names::qualified_name(class))
        }
        Value::String(_) => vec![Error::forbidden(&path, LOAD_BALANCER_ONLY)],
        _ => Vec::new(),
    }
}

fn validate_external_policy(service: &Value) -> Vec<Error> {
    let spec = Path::new("spec");
    let path = spec.child("externalTrafficPolicy");
    let mut errors = Vec::new();
    match (
        is_externally_accessible(service),
        str_of(&service["spec"]["externalTrafficPolicy"]),
    ) {
        (false, "") | (true, "Cluster" | "Local") => {}
        (false, policy) => {
            let detail = "may only be set for externally-accessible services";
            errors.push(Error::invalid(&path, policy, detail));
        }
        (true, "") => errors.push(Error::required(&path, "")),
        (true, other) => {
            errors.push(Error::not_supported(&path, other, &["Cluster", "Local"]));
        }
    }
    let path = spec.child("healthCheckNodePort");
    match (
        needs_health_check_port(service),
        int_of(&service["spec"]["healthCheckNodePort"]),
    ) {
        (false, 0) => {}
        (false, port) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(Error::invalid(&path, port, detail));
        }
        (true, 0) => errors.push(Error::required(&path, "")),
        (true, port) => errors.extend(validate_port_number(port, &path)),
    }
    errors
}

fn validate_internal_policy(service: &Value) -> Option<Error> {
    let path = Path::new("spec").child("internalTrafficPolicy");
    let is_needed = matches!(kind_of(service), "ClusterIP" | "NodePort" | "LoadBalancer");
    match &service["spec"]["internalTrafficPolicy"] {
        Value::Null => is_needed.then(|| Error::required(&path, "")),
        policy if policy == "Cluster" || policy == "Local" => None,
        other => Some(Error::not_supported(
            &path,
            other.clone(),
            &["Cluster", "Local"],
        )),
    }
}

fn validate_distribution(service: &Value) -> Option<Error> {
    let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    let distribution = &service["spec"]["trafficDistribution"];
    let path = Path::new("spec").child("trafficDistribution");
    (!distribution.is_null() && !known.contains(&str_of(distribution)))
        .then(|| Error::not_supported(&path, distribution.clone(), &known))
}

fn ports_path() -> Path {
    Path::new("spec").child("ports")
}
