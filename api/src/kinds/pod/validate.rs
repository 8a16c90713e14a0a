//! Validation of a pod spec, whether it stands in a pod or in a template, and of new pods.

use serde_json::Value;

use super::{
    super::{
        checks::{self, Errors},
        internal,
    },
    containers::{self, Surroundings},
    dns, resources, scheduling, security, volumes, windows,
};
use crate::{
    field::{Error, Path},
    names, walk,
};

const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What a pod spec is part of; a few rules hold for real pods only.
#[derive(Clone, Copy)]
pub enum Owner<'a> {
    Pod(&'a Value),
    Template,
}

/// Validates a new pod.
pub fn create(pod: &Value) -> Errors {
    let mut errors = Errors::new();
    metadata_and_spec(&mut errors, pod);
    let path = Path::new("spec");
    if !walk::list(pod, "spec.ephemeralContainers").is_empty() {
        let path = path.child("ephemeralContainers");
        errors.push(Error::forbidden(&path, "cannot be set on create"));
    }
    let gated = !walk::list(pod, "spec.schedulingGates").is_empty();
    if gated && !walk::text(pod, "spec.nodeName").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(Error::forbidden(&path.child("nodeName"), detail));
    }
    errors
}

/// What every write of a pod checks, beyond metadata that all kinds share.
pub fn metadata_and_spec(errors: &mut Errors, pod: &Value) {
    let (meta, spec) = (walk::at(pod, "metadata"), walk::at(pod, "spec"));
    let path = Path::new("spec");
    let path_annotations = Path::new("metadata").child("annotations");
    annotations(errors, &path_annotations, meta, spec);
    self::spec(errors, &path, spec, &Owner::Pod(pod));
    if walk::text(spec, "serviceAccountName").is_empty() {
        tokens_without_account(errors, &path.child("volumes"), spec);
    }
    for list in ["containers", "initContainers"] {
        for (index, container) in walk::list(spec, list).iter().enumerate() {
            containers::only_for_pod(errors, &path.child(list).index(index), container);
        }
    }
}

fn tokens_without_account(errors: &mut Errors, path: &Path, spec: &Value) {
    for (index, volume) in walk::list(spec, "volumes").iter().enumerate() {
        let path = path.index(index).child("projected").child("sources");
        let sources = walk::list(volume, "projected.sources");
        for (index, source) in sources.iter().enumerate() {
            if walk::has(source, "serviceAccountToken") {
                let path = path.index(index).child("serviceAccountToken");
                let detail = "must not be specified when serviceAccountName is not set";
                errors.push(Error::forbidden(&path, detail));
            }
        }
    }
}

/// Validates annotations that mean something to a pod.
pub fn annotations(errors: &mut Errors, path: &Path, meta: &Value, spec: &Value) {
    let annotation = |key: &str| meta["annotations"][key].as_str();
    if let Some(mirror) = annotation(MIRROR)
        && walk::text(spec, "nodeName").is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(Error::invalid(&path.key(MIRROR), mirror, detail));
    }
    if let Some(cost) = annotation(DELETION_COST)
        && !is_deletion_cost(cost)
    {
        let path = path.key(DELETION_COST);
        errors.push(Error::invalid(&path, cost, "must be a 32bit integer"));
    }
}

/// A decimal number without needless signs or zeros.
fn is_deletion_cost(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits == "0" || !digits.starts_with(['0', '+']);
    plain && text.parse::<i32>().is_ok()
}

/// Validates a pod spec in Kubernetes' order.
pub fn spec(errors: &mut Errors, path: &Path, spec: &Value, owner: &Owner) {
    if !walk::has(spec, "terminationGracePeriodSeconds") {
        let path = path.child("terminationGracePeriodSeconds");
        errors.push(Error::required(&path, ""));
    }
    let claims = contents(errors, path, spec, owner);
    let list = |name: &str| walk::list(spec, name);
    let child = |name: &str| path.child(name);
    resources::validate_pod_level(errors, &child("resources"), spec, &claims);
    host_network(errors, &child("containers"), spec, owner);
    policies(errors, path, spec);
    checks::labels(
        errors,
        &child("nodeSelector"),
        walk::at(spec, "nodeSelector"),
    );
    security::pod(errors, &child("securityContext"), spec);
    scheduling::affinity(errors, &child("affinity"), walk::at(spec, "affinity"));
    dns::config(errors, &child("dnsConfig"), spec);
    for (index, gate) in list("readinessGates").iter().enumerate() {
        let path = child("readinessGates").index(index).child("conditionType");
        checks::qualified_name(errors, &path, walk::text(gate, "conditionType"));
    }
    scheduling::gates(errors, &child("schedulingGates"), list("schedulingGates"));
    let spread = list("topologySpreadConstraints");
    scheduling::spread(errors, &child("topologySpreadConstraints"), spread);
    windows::host_process(errors, path, spec);
    host_users(errors, path, spec);
    dns::hostname_override(errors, &child("hostnameOverride"), spec);
    names_and_limits(errors, path, spec);
    scheduling::tolerations(errors, &child("tolerations"), list("tolerations"));
    dns::host_aliases(errors, &child("hostAliases"), list("hostAliases"));
    classes(errors, path, spec);
    file_references(errors, path, spec);
}

/// Volumes and containers; returns the names of the pod's resource claims.
fn contents<'a>(errors: &mut Errors, path: &Path, spec: &'a Value, owner: &Owner) -> Vec<&'a str> {
    let pod_name = match owner {
        Owner::Pod(pod) => walk::text(pod, "metadata.name"),
        Owner::Template => "",
    };
    let volumes = walk::list(spec, "volumes");
    let known = volumes::validate(errors, &path.child("volumes"), volumes, pod_name);
    let claims = walk::list(spec, "resourceClaims");
    resource_claims(errors, &path.child("resourceClaims"), claims);
    let claims: Vec<&str> = claims
        .iter()
        .map(|claim| walk::text(claim, "name"))
        .collect();
    let around = Surroundings {
        spec,
        volumes: &known,
        claims: &claims,
    };
    containers::regular(errors, &path.child("containers"), &around);
    containers::init(errors, &path.child("initContainers"), &around);
    containers::ephemeral(errors, &path.child("ephemeralContainers"), &around);
    claims
}

fn resource_claims(errors: &mut Errors, path: &Path, claims: &[Value]) {
    let mut taken: Vec<&str> = Vec::new();
    for (index, claim) in claims.iter().enumerate() {
        let path = path.index(index);
        let name = walk::text(claim, "name");
        if taken.contains(&name) && !name.is_empty() {
            errors.push(Error::duplicate(&path.child("name"), name));
        } else {
            checks::required_dns_label(errors, &path.child("name"), name);
            taken.push(name);
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        let detail = match sources.map(|source| walk::has(claim, source)) {
            [true, true] => Some(
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
            [false, false] => {
                Some("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
            }
            _ => None,
        };
        if let Some(detail) = detail {
            let shown = internal::show("PodResourceClaim", claim);
            checks::invalid_shown(errors, &path, &shown, detail);
        }
        for source in sources {
            if let Some(name) = walk::at(claim, source).as_str() {
                checks::complain(
                    errors,
                    &path.child(source),
                    name,
                    names::dns1123_subdomain(name),
                );
            }
        }
    }
}

fn host_network(errors: &mut Errors, path: &Path, spec: &Value, owner: &Owner) {
    if !walk::is_true(spec, "hostNetwork") {
        return;
    }
    for (index, container) in walk::list(spec, "containers").iter().enumerate() {
        for (port_index, port) in walk::list(container, "ports").iter().enumerate() {
            let (host, own) = (
                walk::count(port, "hostPort"),
                walk::count(port, "containerPort"),
            );
            let unset_is_wrong = matches!(owner, Owner::Pod(_));
            if (unset_is_wrong || host != 0) && host != own {
                let path = path.index(index).child("ports").index(port_index);
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(Error::invalid(&path.child("hostPort"), host, detail));
            }
        }
    }
}

fn policies(errors: &mut Errors, path: &Path, spec: &Value) {
    let restart = walk::text(spec, "restartPolicy");
    let supported = ["Always", "OnFailure", "Never"];
    checks::one_of(errors, &path.child("restartPolicy"), restart, &supported);
    let dns = walk::text(spec, "dnsPolicy");
    let supported = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    checks::one_of(errors, &path.child("dnsPolicy"), dns, &supported);
}

fn host_users(errors: &mut Errors, path: &Path, spec: &Value) {
    if walk::at(spec, "hostUsers") != &Value::Bool(false) {
        return;
    }
    let detail = "when `hostUsers` is false";
    for (field, shown) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if walk::is_true(spec, field) {
            errors.push(Error::forbidden(&path.child(shown), detail));
        }
    }
    for (path, container) in super::visit(spec, path) {
        if !walk::list(container, "volumeDevices").is_empty() {
            errors.push(Error::forbidden(&path.child("volumeDevices"), detail));
        }
    }
}

fn names_and_limits(errors: &mut Errors, path: &Path, spec: &Value) {
    for field in ["serviceAccountName", "nodeName"] {
        let name = walk::text(spec, field);
        if !name.is_empty() {
            checks::complain(
                errors,
                &path.child(field),
                name,
                names::dns1123_subdomain(name),
            );
        }
    }
    if let Some(seconds) = walk::integer(spec, "activeDeadlineSeconds") {
        let messages = names::in_range(seconds, 1, i64::from(i32::MAX));
        checks::complain(
            errors,
            &path.child("activeDeadlineSeconds"),
            seconds,
            messages,
        );
    }
    for field in ["hostname", "subdomain"] {
        let name = walk::text(spec, field);
        if !name.is_empty() {
            checks::dns_label(errors, &path.child(field), name);
        }
    }
}

fn classes(errors: &mut Errors, path: &Path, spec: &Value) {
    let subdomain = |errors: &mut Errors, field: &str, name: &str| {
        checks::complain(
            errors,
            &path.child(field),
            name,
            names::dns1123_subdomain(name),
        );
    };
    let priority = walk::text(spec, "priorityClassName");
    if !priority.is_empty() {
        subdomain(errors, "priorityClassName", priority);
    }
    if let Some(runtime) = walk::at(spec, "runtimeClassName").as_str() {
        subdomain(errors, "runtimeClassName", runtime);
    }
    if let Some(policy) = walk::at(spec, "preemptionPolicy").as_str() {
        let supported = ["PreemptLowerPriority", "Never"];
        checks::one_of(errors, &path.child("preemptionPolicy"), policy, &supported);
    }
    let overhead = walk::at(spec, "overhead");
    if !overhead.is_null() {
        resources::validate_overhead(errors, &path.child("overhead"), overhead);
    }
    if walk::has(spec, "os") {
        operating_system(errors, path, spec);
    }
}

fn operating_system(errors: &mut Errors, path: &Path, spec: &Value) {
    match walk::text(spec, "os.name") {
        "" => errors.push(Error::required(&path.child("os").child("name"), "")),
        "linux" => {
            let detail = "windows options cannot be set for a linux pod";
            let contexts = std::iter::once((path.clone(), spec)).chain(super::visit(spec, path));
            for (path, holder) in contexts {
                if walk::has(holder, "securityContext.windowsOptions") {
                    let path = path.child("securityContext").child("windowsOptions");
                    errors.push(Error::forbidden(&path, detail));
                }
            }
        }
        "windows" => windows::foreign(errors, path, spec),
        other => {
            let path = path.child("os");
            errors.push(Error::not_supported(&path, other, &["linux", "windows"]));
        }
    }
}

/// Variables read from files need an `emptyDir` to find them in.
fn file_references(errors: &mut Errors, path: &Path, spec: &Value) {
    let volumes = walk::list(spec, "volumes");
    for (path, container) in super::visit(spec, path) {
        for (index, variable) in walk::list(container, "env").iter().enumerate() {
            let reference = walk::at(variable, "valueFrom.fileKeyRef");
            if reference.is_null() {
                continue;
            }
            let name = walk::text(reference, "volumeName");
            let path = path.child("env").index(index).child("valueFrom");
            let path = path.child("fileKeyRef").child("volumeName");
            match volumes
                .iter()
                .find(|volume| walk::text(volume, "name") == name)
            {
                None => errors.push(Error::not_found(&path, name)),
                Some(volume) if !walk::has(volume, "emptyDir") => {
                    let detail = "referenced volume must be of type emptyDir";
                    errors.push(Error::invalid(&path, name, detail));
                }
                Some(_) => {}
            }
        }
    }
}
