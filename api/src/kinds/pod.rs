//! Pod: containers that share a network and a life on one node.

pub mod admit;
pub mod claims;
pub mod columns;
pub mod containers;
pub mod defaults;
pub mod dns;
pub mod env;
pub mod image;
pub mod probes;
mod remote;
pub mod resources;
pub mod scheduling;
pub mod security;
pub mod status;
#[cfg(test)]
mod tests;
pub mod update;
pub mod validate;
pub mod volumes;
pub mod warnings;
mod windows;

use serde_json::{Value, json};

use crate::{
    field::Path,
    kind::{Generation, Kind, Strategy, Subresource},
    walk,
};

pub static POD: Kind = Kind {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    subresources: SUBRESOURCES,
    strategy: Strategy {
        default,
        prepare_create,
        validate_create: validate::create,
        prepare_update,
        validate_update: update::validate,
        prepare_status: status::prepare,
        validate_status: status::validate,
        status_resets: &[
            &["spec"],
            &["metadata", "deletionTimestamp"],
            &["metadata", "ownerReferences"],
        ],
        warnings: warnings::pod,
        generation: Generation::Spec,
        returns_deleted_object: true,
        grace_seconds: Some(grace_seconds),
        ..Strategy::BASE
    },
    columns: columns::COLUMNS,
    cells: columns::cells,
    completed: columns::completed,
    selectable: &[
        ("spec.nodeName", |pod| {
            walk::text(pod, "spec.nodeName").to_owned()
        }),
        ("spec.host", |pod| {
            walk::text(pod, "spec.nodeName").to_owned()
        }),
        ("spec.restartPolicy", |pod| {
            walk::text(pod, "spec.restartPolicy").to_owned()
        }),
        ("spec.schedulerName", |pod| {
            walk::text(pod, "spec.schedulerName").to_owned()
        }),
        ("spec.serviceAccountName", |pod| {
            walk::text(pod, "spec.serviceAccountName").to_owned()
        }),
        ("spec.hostNetwork", |pod| {
            walk::is_true(pod, "spec.hostNetwork").to_string()
        }),
        ("status.phase", |pod| {
            walk::text(pod, "status.phase").to_owned()
        }),
        ("status.podIP", |pod| {
            let first = walk::list(pod, "status.podIPs").first();
            first.map_or("", |ip| walk::text(ip, "ip")).to_owned()
        }),
        // Kubernetes takes the field and gives it no value.
        ("status.podIPs", |_| String::new()),
        ("status.nominatedNodeName", |pod| {
            walk::text(pod, "status.nominatedNodeName").to_owned()
        }),
    ],
    ..Kind::BASE
};

const SUBRESOURCES: &[Subresource] = &[
    stream("attach", "PodAttachOptions"),
    Subresource {
        name: "binding",
        body: Some(("", "", "Binding")),
        verbs: &["create"],
    },
    Subresource {
        name: "eviction",
        body: Some(("policy", "v1", "Eviction")),
        verbs: &["create"],
    },
    stream("exec", "PodExecOptions"),
    Subresource {
        name: "log",
        body: None,
        verbs: &["get"],
    },
    stream("portforward", "PodPortForwardOptions"),
    Subresource::proxy("PodProxyOptions"),
    Subresource {
        name: "resize",
        ..Subresource::STATUS
    },
    Subresource::STATUS,
];

/// A subresource that turns into a stream of bytes.
const fn stream(name: &'static str, options: &'static str) -> Subresource {
    Subresource {
        name,
        body: Some(("", "", options)),
        verbs: &["create", "get"],
    }
}

fn default(pod: &mut Value) {
    walk::object_mut(pod, "spec");
    if let Some(spec) = pod.get_mut("spec") {
        defaults::spec(spec);
    }
    defaults::pod(pod);
    status::fill_shapes(pod);
}

/// Expects the system's metadata to be filled in: the gated condition dates from the pod's creation.
fn prepare_create(pod: &mut Value) {
    let class = resources::qos_class(walk::at(pod, "spec"));
    let mut status = json!({"phase": "Pending", "qosClass": class});
    if !walk::list(pod, "spec.schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null,
            "lastTransitionTime": walk::at(pod, "metadata.creationTimestamp"),
        }]);
    }
    walk::object_mut(pod, "").insert("status".into(), status);
    merge_label_keys(pod);
}

/// `matchLabelKeys` become requirements with the pod's own values.
fn merge_label_keys(pod: &mut Value) {
    let labels = walk::at(pod, "metadata.labels").clone();
    for constraint in walk::list_mut(pod, "spec.topologySpreadConstraints") {
        merge_into_selector(constraint, &labels);
    }
    for affinity in ["spec.affinity.podAffinity", "spec.affinity.podAntiAffinity"] {
        let required = format!("{affinity}.requiredDuringSchedulingIgnoredDuringExecution");
        for term in walk::list_mut(pod, &required) {
            merge_into_selector(term, &labels);
        }
        let preferred = format!("{affinity}.preferredDuringSchedulingIgnoredDuringExecution");
        for weighted in walk::list_mut(pod, &preferred) {
            if let Some(term) = weighted.get_mut("podAffinityTerm") {
                merge_into_selector(term, &labels);
            }
        }
    }
}

fn merge_into_selector(term: &mut Value, labels: &Value) {
    if !walk::has(term, "labelSelector") {
        return;
    }
    let mut requirements = walk::list(term, "labelSelector.matchExpressions").to_vec();
    let count_before = requirements.len();
    for (keys, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in walk::list(term, keys) {
            if let Some(value) = key.as_str().and_then(|key| labels.get(key)) {
                requirements.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if requirements.len() > count_before {
        let selector = walk::object_mut(term, "labelSelector");
        selector.insert("matchExpressions".into(), Value::from(requirements));
    }
}

fn prepare_update(new: &mut Value, old: &Value) {
    walk::carry(new, old, "status");
}

/// Pods without a node and pods that have ended go at once.
fn grace_seconds(pod: &Value) -> i64 {
    let ended = ["Succeeded", "Failed"].contains(&walk::text(pod, "status.phase"));
    if ended || walk::text(pod, "spec.nodeName").is_empty() {
        return 0;
    }
    match walk::count(pod, "spec.terminationGracePeriodSeconds") {
        seconds if seconds < 0 => 1,
        seconds => seconds,
    }
}

/// Every container of a pod spec with its path, in the order Kubernetes visits them.
fn visit<'a>(spec: &'a Value, path: &Path) -> impl Iterator<Item = (Path, &'a Value)> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(move |list| {
            let path = path.child(list);
            walk::list(spec, list)
                .iter()
                .enumerate()
                .map(move |(index, container)| (path.index(index), container))
                .collect::<Vec<_>>()
        })
}
