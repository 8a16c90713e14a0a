//! What a Service keeps, takes back and lets go of from one write to the next.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    allocates_node_ports, is_externally_accessible, kind_of, needs_cluster_ip,
    needs_health_check_port, needs_node_ports,
};
use crate::value::{fields_mut, int_of, items, items_mut, of_object, put, restore, str_of};

pub(super) fn prepare_create(service: &mut Value) {
    put(of_object(service), "status", json!({"loadBalancer": {}}));
}

pub(super) fn prepare_update(new: &mut Value, old: &Value) {
    restore(new, old, "status");
    drop_type_dependent_fields(new, old);
}

/// Fills in from the stored Service what was allocated for it and the client left out.
pub fn patch_allocated_values(new: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        for field in ["clusterIP", "clusterIPs"] {
            let is_missing = match &new["spec"][field] {
                Value::Array(ips) => ips.is_empty(),
                ip => str_of(ip).is_empty(),
            };
            if is_missing {
                put(fields_mut(new, "spec"), field, old["spec"][field].clone());
            }
        }
    }
    if allocates_node_ports(old) && allocates_node_ports(new) {
        patch_node_ports(new, old);
    }
    if needs_health_check_port(old) && needs_health_check_port(new) {
        let field = "healthCheckNodePort";
        if int_of(&new["spec"][field]) == 0 {
            put(fields_mut(new, "spec"), field, old["spec"][field].clone());
        }
    }
}

/// Ports keep their node port by name, unless another port took that number.
fn patch_node_ports(new: &mut Value, old: &Value) {
    let (now, before) = (node_ports(new), node_ports(old));
    let by_name: BTreeMap<&str, i64> = items(&old["spec"]["ports"])
        .iter()
        .map(|port| (str_of(&port["name"]), int_of(&port["nodePort"])))
        .collect();
    let Some(spec) = new.get_mut("spec") else {
        return;
    };
    for port in items_mut(spec, "ports") {
        let kept = by_name.get(str_of(&port["name"])).copied().unwrap_or(0);
        let is_taken = now.contains(&kept) && before.contains(&kept);
        if int_of(&port["nodePort"]) == 0 && kept != 0 && !is_taken {
            put(of_object(port), "nodePort", kept.into());
        }
    }
}

/// Drops what the new type has no use for, where the client did not touch it; what was touched is left for validation.
fn drop_type_dependent_fields(new: &mut Value, old: &Value) {
    let same = |new: &Value, field: &str| new["spec"][field] == old["spec"][field];
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if same(new, "clusterIP") && same(new, "clusterIPs") {
            drop_field(new, "clusterIP");
            drop_field(new, "clusterIPs");
        }
        drop_if(new, old, "ipFamilies");
        drop_if(new, old, "ipFamilyPolicy");
    }
    if needs_node_ports(old)
        && !needs_node_ports(new)
        && node_ports(old).is_superset(&node_ports(new))
        && let Some(spec) = new.get_mut("spec")
    {
        for port in items_mut(spec, "ports") {
            of_object(port).remove("nodePort");
        }
    }
    if needs_health_check_port(old) && !needs_health_check_port(new) {
        drop_if(new, old, "healthCheckNodePort");
    }
    let is_load_balancer = kind_of(new) == "LoadBalancer";
    if kind_of(old) == "LoadBalancer" && !is_load_balancer {
        drop_if(new, old, "allocateLoadBalancerNodePorts");
        drop_if(new, old, "loadBalancerClass");
    }
    if is_externally_accessible(old) && !is_externally_accessible(new) {
        drop_if(new, old, "externalTrafficPolicy");
    }
    if !is_load_balancer {
        put(fields_mut(new, "status"), "loadBalancer", json!({}));
    }
}

fn drop_if(new: &mut Value, old: &Value, field: &str) {
    if new["spec"][field] == old["spec"][field] {
        drop_field(new, field);
    }
}

fn drop_field(service: &mut Value, field: &str) {
    fields_mut(service, "spec").remove(field);
}

/// Kubernetes checks and keeps this field on `ExternalName` Services, and shows it again once the type has a use for it.
pub(super) fn hide_unused_traffic_policy(service: &mut Value) {
    if kind_of(service) == "ExternalName" {
        drop_field(service, "internalTrafficPolicy");
    }
}

fn node_ports(service: &Value) -> BTreeSet<i64> {
    items(&service["spec"]["ports"])
        .iter()
        .map(|port| int_of(&port["nodePort"]))
        .filter(|port| *port != 0)
        .collect()
}
