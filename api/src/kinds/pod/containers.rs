//! Containers of pods: what is common to all of them, and what init and ephemeral ones may not have.

use serde_json::{Value, json};

use super::{
    super::checks::{self, Errors},
    env, image, probes,
    resources::{self, Level},
    security, volumes,
};
use crate::{
    field::{Error, Path},
    names, walk,
};

const MESSAGE_POLICIES: [&str; 2] = ["File", "FallbackToLogsOnError"];
const RESTART_POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
const PROPAGATIONS: [&str; 3] = ["Bidirectional", "HostToContainer", "None"];
/// In the order in which Kubernetes' container type has them.
const UNWANTED_IN_EPHEMERAL: [&str; 9] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// What containers are judged against: their pod's spec, its volumes and the names of its claims.
pub struct Surroundings<'a> {
    pub spec: &'a Value,
    pub volumes: &'a volumes::Known<'a>,
    pub claims: &'a [&'a str],
}

/// Without an image, `command` names a program of the host; with neither there is nothing to run.
pub fn lacks_image(container: &Value) -> bool {
    walk::text(container, "image").is_empty() && walk::list(container, "command").is_empty()
}

/// Validates `containers`.
pub fn regular(errors: &mut Errors, path: &Path, around: &Surroundings) {
    let containers = walk::list(around.spec, "containers");
    if containers.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let mut taken: Vec<&str> = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let path = path.index(index);
        common(errors, &path, container, around);
        unique_name(errors, &path, container, &mut taken);
        hooks_and_probes(errors, &path, container, around.spec);
        restart_policy(errors, &path, container);
    }
    host_ports(errors, path, containers.iter().enumerate());
}

/// Validates `initContainers`.
pub fn init(errors: &mut Errors, path: &Path, around: &Surroundings) {
    let mut taken = container_names(around.spec, "containers");
    for (index, container) in walk::list(around.spec, "initContainers").iter().enumerate() {
        let own = path.index(index);
        common(errors, &own, container, around);
        let sidecar = walk::text(container, "restartPolicy") == "Always";
        init_restart_policy(errors, &own, container);
        unique_name(errors, &own, container, &mut taken);
        // Kubernetes reports conflicts within one init container as if it were the first of its list.
        host_ports(errors, path, std::iter::once((0, container)));
        if sidecar {
            hooks_and_probes(errors, &own, container, around.spec);
        } else {
            for name in [
                "lifecycle",
                "livenessProbe",
                "readinessProbe",
                "startupProbe",
            ] {
                if walk::has(container, name) {
                    let detail = "may not be set for init containers without restartPolicy=Always";
                    errors.push(Error::forbidden(&own.child(name), detail));
                }
            }
            for (index, policy) in walk::list(container, "resizePolicy").iter().enumerate() {
                if walk::text(policy, "restartPolicy") == "RestartContainer" {
                    let path = own
                        .child("resizePolicy")
                        .index(index)
                        .child("restartPolicy");
                    let detail =
                        "must not be set to 'RestartContainer' for non-sidecar initContainers";
                    errors.push(Error::invalid(&path, "RestartContainer", detail));
                }
            }
        }
    }
}

/// Validates `ephemeralContainers`.
pub fn ephemeral(errors: &mut Errors, path: &Path, around: &Surroundings) {
    let mut others = container_names(around.spec, "containers");
    others.extend(container_names(around.spec, "initContainers"));
    let mut taken = others.clone();
    for (index, container) in walk::list(around.spec, "ephemeralContainers")
        .iter()
        .enumerate()
    {
        let path = path.index(index);
        common(errors, &path, container, around);
        only_for_pod(errors, &path, container);
        unique_name(errors, &path, container, &mut taken);
        let target = walk::text(container, "targetContainerName");
        if !target.is_empty() && !others.contains(&target) {
            errors.push(Error::not_found(&path.child("targetContainerName"), target));
        }
        let unwanted = "cannot be set for an Ephemeral Container";
        for name in UNWANTED_IN_EPHEMERAL {
            let value = walk::at(container, name);
            let is_unset = name == "resources" && *value == json!({});
            if !walk::same(value, &Value::Null) && !is_unset {
                errors.push(Error::forbidden(&path.child(name), unwanted));
            }
        }
        for (index, mount) in walk::list(container, "volumeMounts").iter().enumerate() {
            for name in ["subPath", "subPathExpr"] {
                if !walk::text(mount, name).is_empty() {
                    let path = path.child("volumeMounts").index(index).child(name);
                    errors.push(Error::forbidden(&path, unwanted));
                }
            }
        }
    }
}

/// Pods, unlike templates, may not carry an image name with spaces around it.
pub fn only_for_pod(errors: &mut Errors, path: &Path, container: &Value) {
    let image = walk::text(container, "image");
    if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.push(Error::invalid(&path.child("image"), image, detail));
    }
}

fn container_names<'a>(spec: &'a Value, list: &str) -> Vec<&'a str> {
    walk::list(spec, list)
        .iter()
        .map(|container| walk::text(container, "name"))
        .collect()
}

fn unique_name<'a>(
    errors: &mut Errors,
    path: &Path,
    container: &'a Value,
    taken: &mut Vec<&'a str>,
) {
    let name = walk::text(container, "name");
    if taken.contains(&name) {
        errors.push(Error::duplicate(&path.child("name"), name));
    } else {
        taken.push(name);
    }
}

fn common(errors: &mut Errors, path: &Path, container: &Value, around: &Surroundings) {
    let list = |name: &str| walk::list(container, name);
    checks::required_dns_label(errors, &path.child("name"), walk::text(container, "name"));
    if lacks_image(container) {
        errors.push(Error::required(&path.child("image"), ""));
    }
    let message_policy = walk::text(container, "terminationMessagePolicy");
    let path_policy = path.child("terminationMessagePolicy");
    checks::one_of(errors, &path_policy, message_policy, &MESSAGE_POLICIES);
    ports(errors, &path.child("ports"), list("ports"));
    env::validate(errors, &path.child("env"), list("env"));
    env::validate_from(errors, &path.child("envFrom"), list("envFrom"));
    mounts(errors, &path.child("volumeMounts"), container, around);
    devices(errors, &path.child("volumeDevices"), container, around);
    let pull_policy = walk::text(container, "imagePullPolicy");
    checks::one_of(
        errors,
        &path.child("imagePullPolicy"),
        pull_policy,
        &image::PULL_POLICIES,
    );
    let own = walk::at(container, "resources");
    resources::validate(
        errors,
        &path.child("resources"),
        own,
        around.claims,
        Level::Container,
    );
    resize_policy(
        errors,
        &path.child("resizePolicy"),
        list("resizePolicy"),
        around.spec,
    );
    let context = walk::at(container, "securityContext");
    security::container(errors, &path.child("securityContext"), context, around.spec);
}

fn hooks_and_probes(errors: &mut Errors, path: &Path, container: &Value, spec: &Value) {
    let lifecycle = walk::at(container, "lifecycle");
    if !lifecycle.is_null() {
        probes::lifecycle(errors, &path.child("lifecycle"), lifecycle, spec);
    }
    let grace_seconds = walk::integer(spec, "terminationGracePeriodSeconds");
    probes::validate(errors, path, container, grace_seconds);
}

fn ports(errors: &mut Errors, path: &Path, ports: &[Value]) {
    let mut taken: Vec<&str> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = walk::text(port, "name");
        if !name.is_empty() {
            let messages = names::port_name(name);
            if !messages.is_empty() {
                checks::complain(errors, &path.child("name"), name, messages);
            } else if taken.contains(&name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            } else {
                taken.push(name);
            }
        }
        let number = walk::count(port, "containerPort");
        if number == 0 {
            errors.push(Error::required(&path.child("containerPort"), ""));
        } else {
            let messages = names::port_number(number);
            checks::complain(errors, &path.child("containerPort"), number, messages);
        }
        let host = walk::count(port, "hostPort");
        if host != 0 {
            checks::complain(
                errors,
                &path.child("hostPort"),
                host,
                names::port_number(host),
            );
        }
        let protocol = walk::text(port, "protocol");
        checks::one_of(
            errors,
            &path.child("protocol"),
            protocol,
            &["SCTP", "TCP", "UDP"],
        );
    }
}

fn host_ports<'a>(
    errors: &mut Errors,
    path: &Path,
    containers: impl Iterator<Item = (usize, &'a Value)>,
) {
    let mut taken: Vec<String> = Vec::new();
    for (index, container) in containers {
        for (port_index, port) in walk::list(container, "ports").iter().enumerate() {
            let number = walk::count(port, "hostPort");
            if number == 0 {
                continue;
            }
            let (protocol, ip) = (walk::text(port, "protocol"), walk::text(port, "hostIP"));
            let place = format!("{protocol}/{ip}/{number}");
            if taken.contains(&place) {
                let path = path.index(index).child("ports").index(port_index);
                errors.push(Error::duplicate(&path.child("hostPort"), place));
            } else {
                taken.push(place);
            }
        }
    }
}

fn mounts(errors: &mut Errors, path: &Path, container: &Value, around: &Surroundings) {
    let devices = walk::list(container, "volumeDevices");
    let mut taken: Vec<&str> = Vec::new();
    for (index, mount) in walk::list(container, "volumeMounts").iter().enumerate() {
        let own = path.index(index);
        let (name, place) = (walk::text(mount, "name"), walk::text(mount, "mountPath"));
        checks::required(errors, &own.child("name"), name);
        if !around.volumes.contains_key(name) {
            errors.push(Error::not_found(&own.child("name"), name));
        }
        checks::required(errors, &own.child("mountPath"), place);
        let mut clash = |field: &str, value: &str, detail: &str| {
            errors.push(Error::invalid(&own.child(field), value, detail));
        };
        if taken.contains(&place) {
            clash("mountPath", place, "must be unique");
        }
        taken.push(place);
        if devices
            .iter()
            .any(|device| walk::text(device, "name") == name)
        {
            clash("name", name, "must not already exist in volumeDevices");
        }
        if devices
            .iter()
            .any(|device| walk::text(device, "devicePath") == place)
        {
            clash(
                "mountPath",
                place,
                "must not already exist as a path in volumeDevices",
            );
        }
        sub_path(errors, path, &own, mount);
        propagation(errors, path, mount, container);
    }
}

fn sub_path(errors: &mut Errors, path: &Path, own: &Path, mount: &Value) {
    let (plain, expression) = (
        walk::text(mount, "subPath"),
        walk::text(mount, "subPathExpr"),
    );
    checks::descending_path(errors, &path.child("subPath"), plain);
    if !expression.is_empty() && !plain.is_empty() {
        let detail = "subPathExpr and subPath are mutually exclusive";
        errors.push(Error::invalid(
            &own.child("subPathExpr"),
            expression,
            detail,
        ));
    }
    checks::descending_path(errors, &path.child("subPathExpr"), expression);
}

fn propagation(errors: &mut Errors, path: &Path, mount: &Value, container: &Value) {
    let path_mode = path.child("mountPropagation");
    let mode = walk::at(mount, "mountPropagation");
    checks::one_of_if_set(errors, &path_mode, mode, &PROPAGATIONS);
    if mode == "Bidirectional" && !walk::is_true(container, "securityContext.privileged") {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(Error::forbidden(&path_mode, detail));
    }
    let path = path.child("recursiveReadOnly");
    let recursive = walk::at(mount, "recursiveReadOnly");
    let supported = ["Disabled", "Enabled", "IfPossible"];
    checks::one_of_if_set(errors, &path, recursive, &supported);
    if matches!(recursive.as_str(), Some("Enabled" | "IfPossible")) {
        if !walk::is_true(mount, "readOnly") {
            let detail = "may only be specified when readOnly is true";
            errors.push(Error::forbidden(&path, detail));
        }
        if !matches!(mode.as_str(), None | Some("None")) {
            let detail = "may only be specified when mountPropagation is None or not specified";
            errors.push(Error::forbidden(&path, detail));
        }
    }
}

fn devices(errors: &mut Errors, path: &Path, container: &Value, around: &Surroundings) {
    let mounts = walk::list(container, "volumeMounts");
    let (mut names, mut places): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for (index, device) in walk::list(container, "volumeDevices").iter().enumerate() {
        let own = path.index(index);
        let (name, place) = (walk::text(device, "name"), walk::text(device, "devicePath"));
        let (path_name, path_place) = (own.child("name"), own.child("devicePath"));
        checks::required(errors, &path_name, name);
        if names.contains(&name) {
            errors.push(Error::invalid(&path_name, name, "must be unique"));
        }
        match around.volumes.get(name) {
            Some(volume) if !is_block(volume) => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(Error::invalid(&path_name, name, detail));
            }
            Some(_) => {}
            None => errors.push(Error::not_found(&path_name, name)),
        }
        checks::required(errors, &path_place, place);
        if places.contains(&place) {
            errors.push(Error::invalid(&path_place, place, "must be unique"));
        }
        if place.split('/').any(|part| part == "..") {
            let detail = "can not contain backsteps ('..')";
            errors.push(Error::invalid(&path_place, place, detail));
        } else {
            places.push(place);
        }
        if mounts.iter().any(|mount| walk::text(mount, "name") == name) {
            let detail = "must not already exist in volumeMounts";
            errors.push(Error::invalid(&path_name, name, detail));
        }
        if mounts
            .iter()
            .any(|mount| walk::text(mount, "mountPath") == place)
        {
            let detail = "must not already exist as a path in volumeMounts";
            errors.push(Error::invalid(&path_place, place, detail));
        }
        if !name.is_empty() {
            names.push(name);
        }
    }
}

fn is_block(volume: &Value) -> bool {
    walk::has(volume, "persistentVolumeClaim") || walk::has(volume, "ephemeral")
}

fn resize_policy(errors: &mut Errors, path: &Path, policies: &[Value], spec: &Value) {
    let mut taken: Vec<&str> = Vec::new();
    for (index, policy) in policies.iter().enumerate() {
        let resource = walk::text(policy, "resourceName");
        let restart = walk::text(policy, "restartPolicy");
        if taken.contains(&resource) {
            errors.push(Error::duplicate(&path.index(index), resource));
        }
        taken.push(resource);
        checks::one_of(errors, path, resource, &["cpu", "memory"]);
        checks::one_of(errors, path, restart, &["NotRequired", "RestartContainer"]);
        if walk::text(spec, "restartPolicy") == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(Error::invalid(path, restart, detail));
        }
    }
}

fn init_restart_policy(errors: &mut Errors, path: &Path, container: &Value) {
    let policy = walk::text(container, "restartPolicy");
    let rules = walk::list(container, "restartPolicyRules");
    if policy == "Always" && !rules.is_empty() {
        let detail =
            "restartPolicyRules are not allowed for init containers with restart policy Always";
        errors.push(Error::forbidden(&path.child("restartPolicyRules"), detail));
    } else if policy != "Always" {
        restart_policy(errors, path, container);
    }
}

fn restart_policy(errors: &mut Errors, path: &Path, container: &Value) {
    const RULES_MAX: usize = 20;
    const VALUES_MAX: usize = 255;
    let policy = walk::at(container, "restartPolicy");
    let rules = walk::list(container, "restartPolicyRules");
    let path_policy = path.child("restartPolicy");
    if policy.is_null() && !rules.is_empty() {
        let detail = "must specify restartPolicy when restart rules are used";
        errors.push(Error::required(&path_policy, detail));
    }
    checks::one_of_if_set(errors, &path_policy, policy, &RESTART_POLICIES);
    let path = path.child("restartPolicyRules");
    if rules.len() > RULES_MAX {
        errors.push(Error::too_many(&path, rules.len(), RULES_MAX));
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        let action = walk::text(rule, "action");
        let actions = ["Restart", "RestartAllContainers"];
        if !actions.contains(&action) {
            errors.push(Error::not_supported(
                &path.child("action"),
                action,
                &actions,
            ));
        }
        let codes = walk::at(rule, "exitCodes");
        let path = path.child("exitCodes");
        if codes.is_null() {
            errors.push(Error::required(&path, "must be specified"));
            continue;
        }
        let operator = walk::text(codes, "operator");
        if !["In", "NotIn"].contains(&operator) {
            errors.push(Error::not_supported(
                &path.child("operator"),
                operator,
                &["In", "NotIn"],
            ));
        }
        let count = walk::list(codes, "values").len();
        if count > VALUES_MAX {
            errors.push(Error::too_many(&path.child("values"), count, VALUES_MAX));
        }
    }
}
