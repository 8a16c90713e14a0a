//! What a pod spec holds when the client says nothing, for pods and for templates alike. Validates nothing.

pub mod volumes;

use serde_json::{Map, Value, json};

use super::{image, resources};
use crate::walk::{self, fill, fill_zero};

const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Everything a stored pod spec has, wherever it is embedded.
pub fn spec(spec: &mut Value) {
    let map = walk::object_mut(spec, "");
    fill_zero(map, "dnsPolicy", "ClusterFirst");
    fill_zero(map, "restartPolicy", "Always");
    fill(map, "securityContext", json!({}));
    fill(map, "terminationGracePeriodSeconds", 30);
    fill_zero(map, "schedulerName", "default-scheduler");
    service_account_alias(map);
    resources::canonicalize(map, "overhead");
    if let Some(resources) = map.get_mut("resources") {
        resources::default(resources);
    }
    for list in CONTAINER_LISTS {
        for container in walk::list_mut(spec, list) {
            self::container(container);
        }
    }
    for volume in walk::list_mut(spec, "volumes") {
        volumes::volume(volume);
    }
}

/// What only real pods get, so that a template stays as small as its author wrote it.
pub fn pod(pod: &mut Value) {
    let spec = walk::object_mut(pod, "spec");
    fill(spec, "enableServiceLinks", true);
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    let Some(spec) = pod.get_mut("spec") else {
        return;
    };
    for list in ["containers", "initContainers"] {
        for container in walk::list_mut(spec, list) {
            resources::requests_from_limits(container);
            if host_network {
                host_ports(container);
            }
        }
    }
    resources::default_pod_level(spec);
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are always shown.
fn service_account_alias(spec: &mut Map<String, Value>) {
    let read = |name: &str| {
        spec.get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    match read("serviceAccountName").or_else(|| read("serviceAccount")) {
        Some(name) => {
            spec.insert("serviceAccountName".into(), json!(name));
            spec.insert("serviceAccount".into(), json!(name));
        }
        None => {
            spec.remove("serviceAccount");
        }
    }
}

fn container(container: &mut Value) {
    let policy = image::pull_policy(walk::text(container, "image"));
    let map = walk::object_mut(container, "");
    fill(map, "name", "");
    fill_zero(map, "imagePullPolicy", policy);
    fill_zero(map, "terminationMessagePath", "/dev/termination-log");
    fill_zero(map, "terminationMessagePolicy", "File");
    fill(map, "resources", json!({}));
    if let Some(resources) = map.get_mut("resources") {
        resources::default(resources);
    }
    for port in walk::list_mut(container, "ports") {
        fill_zero(walk::object_mut(port, ""), "protocol", "TCP");
    }
    for variable in walk::list_mut(container, "env") {
        if let Some(source) = variable.get_mut("valueFrom") {
            volumes::downward_references(source);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(name).filter(|probe| probe.is_object()) {
            self::probe(probe);
        }
    }
    for name in ["lifecycle.postStart", "lifecycle.preStop"] {
        if let Some(handler) = walk::at_mut(container, name) {
            http_get(handler);
        }
    }
}

fn probe(probe: &mut Value) {
    http_get(probe);
    if let Some(grpc) = probe.get_mut("grpc").filter(|grpc| grpc.is_object()) {
        fill(walk::object_mut(grpc, ""), "service", "");
    }
    let map = walk::object_mut(probe, "");
    fill_zero(map, "timeoutSeconds", 1);
    fill_zero(map, "periodSeconds", 10);
    fill_zero(map, "successThreshold", 1);
    fill_zero(map, "failureThreshold", 3);
}

fn http_get(handler: &mut Value) {
    if let Some(get) = handler.get_mut("httpGet").filter(|get| get.is_object()) {
        let map = walk::object_mut(get, "");
        fill_zero(map, "path", "/");
        fill_zero(map, "scheme", "HTTP");
    }
}

fn host_ports(container: &mut Value) {
    for port in walk::list_mut(container, "ports") {
        let container_port = walk::at(port, "containerPort").clone();
        if !container_port.is_null() {
            fill_zero(walk::object_mut(port, ""), "hostPort", container_port);
        }
    }
}
