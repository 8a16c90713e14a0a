//! Services as their users write them, from the body to what is stored or refused.

mod create;
mod update;

use serde_json::{Value, json};

use super::{Families, SERVICE, normalise_cluster_ips, normalise_families, patch_allocated_values};
use crate::{
    decode,
    field::Error,
    meta,
    names::address::Family,
    value::{fields_mut, put},
};

const IPV4_ONLY: Families = Families {
    primary: Family::Ipv4,
    secondary: None,
};
const DUAL_STACK: Families = Families {
    primary: Family::Ipv4,
    secondary: Some(Family::Ipv6),
};

/// A Service named `web` with this spec, decoded and defaulted.
fn service(spec: Value) -> Value {
    let body = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": spec});
    let decoded = decode::json(&SERVICE, body.to_string().as_bytes()).expect("can be decoded");
    let mut object = decoded.object;
    (SERVICE.strategy.default)(&mut object);
    object
}

/// What a Service with this spec would be stored as, given the cluster's families and `10.0.128.9` as the next free address.
fn created(spec: Value, families: &Families) -> Result<Value, Vec<Error>> {
    let mut new = service(spec);
    normalise_cluster_ips(&mut new, None);
    refuse(normalise_families(&mut new, None, families))?;
    give_addresses(&mut new);
    SERVICE.prepare_create(&mut new);
    refuse(SERVICE.validate_create(&new))?;
    meta::set(&mut new, "resourceVersion", "1");
    Ok(new)
}

/// What `old` becomes when a client writes `spec` over it.
fn updated(old: &Value, spec: Value) -> Result<Value, Vec<Error>> {
    let mut new = service(spec);
    meta::set(&mut new, "resourceVersion", "1");
    patch_allocated_values(&mut new, old);
    normalise_cluster_ips(&mut new, Some(old));
    refuse(normalise_families(&mut new, Some(old), &IPV4_ONLY))?;
    give_addresses(&mut new);
    SERVICE.prepare_update(&mut new, old);
    refuse(SERVICE.validate_update(&new, old))?;
    Ok(new)
}

fn give_addresses(service: &mut Value) {
    let next = [("IPv4", "10.0.128.9"), ("IPv6", "fd00::9")];
    if !super::needs_cluster_ip(service) || super::is_headless(service) {
        return;
    }
    let families = crate::value::texts(&service["spec"]["ipFamilies"]);
    let mut ips = crate::value::items(&service["spec"]["clusterIPs"]).to_vec();
    for family in families.iter().skip(ips.len()) {
        ips.extend(
            next.iter()
                .filter(|(f, _)| f == family)
                .map(|(_, ip)| Value::from(*ip)),
        );
    }
    let spec = fields_mut(service, "spec");
    put(
        spec,
        "clusterIP",
        ips.first().cloned().unwrap_or(Value::Null),
    );
    put(spec, "clusterIPs", Value::Array(ips));
}

fn refuse(errors: Vec<Error>) -> Result<(), Vec<Error>> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

fn texts_of(errors: &[Error]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check_refused(outcome: Result<Value, Vec<Error>>, expected: &[&str]) {
    match outcome {
        Err(errors) => assert_eq!(texts_of(&errors), expected),
        Ok(stored) => panic!("was accepted as {stored}"),
    }
}

#[track_caller]
fn check_stored(outcome: Result<Value, Vec<Error>>, expected: Value) {
    match outcome {
        Ok(stored) => assert_eq!(stored["spec"], expected),
        Err(errors) => panic!("was refused: {:?}", texts_of(&errors)),
    }
}
