//! Node: a machine that runs pods.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Column, Kind, Scope, Subresource};
use crate::{
    meta, table,
    value::{items, str_of},
};

pub static NODE: Kind = Kind {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    scope: Scope::Cluster,
    subresources: &[Subresource::proxy("NodeProxyOptions"), Subresource::STATUS],
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

fn address<'a>(object: &'a Value, kind: &str) -> &'a str {
    items(&object["status"]["addresses"])
        .iter()
        .find(|address| address["type"] == kind)
        .map_or("<none>", |address| str_of(&address["address"]))
}
