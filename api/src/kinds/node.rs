//! Node: a machine that runs pods.

mod validation;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    kind::{Column, Kind, MetadataCheck, Scope, Strategy, Subresource},
    meta, table,
    value::{fields_mut, items, put, restore, str_of},
};

pub static NODE: Kind = Kind {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    scope: Scope::Cluster,
    subresources: &[Subresource::proxy("NodeProxyOptions"), Subresource::STATUS],
    strategy: Strategy {
        default,
        validate_create: validation::validate,
        prepare_update: |new, old| restore(new, old, "status"),
        validate_update: |new, old| {
            let mut errors = validation::validate(new);
            errors.extend(validation::validate_change(new, old));
            errors
        },
        metadata_checks: &[MetadataCheck::Create, MetadataCheck::Update],
        prepare_status: |new, old| restore(new, old, "spec"),
        validate_status: validation::validate_change,
        warnings: |new, _| validation::warnings(new),
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string("Status", "Whether the node is ready and takes pods."),
        Column::string("Roles", "Roles from node-role.kubernetes.io labels."),
        Column::AGE,
        Column::string("Version", "Version of the node agent."),
        Column::string("Internal-IP", "Address within the cluster.").wide(),
        Column::string("External-IP", "Address from outside.").wide(),
        Column::string("OS-Image", "Name of the operating system.").wide(),
        Column::string("Kernel-Version", "Kernel and architecture.").wide(),
        Column::string("Container-Runtime", "What runs the processes.").wide(),
    ],
    cells,
    selectable: &[("spec.unschedulable", |object| {
        (object["spec"]["unschedulable"] == Value::Bool(true)).to_string()
    })],
    ..Kind::BASE
};

/// Networks of the links that a node is on, as its agent tells: nodes within them are reached without a router.
pub const NETWORKS_ANNOTATION: &str = "knarr.io/networks";

fn default(node: &mut Value) {
    let status = &node["status"];
    if status["allocatable"].is_null() && !status["capacity"].is_null() {
        let capacity = status["capacity"].clone();
        put(fields_mut(node, "status"), "allocatable", capacity);
    }
    let (one, all) = (&node["spec"]["podCIDR"], &node["spec"]["podCIDRs"]);
    let first = items(all).first().cloned().unwrap_or(Value::Null);
    if !str_of(one).is_empty() && *one != first {
        let all = Value::Array(vec![one.clone()]);
        put(fields_mut(node, "spec"), "podCIDRs", all);
    } else if !first.is_null() {
        put(fields_mut(node, "spec"), "podCIDR", first);
    }
}

fn cells(object: &Value, now_seconds: i64) -> Vec<Value> {
    let info = &object["status"]["nodeInfo"];
    let known = |field: &str| match str_of(&info[field]) {
        "" => "<unknown>".to_owned(),
        text => text.to_owned(),
    };
    let kernel = match str_of(&info["architecture"]) {
        "" => known("kernelVersion"),
        architecture => format!("{} ({architecture})", known("kernelVersion")),
    };
    vec![
        meta::name(object).into(),
        state(object).into(),
        roles(object).into(),
        table::age(object, now_seconds),
        str_of(&info["kubeletVersion"]).into(),
        address(object, "InternalIP").into(),
        address(object, "ExternalIP").into(),
        known("osImage").into(),
        kernel.into(),
        known("containerRuntimeVersion").into(),
    ]
}

fn state(object: &Value) -> String {
    let ready = items(&object["status"]["conditions"])
        .iter()
        .rfind(|condition| condition["type"] == "Ready");
    let mut state = match ready {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if object["spec"]["unschedulable"] == Value::Bool(true) {
        state.push_str(",SchedulingDisabled");
    }
    state
}

fn roles(object: &Value) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in meta::label_texts(object) {
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => roles.insert(role),
            None if key == "kubernetes.io/role" && !value.is_empty() => roles.insert(value),
            _ => false,
        };
    }
    if roles.is_empty() {
        return "<none>".into();
    }
    roles.into_iter().collect::<Vec<_>>().join(",")
}

/// The labels that say where in the world a node is, which its pods get as well.
pub fn topology(node: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    let labels = &node["metadata"]["labels"];
    [
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    ]
    .into_iter()
    .filter_map(|label| Some((label, labels.get(label)?)))
}

fn address<'a>(object: &'a Value, kind: &str) -> &'a str {
    items(&object["status"]["addresses"])
        .iter()
        .find(|address| address["type"] == kind)
        .map_or("<none>", |address| str_of(&address["address"]))
}
