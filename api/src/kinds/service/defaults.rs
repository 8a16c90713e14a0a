//! What a Service says when its author said nothing.

use serde_json::{Map, Value, json};

use super::{is_externally_accessible, kind_of};
use crate::value::{default_to, fields_mut, items_mut, of_object};

const AFFINITY_TIMEOUT_SECONDS: u32 = 3 * 60 * 60;

pub(super) fn default(service: &mut Value) {
    let spec = fields_mut(service, "spec");
    default_affinity(spec);
    default_to(spec, "type", "ClusterIP");
    for port in items_mut(&mut service["spec"], "ports") {
        default_port(port);
    }
    if is_externally_accessible(service) {
        default_to(
            fields_mut(service, "spec"),
            "externalTrafficPolicy",
            "Cluster",
        );
    }
    let kind = kind_of(service).to_owned();
    let spec = fields_mut(service, "spec");
    // An empty text is not a missing one here: Kubernetes holds this field by pointer.
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer")
        && spec.get("internalTrafficPolicy").is_none_or(Value::is_null)
    {
        spec.insert("internalTrafficPolicy".into(), "Cluster".into());
    }
    if kind == "LoadBalancer" {
        default_to(spec, "allocateLoadBalancerNodePorts", true);
        default_ip_mode(service);
    }
    fields_mut(status_mut(service), "loadBalancer");
}

fn default_affinity(spec: &mut Map<String, Value>) {
    default_to(spec, "sessionAffinity", "None");
    match spec.get("sessionAffinity").and_then(Value::as_str) {
        Some("None") => {
            spec.remove("sessionAffinityConfig");
        }
        Some("ClientIP") => {
            let timeout = spec
                .get("sessionAffinityConfig")
                .map_or(&Value::Null, |config| &config["clientIP"]["timeoutSeconds"]);
            if timeout.is_null() {
                let config = json!({"clientIP": {"timeoutSeconds": AFFINITY_TIMEOUT_SECONDS}});
                spec.insert("sessionAffinityConfig".into(), config);
            }
        }
        _ => {}
    }
}

fn default_port(port: &mut Value) {
    let number = port["port"].clone();
    let port = of_object(port);
    default_to(port, "protocol", "TCP");
    if port.get("targetPort").is_some_and(|target| target == 0) {
        port.remove("targetPort");
    }
    let number = if number.is_null() { 0.into() } else { number };
    default_to(port, "targetPort", number);
}

fn default_ip_mode(service: &mut Value) {
    let status = status_mut(service);
    let load_balancer = fields_mut(status, "loadBalancer");
    let Some(Value::Array(ingresses)) = load_balancer.get_mut("ingress") else {
        return;
    };
    for ingress in ingresses.iter_mut().map(of_object) {
        if ingress.get("ip").is_some_and(|ip| ip != "") {
            let mode = ingress.entry("ipMode").or_insert(Value::Null);
            if mode.is_null() {
                *mode = "VIP".into();
            }
        }
    }
}

fn status_mut(service: &mut Value) -> &mut Value {
    of_object(service)
        .entry("status")
        .or_insert_with(|| json!({}))
}
