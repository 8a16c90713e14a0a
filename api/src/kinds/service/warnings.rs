//! What is accepted in a Service and still worth a word.

use serde_json::Value;

use super::{
    HEADLESS, kind_of,
    validation::{TOPOLOGY_HINTS, TOPOLOGY_MODE},
};
use crate::{
    field::Path,
    meta,
    names::address,
    value::{str_of, texts},
};

pub(super) fn of(service: &Value) -> Vec<String> {
    let spec = &service["spec"];
    let path = Path::new("spec");
    let is_external = kind_of(service) == "ExternalName";
    let external_ips = texts(&spec["externalIPs"]);
    let is_headless = kind_of(service) == "ClusterIP" && spec["clusterIP"] == HEADLESS;
    let mut warnings = Vec::new();
    if meta::annotations(service).is_some_and(|all| all.contains_key(TOPOLOGY_HINTS)) {
        warnings.push(format!(
            "annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"
        ));
    }
    if !is_external && !matches!(str_of(&spec["clusterIP"]), "" | HEADLESS) {
        warnings.extend(address_warnings(
            &spec["clusterIPs"],
            &path.child("clusterIPs"),
        ));
    }
    if is_headless {
        warnings.extend(ignored_without_address(spec));
    }
    warnings.extend(address_warnings(
        &spec["externalIPs"],
        &path.child("externalIPs"),
    ));
    if !external_ips.is_empty() && !is_headless && !is_external {
        warnings.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
                .into(),
        );
    }
    let wanted = str_of(&spec["loadBalancerIP"]);
    warnings.extend(address::warnings(&path.child("loadBalancerIP"), wanted));
    let ranges_path = path.child("loadBalancerSourceRanges");
    for (index, range) in texts(&spec["loadBalancerSourceRanges"])
        .into_iter()
        .enumerate()
    {
        warnings.extend(address::cidr_warnings(&ranges_path.index(index), range));
    }
    if is_external && !external_ips.is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if !is_external && !str_of(&spec["externalName"]).is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if spec["trafficDistribution"] == "PreferClose" {
        warnings.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\""
                .into(),
        );
    }
    warnings
}

fn ignored_without_address(spec: &Value) -> Vec<String> {
    let ignored = [
        (
            "loadBalancerIP",
            !str_of(&spec["loadBalancerIP"]).is_empty(),
        ),
        ("externalIPs", !texts(&spec["externalIPs"]).is_empty()),
        // The capital S is Kubernetes'.
        (
            "SessionAffinity",
            str_of(&spec["sessionAffinity"]) != "None",
        ),
    ];
    ignored
        .into_iter()
        .filter(|(_, is_set)| *is_set)
        .map(|(field, _)| format!("spec.{field} is ignored for headless services"))
        .collect()
}

fn address_warnings(addresses: &Value, path: &Path) -> Vec<String> {
    texts(addresses)
        .into_iter()
        .enumerate()
        .filter_map(|(index, ip)| address::warnings(&path.index(index), ip))
        .collect()
}
