//! What a client is warned of about a pod spec that is accepted all the same.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    field::{Path, quote},
    names::{self, address},
    quantity::Quantity,
    walk,
};

/// Node labels that go by another name today.
const OLD_NODE_LABELS: [(&str, &str); 5] = [
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
];

const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

const OLD_VOLUMES: [(&str, &str, &str); 9] = [
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "gitRepo",
        "gitRepo",
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    (
        "scaleIO",
        "scaleIO",
        "deprecated in v1.16, non-functional in v1.22+",
    ),
    (
        "flocker",
        "flocker",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "storageos",
        "storageOS",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "quobyte",
        "quobyte",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "glusterfs",
        "glusterfs",
        "deprecated in v1.25, non-functional in v1.26+",
    ),
    (
        "cephfs",
        "cephfs",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
    (
        "rbd",
        "rbd",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
];

/// Warnings for a new pod; writes of stored pods give none.
pub fn pod(new: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some() {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    let use_of_name = "this is used in the Pod's hostname, which can result in surprising behavior";
    name(&mut warnings, new, use_of_name);
    warnings.extend(spec(&Path::default(), new));
    warnings
}

/// Warns of a name that is no DNS label although it will be part of host names.
pub fn name(warnings: &mut Vec<String>, object: &Value, use_of_name: &str) {
    let messages = names::dns1123_label(walk::text(object, "metadata.name"));
    if !messages.is_empty() {
        let messages = messages.join(" ");
        warnings.push(format!(
            "metadata.name: {use_of_name}; a DNS label is recommended: [{messages}]"
        ));
    }
}

/// Warnings for what a pod and a template have in common; `path` is empty for pods.
pub fn spec(path: &Path, holder: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    let spec = walk::at(holder, "spec");
    let path_spec = path.child("spec");
    scheduling(&mut warnings, &path_spec, spec);
    let path_annotations = path.child("metadata").child("annotations");
    for (key, message) in OLD_ANNOTATIONS {
        if holder["metadata"]["annotations"].get(key).is_some() {
            warnings.push(format!("{}: {message}", path_annotations.key(key)));
        }
    }
    volumes(&mut warnings, &path_spec.child("volumes"), spec);
    duplicates(&mut warnings, &path_spec, spec, "hostAliases", "ip");
    duplicates(&mut warnings, &path_spec, spec, "imagePullSecrets", "name");
    fractions(
        &mut warnings,
        &path_spec.child("overhead"),
        walk::at(spec, "overhead"),
    );
    for (path, container) in super::visit(spec, &path_spec) {
        for list in ["limits", "requests"] {
            let amounts = walk::at(&container["resources"], list);
            fractions(&mut warnings, &path.child("resources").child(list), amounts);
        }
        variables(
            &mut warnings,
            &path.child("env"),
            walk::list(container, "env"),
        );
    }
    ports(&mut warnings, &path_spec, spec);
    if walk::count(spec, "terminationGracePeriodSeconds") < 0 {
        let path = path_spec.child("terminationGracePeriodSeconds");
        let detail = "must be >= 0; negative values are invalid and will be treated as 1";
        warnings.push(format!("{path}: {detail}"));
    }
    pod_affinity(&mut warnings, &path_spec.child("affinity"), spec);
    addresses(&mut warnings, &path_spec, spec);
    warnings
}

fn old_label(key: &str) -> Option<&'static str> {
    OLD_NODE_LABELS
        .iter()
        .find(|(old, _)| *old == key)
        .map(|(_, message)| *message)
}

fn scheduling(warnings: &mut Vec<String>, path: &Path, spec: &Value) {
    for (key, _) in walk::entries(spec, "nodeSelector") {
        if let Some(message) = old_label(key) {
            warnings.push(format!(
                "{}: {message}",
                path.child("nodeSelector").key(key)
            ));
        }
    }
    let affinity = walk::at(spec, "affinity.nodeAffinity");
    let path_affinity = path.child("affinity").child("nodeAffinity");
    let required = path_affinity
        .child("requiredDuringSchedulingIgnoredDuringExecution")
        .child("nodeSelectorTerms");
    let terms = walk::list(
        affinity,
        "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
    );
    for (index, term) in terms.iter().enumerate() {
        node_term(warnings, &required.index(index), term);
    }
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    for (index, weighted) in walk::list(affinity, preferred).iter().enumerate() {
        let path = path_affinity
            .child(preferred)
            .index(index)
            .child("preference");
        node_term(warnings, &path, walk::at(weighted, "preference"));
    }
    let path = path.child("topologySpreadConstraints");
    for (index, constraint) in walk::list(spec, "topologySpreadConstraints")
        .iter()
        .enumerate()
    {
        let key = walk::text(constraint, "topologyKey");
        if let Some(message) = old_label(key) {
            let path = path.index(index).child("topologyKey");
            warnings.push(format!("{path}: {key} is {message}"));
        }
        null_selector(warnings, &path.index(index), constraint);
    }
}

fn node_term(warnings: &mut Vec<String>, path: &Path, term: &Value) {
    for (index, requirement) in walk::list(term, "matchExpressions").iter().enumerate() {
        let key = walk::text(requirement, "key");
        if let Some(message) = old_label(key) {
            let path = path.child("matchExpressions").index(index).child("key");
            warnings.push(format!("{path}: {key} is {message}"));
        }
    }
}

fn null_selector(warnings: &mut Vec<String>, path: &Path, holder: &Value) {
    if !walk::has(holder, "labelSelector") {
        let path = path.child("labelSelector");
        warnings.push(format!(
            "{path}: a null labelSelector results in matching no pod"
        ));
    }
}

fn pod_affinity(warnings: &mut Vec<String>, path: &Path, spec: &Value) {
    for name in ["podAffinity", "podAntiAffinity"] {
        let affinity = walk::at(&spec["affinity"], name);
        let path = path.child(name);
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for (index, term) in walk::list(affinity, required).iter().enumerate() {
            null_selector(warnings, &path.child(required).index(index), term);
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (index, weighted) in walk::list(affinity, preferred).iter().enumerate() {
            let path = path.child(preferred).index(index).child("podAffinityTerm");
            null_selector(warnings, &path, walk::at(weighted, "podAffinityTerm"));
        }
    }
}

fn volumes(warnings: &mut Vec<String>, path: &Path, spec: &Value) {
    for (index, volume) in walk::list(spec, "volumes").iter().enumerate() {
        for (field, shown, message) in OLD_VOLUMES {
            if walk::has(volume, field) {
                warnings.push(format!("{}: {message}", path.index(index).child(shown)));
            }
        }
    }
    for volume in walk::list(spec, "volumes") {
        overlaps(warnings, volume);
    }
}

/// Files of one volume that would lie on or within each other.
fn overlaps(warnings: &mut Vec<String>, volume: &Value) {
    let name = quote(walk::text(volume, "name"));
    for (field, kind, name_field) in [
        ("configMap", "ConfigMap ", "name"),
        ("secret", "Secret ", "secretName"),
        ("downwardAPI", "DownwardAPI", ""),
    ] {
        let source = walk::at(volume, field);
        let mut source_name = String::new();
        if !name_field.is_empty() {
            source_name = quote(walk::text(source, name_field));
        }
        let mut taken: Vec<&str> = Vec::new();
        for item in walk::list(source, "items") {
            let place = walk::text(item, "path").trim_end_matches('/');
            for other in taken.iter().filter(|other| lie_within(other, place)) {
                let (place, other) = (quote(place), quote(other));
                warnings.push(format!(
                    "volume {name} ({kind}{source_name}): overlapping paths: {place} with {other}"
                ));
            }
            taken.push(place);
        }
    }
    for source in walk::list(volume, "projected.sources") {
        if source.as_object().is_some_and(serde_json::Map::is_empty) {
            warnings.push(format!("volume {name} (Projected) has no sources provided"));
        }
    }
}

fn lie_within(one: &str, other: &str) -> bool {
    let (left, right) = (format!("{one}/"), format!("{other}/"));
    !one.is_empty() && !other.is_empty() && (left.starts_with(&right) || right.starts_with(&left))
}

fn duplicates(warnings: &mut Vec<String>, path: &Path, spec: &Value, list: &str, field: &str) {
    let mut taken: Vec<&str> = Vec::new();
    for (index, item) in walk::list(spec, list).iter().enumerate() {
        let value = walk::text(item, field);
        let path = path.child(list).index(index).child(field);
        if taken.contains(&value) {
            warnings.push(format!("{path}: duplicate {field} {}", quote(value)));
        }
        taken.push(value);
    }
    for (index, value) in taken.iter().enumerate().filter(|_| field == "name") {
        if value.is_empty() {
            let path = path.child(list).index(index).child(field);
            warnings.push(format!("{path}: invalid empty name \"\""));
        }
    }
}

fn fractions(warnings: &mut Vec<String>, path: &Path, amounts: &Value) {
    for resource in ["memory", "ephemeral-storage"] {
        let amount = walk::text(amounts, resource);
        if Quantity::parse(amount).is_ok_and(|amount| !amount.is_whole()) {
            let amount = quote(amount);
            let path = path.key(resource);
            warnings.push(format!(
                "{path}: fractional byte value {amount} is invalid, must be an integer"
            ));
        }
    }
}

fn variables(warnings: &mut Vec<String>, path: &Path, variables: &[Value]) {
    let mut taken: Vec<&str> = Vec::new();
    for (index, variable) in variables.iter().enumerate() {
        let name = walk::text(variable, "name");
        if !taken.contains(&name) {
            taken.push(name);
            continue;
        }
        let (value, reference) = (walk::text(variable, "value"), format!("$({name})"));
        let extends = value.contains(&reference) && value != reference;
        if walk::has(variable, "valueFrom") || !extends {
            let (path, name) = (path.index(index), quote(name));
            warnings.push(format!(
                "{path}: hides previous definition of {name}, which may be dropped when using apply"
            ));
        }
    }
}

fn ports(warnings: &mut Vec<String>, path: &Path, spec: &Value) {
    let mut by_number: BTreeMap<String, Vec<(Path, &Value)>> = BTreeMap::new();
    let mut by_name: BTreeMap<&str, Path> = BTreeMap::new();
    let mut about_names = Vec::new();
    for (path, container) in super::visit(spec, path) {
        for (index, port) in walk::list(container, "ports").iter().enumerate() {
            let path = path.child("ports").index(index);
            let key = format!(
                "{}/{}",
                walk::count(port, "containerPort"),
                walk::text(port, "protocol")
            );
            let others = by_number.entry(key).or_default();
            for (other_path, other) in others.iter() {
                if let Some(problem) = port_problem(port, other) {
                    warnings.push(format!(
                        "{path}: {problem} port definition with {other_path}"
                    ));
                }
            }
            others.push((path.clone(), port));
            let name = walk::text(port, "name");
            match by_name.get(name) {
                _ if name.is_empty() => {}
                Some(other) => about_names.push(format!(
                    "{path}: duplicate port name {} with {other}, services and probes that select ports by name will use {other}",
                    quote(name)
                )),
                None => {
                    by_name.insert(name, path);
                }
            }
        }
    }
    warnings.append(&mut about_names);
}

fn port_problem(port: &Value, other: &Value) -> Option<&'static str> {
    let host = |port| (walk::text(port, "hostIP"), walk::count(port, "hostPort"));
    let ((ip, number), (other_ip, other_number)) = (host(port), host(other));
    if (ip, number) == (other_ip, other_number) {
        Some("duplicate")
    } else if number == 0 || other_number == 0 {
        Some("overlapping")
    } else if number == other_number && ip.is_empty() != other_ip.is_empty() {
        Some("dangerously ambiguous")
    } else {
        None
    }
}

fn addresses(warnings: &mut Vec<String>, path: &Path, spec: &Value) {
    let path_servers = path.child("dnsConfig").child("nameservers");
    for (index, server) in walk::list(spec, "dnsConfig.nameservers").iter().enumerate() {
        let server = server.as_str().unwrap_or_default();
        warnings.extend(address::warnings(&path_servers.index(index), server));
    }
    for (index, alias) in walk::list(spec, "hostAliases").iter().enumerate() {
        let path = path.child("hostAliases").index(index).child("ip");
        warnings.extend(address::warnings(&path, walk::text(alias, "ip")));
    }
}
