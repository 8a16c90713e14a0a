//! Cluster IPs and IP families: which a Service has, asks for, and may have on this cluster.

use serde_json::Value;

use super::{HEADLESS, kind_of, needs_cluster_ip};
use crate::{
    field::{Error, Path},
    names::address::{self, Family},
    value::{fields_mut, items, put, str_of, texts},
};

pub(super) const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// The families that this cluster has service ranges for, the first being the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    pub primary: Family,
    pub secondary: Option<Family>,
}

impl Families {
    fn has(self, family: Family) -> bool {
        self.primary == family || self.secondary == Some(family)
    }
}

/// Makes `clusterIP` and `clusterIPs` agree where the client gave only one of them.
pub fn normalise_cluster_ips(new: &mut Value, old: Option<&Value>) {
    let spec = |service: &Value, field: &str| service["spec"][field].clone();
    let (one, all) = (spec(new, "clusterIP"), spec(new, "clusterIPs"));
    let listed = |ip: &Value| Value::Array(vec![ip.clone()]);
    let set = |new: &mut Value, all: Value| put(fields_mut(new, "spec"), "clusterIPs", all);
    let Some(old) = old else {
        if !str_of(&one).is_empty() && items(&all).is_empty() {
            set(new, listed(&one));
        }
        return;
    };
    let (old_one, old_all) = (spec(old, "clusterIP"), spec(old, "clusterIPs"));
    if items(&all).is_empty() && !items(&old_all).is_empty() && str_of(&one) == str_of(&old_one) {
        set(new, old_all.clone());
    }
    if str_of(&one) == str_of(&old_one) || items(&new["spec"]["clusterIPs"]) != items(&old_all) {
        return;
    }
    // The client changed only the singular field, so the list follows it.
    if str_of(&one).is_empty() {
        set(new, Value::Null);
    } else {
        set(new, listed(&one));
    }
}

/// Fills in `ipFamilyPolicy` and `ipFamilies`, and says what this cluster cannot give.
///
/// On errors the Service is only partly filled in and must be refused.
pub fn normalise_families(new: &mut Value, old: Option<&Value>, families: &Families) -> Vec<Error> {
    if !needs_cluster_ip(new) || is_settled(new, old) {
        return Vec::new();
    }
    default_policy(new, old);
    let errors = validate_cluster_ips(new, old);
    if !errors.is_empty() {
        return errors;
    }
    let mut errors = Vec::new();
    if let Some(old) = old {
        errors.extend(release_secondary(new, old));
    }
    errors.extend(too_many_for_single(new));
    errors.extend(infer_families(new, *families));
    if !errors.is_empty() {
        return errors;
    }
    if is_headless_without_selector(new) {
        complete_families(new, *families, Both::Always);
        return Vec::new();
    }
    let errors = unavailable(new, *families);
    if errors.is_empty() {
        complete_families(new, *families, Both::IfConfigured);
    }
    errors
}

/// Everything about cluster IPs and families that can be judged without knowing the cluster.
pub(super) fn validate_cluster_ips(service: &Value, old: Option<&Value>) -> Vec<Error> {
    if kind_of(service) == "ExternalName" {
        return Vec::new();
    }
    let mut errors: Vec<Error> = validate_agreement(service).into_iter().collect();
    errors.extend(validate_family_names(service));
    let address_errors = validate_addresses(service, old);
    let are_addresses_valid = address_errors.is_empty();
    errors.extend(address_errors);
    let all = &service["spec"]["clusterIPs"];
    if items(all).len() > 2 {
        let detail = "may only hold up to 2 values";
        errors.push(Error::invalid(&cluster_ips_path(), all.clone(), detail));
    }
    // Addresses that are no addresses would only add confusion to what follows.
    if are_addresses_valid {
        errors.extend(validate_one_per_family(service));
    }
    errors
}

fn validate_agreement(service: &Value) -> Option<Error> {
    let path = cluster_ips_path();
    let all = &service["spec"]["clusterIPs"];
    let one = str_of(&service["spec"]["clusterIP"]);
    match (one.is_empty(), items(all).first()) {
        (false, None) => Some(Error::required(&path, "")),
        (false, Some(first)) if first != one => {
            let detail = "first value must match `clusterIP`";
            Some(Error::invalid(&path, all.clone(), detail))
        }
        (true, Some(_)) => {
            let detail = "must be empty when `clusterIP` is not specified";
            Some(Error::invalid(&path, all.clone(), detail))
        }
        _ => None,
    }
}

fn validate_family_names(service: &Value) -> Vec<Error> {
    let spec = Path::new("spec");
    let mut errors = Vec::new();
    let families = texts(&service["spec"]["ipFamilies"]);
    for (index, family) in families.iter().enumerate() {
        let path = spec.child("ipFamilies").index(index);
        if Family::from_wire(family).is_none() {
            errors.push(Error::not_supported(&path, *family, &["IPv4", "IPv6"]));
        }
        if families[..index].contains(family) {
            errors.push(Error::duplicate(&path, *family));
        }
    }
    let policy = &service["spec"]["ipFamilyPolicy"];
    let known = [PREFER, REQUIRE, SINGLE];
    if !policy.is_null() && !known.contains(&str_of(policy)) {
        let path = spec.child("ipFamilyPolicy");
        errors.push(Error::not_supported(&path, policy.clone(), &known));
    }
    errors
}

fn validate_addresses(service: &Value, old: Option<&Value>) -> Vec<Error> {
    let path = cluster_ips_path();
    let all = &service["spec"]["clusterIPs"];
    let accepted = old
        .map(|old| texts(&old["spec"]["clusterIPs"]))
        .unwrap_or_default();
    let mut errors = Vec::new();
    for (index, ip) in texts(all).into_iter().enumerate() {
        if index > 0 || ip != HEADLESS {
            errors.extend(address::validate_legacy(&path.index(index), ip, &accepted));
        } else if items(all).len() > 1 {
            let detail = "'None' must be the first and only value";
            errors.push(Error::invalid(&path, all.clone(), detail));
        }
    }
    errors
}

fn validate_one_per_family(service: &Value) -> Vec<Error> {
    let path = cluster_ips_path();
    let spec = &service["spec"];
    let ips = texts(&spec["clusterIPs"]);
    let mut errors = Vec::new();
    if ips.len() > 1 && !is_mixed(&ips) {
        errors.push(Error::invalid(
            &path,
            spec["clusterIPs"].clone(),
            "may specify no more than one IP for each IP family",
        ));
    }
    if ips == [HEADLESS] {
        return errors;
    }
    for (index, (ip, family)) in ips.iter().zip(texts(&spec["ipFamilies"])).enumerate() {
        let matches = family_of(ip).map(Family::wire) == Some(family);
        if Family::from_wire(family).is_some() && !matches {
            errors.push(Error::invalid(
                &path.index(index),
                *ip,
                &format!("expected an {family} value as indicated by `ipFamilies[{index}]`"),
            ));
        }
    }
    errors
}

/// Kubernetes only asks that both families occur, however many addresses there are.
fn is_mixed(ips: &[&str]) -> bool {
    let has = |family| ips.iter().any(|ip| family_of(ip) == Some(family));
    has(Family::Ipv4) && has(Family::Ipv6)
}

/// A dual-stack preference that changed nothing is not looked at again, even if the cluster could give more.
fn is_settled(new: &Value, old: Option<&Value>) -> bool {
    let Some(old) = old else {
        return false;
    };
    let (new, old) = (&new["spec"], &old["spec"]);
    let same = |field: &str| items(&new[field]) == items(&old[field]);
    new["type"] == old["type"]
        && matches!(
            str_of(&new["type"]),
            "ClusterIP" | "NodePort" | "LoadBalancer"
        )
        && new["ipFamilyPolicy"] == PREFER
        && (old["ipFamilyPolicy"].is_null() || old["ipFamilyPolicy"] == PREFER)
        && same("clusterIPs")
        && same("ipFamilies")
}

fn default_policy(new: &mut Value, old: Option<&Value>) {
    if !new["spec"]["ipFamilyPolicy"].is_null() {
        return;
    }
    let before = old.map_or(&Value::Null, |old| &old["spec"]["ipFamilyPolicy"]);
    let policy = if !before.is_null() {
        before.clone()
    } else if is_headless_without_selector(new) {
        REQUIRE.into()
    } else {
        SINGLE.into()
    };
    put(fields_mut(new, "spec"), "ipFamilyPolicy", policy);
}

fn release_secondary(new: &mut Value, old: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let now = items(&new["spec"][field]);
        let before = items(&old["spec"][field]);
        if new["spec"]["ipFamilyPolicy"] == SINGLE {
            if now == before && now.len() > 1 {
                let first = Value::Array(now[..1].to_vec());
                put(fields_mut(new, "spec"), field, first);
            }
        } else if !now.is_empty() && now.len() < before.len() {
            errors.push(policy_error(
                new,
                &format!("must be '{SINGLE}' to release the secondary {what}"),
            ));
        }
    }
    errors
}

fn too_many_for_single(new: &Value) -> Vec<Error> {
    let fields = [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")];
    fields
        .iter()
        .filter(|(field, _)| {
            new["spec"]["ipFamilyPolicy"] == SINGLE && items(&new["spec"][*field]).len() == 2
        })
        .map(|(_, what)| {
            let detail =
                format!("must be '{REQUIRE}' or '{PREFER}' when multiple {what} are specified");
            policy_error(new, &detail)
        })
        .collect()
}

fn infer_families(new: &mut Value, families: Families) -> Vec<Error> {
    let all = new["spec"]["clusterIPs"].clone();
    let mut errors = Vec::new();
    for (index, ip) in texts(&all).into_iter().enumerate() {
        if ip == HEADLESS {
            break;
        }
        if index < items(&new["spec"]["ipFamilies"]).len() {
            continue;
        }
        match family_of(ip) {
            Some(family) if families.has(family) => add_family(new, family),
            family => {
                let family = family.map_or("unknown", Family::wire);
                errors.push(Error::invalid(
                    &cluster_ips_path().index(index),
                    all.clone(),
                    &format!("{family} is not configured on this cluster"),
                ));
            }
        }
    }
    errors
}

fn unavailable(new: &Value, families: Families) -> Vec<Error> {
    let mut errors = Vec::new();
    if new["spec"]["ipFamilyPolicy"] == REQUIRE && families.secondary.is_none() {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(policy_error(new, detail));
    }
    for (index, family) in texts(&new["spec"]["ipFamilies"]).into_iter().enumerate() {
        if !Family::from_wire(family).is_some_and(|f| families.has(f)) {
            let path = Path::new("spec").child("ipFamilies").index(index);
            errors.push(Error::invalid(
                &path,
                family,
                "not configured on this cluster",
            ));
        }
    }
    errors
}

/// When a Service that allows two families gets the second.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Both {
    Always,
    IfConfigured,
}

fn complete_families(new: &mut Value, families: Families, both: Both) {
    if items(&new["spec"]["ipFamilies"]).is_empty() {
        add_family(new, families.primary);
    }
    let given = texts(&new["spec"]["ipFamilies"]);
    let second = match given.as_slice() {
        ["IPv4"] => Family::Ipv6,
        ["IPv6"] => Family::Ipv4,
        _ => return,
    };
    let wanted = new["spec"]["ipFamilyPolicy"] != SINGLE;
    if wanted && (both == Both::Always || families.secondary.is_some()) {
        add_family(new, second);
    }
}

fn add_family(new: &mut Value, family: Family) {
    let mut all = items(&new["spec"]["ipFamilies"]).to_vec();
    all.push(family.wire().into());
    put(fields_mut(new, "spec"), "ipFamilies", Value::Array(all));
}

fn is_headless_without_selector(service: &Value) -> bool {
    let selector = service["spec"]["selector"].as_object();
    service["spec"]["clusterIP"] == HEADLESS && selector.is_none_or(|labels| labels.is_empty())
}

fn policy_error(new: &Value, detail: &str) -> Error {
    let path = Path::new("spec").child("ipFamilyPolicy");
    Error::invalid(&path, new["spec"]["ipFamilyPolicy"].clone(), detail)
}

fn cluster_ips_path() -> Path {
    Path::new("spec").child("clusterIPs")
}

fn family_of(ip: &str) -> Option<Family> {
    address::parse_sloppy(ip).map(Family::of)
}
