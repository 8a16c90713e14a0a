//! What may change in a Service: never its first address or family, never a class or health check port in use.

use serde_json::Value;

use super::{families::SINGLE, is_headless, kind_of, needs_health_check_port, validation};
use crate::{
    field::{Error, Path},
    value::items,
};

const FIXED: &str = "may not change once set";

pub(super) fn validate(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    if kind_of(new) != "ExternalName" && kind_of(old) != "ExternalName" {
        errors.extend(validate_cluster_ips(new, old));
        errors.extend(validate_families(new, old));
    }
    errors.extend(validate_class(new, old));
    errors.extend(validate_health_check_port(new, old));
    errors.extend(validation::validate(new, Some(old)));
    errors
}

fn validate_cluster_ips(new: &Value, old: &Value) -> Vec<Error> {
    if is_headless(new) && is_headless(old) {
        return Vec::new();
    }
    let path = Path::new("spec").child("clusterIPs");
    let all = &new["spec"]["clusterIPs"];
    let (now, before) = (items(all), items(&old["spec"]["clusterIPs"]));
    let fixed = |index| Error::invalid(&path.index(index), all.clone(), FIXED);
    let mut errors = Vec::new();
    if now.len() == before.len() {
        let changed = now.iter().zip(before).enumerate();
        let changed = changed.filter(|(_, (now, before))| now != before);
        return changed.map(|(index, _)| fixed(index)).collect();
    }
    if now.is_empty() {
        let detail = "primary clusterIP can not be unset";
        errors.push(Error::invalid(&path.index(0), all.clone(), detail));
    } else if !before.is_empty() && now.first() != before.first() {
        errors.push(fixed(0));
    }
    if now.len() == 1 && before.len() > 1 {
        errors.extend(validate_release(new, "clusterIP"));
    }
    errors
}

fn validate_families(new: &Value, old: &Value) -> Vec<Error> {
    if is_headless(new) || is_headless(old) {
        return Vec::new();
    }
    let path = Path::new("spec").child("ipFamilies").index(0);
    let (new_spec, old_spec) = (&new["spec"], &old["spec"]);
    let all = &new_spec["ipFamilies"];
    let (now, before) = (items(all), items(&old_spec["ipFamilies"]));
    let mut errors = Vec::new();
    if now.len() == before.len() {
        let changed = now.iter().zip(before).filter(|(now, before)| now != before);
        return changed
            .map(|_| Error::invalid(&path, all.clone(), FIXED))
            .collect();
    }
    if now.len() < before.len() && items(&new_spec["clusterIPs"]).is_empty() {
        let detail = "primary ipFamily can not be unset";
        errors.push(Error::invalid(&path, all.clone(), detail));
    }
    if !now.is_empty() && !before.is_empty() && now.first() != before.first() {
        // Kubernetes shows the addresses here, not the families.
        errors.push(Error::invalid(&path, new_spec["clusterIPs"].clone(), FIXED));
    }
    if now.len() == 1 && before.len() > 1 {
        errors.extend(validate_release(new, "ipFamily"));
    }
    errors
}

fn validate_release(new: &Value, what: &str) -> Option<Error> {
    let policy = &new["spec"]["ipFamilyPolicy"];
    let path = Path::new("spec").child("ipFamilyPolicy");
    let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
    (policy != SINGLE).then(|| Error::invalid(&path, policy.clone(), &detail))
}

fn validate_class(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let class = |service: &Value| service["spec"]["loadBalancerClass"].clone();
    let both = [new, old].iter().all(|s| kind_of(s) == "LoadBalancer");
    if both && class(new) != class(old) {
        let path = Path::new("spec").child("loadBalancerClass");
        errors.push(Error::invalid(&path, class(new), FIXED));
    }
    errors.extend(validation::validate_class(new));
    errors
}

fn validate_health_check_port(new: &Value, old: &Value) -> Option<Error> {
    let port = |service: &Value| service["spec"]["healthCheckNodePort"].clone();
    let both = needs_health_check_port(new) && needs_health_check_port(old);
    let path = Path::new("spec").child("healthCheckNodePort");
    (both && port(new) != port(old)).then(|| Error::forbidden(&path, crate::meta::IMMUTABLE))
}
