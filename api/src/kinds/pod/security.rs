//! Security contexts of pods and containers. Confines nothing.

use serde_json::Value;

use super::{
    super::{
        checks::{self, Errors},
        internal,
    },
    windows,
};
use crate::{
    field::{Error, Path},
    names, walk,
};

const ID_MAX: i64 = i32::MAX as i64;
const SYSCTL_LENGTH_MAX: usize = 253;
const SYSCTL_RULE: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const PROFILE_TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// Validates `spec.securityContext` and the host namespaces that belong to it.
pub fn pod(errors: &mut Errors, path: &Path, spec: &Value) {
    let context = walk::at(spec, "securityContext");
    id(errors, path, context, "fsGroup");
    id(errors, path, context, "runAsUser");
    id(errors, path, context, "runAsGroup");
    for (index, group) in walk::list(context, "supplementalGroups").iter().enumerate() {
        let path = path.child("supplementalGroups").index(index);
        let group = group.as_i64().unwrap_or_default();
        checks::complain(errors, &path, group, names::in_range(group, 0, ID_MAX));
    }
    if walk::is_true(spec, "shareProcessNamespace") && walk::is_true(spec, "hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Error::invalid(
            &path.child("shareProcessNamespace"),
            true,
            detail,
        ));
    }
    sysctls(errors, &path.child("sysctls"), spec);
    checks::one_of_if_set(
        errors,
        &path.child("fsGroupChangePolicy"),
        walk::at(context, "fsGroupChangePolicy"),
        &["Always", "OnRootMismatch"],
    );
    seccomp(
        errors,
        &path.child("seccompProfile"),
        walk::at(context, "seccompProfile"),
    );
    windows::options(errors, path, context);
    app_armor(
        errors,
        &path.child("appArmorProfile"),
        walk::at(context, "appArmorProfile"),
    );
    for (field, supported) in [
        ("supplementalGroupsPolicy", ["Merge", "Strict"]),
        ("seLinuxChangePolicy", ["MountOption", "Recursive"]),
    ] {
        checks::one_of_if_set(
            errors,
            &path.child(field),
            walk::at(context, field),
            &supported,
        );
    }
}

/// Validates a container's `securityContext`.
pub fn container(errors: &mut Errors, path: &Path, context: &Value, spec: &Value) {
    if context.is_null() {
        return;
    }
    id(errors, path, context, "runAsUser");
    id(errors, path, context, "runAsGroup");
    let proc_mount = walk::at(context, "procMount");
    let path_mount = path.child("procMount");
    checks::one_of_if_set(errors, &path_mount, proc_mount, &["Default", "Unmasked"]);
    if proc_mount == "Unmasked" && walk::at(spec, "hostUsers") != &Value::Bool(false) {
        let detail = "`hostUsers` must be false to use `Unmasked`";
        errors.push(Error::invalid(&path_mount, "Unmasked", detail));
    }
    seccomp(
        errors,
        &path.child("seccompProfile"),
        walk::at(context, "seccompProfile"),
    );
    if walk::at(context, "allowPrivilegeEscalation") == &Value::Bool(false) {
        no_escalation(errors, path, context);
    }
    windows::options(errors, path, context);
    app_armor(
        errors,
        &path.child("appArmorProfile"),
        walk::at(context, "appArmorProfile"),
    );
}

fn no_escalation(errors: &mut Errors, path: &Path, context: &Value) {
    let mut conflict = |with: &str| {
        let detail = format!("cannot set `allowPrivilegeEscalation` to false and {with}");
        let shown = internal::show("SecurityContext", context);
        checks::invalid_shown(errors, path, &shown, &detail);
    };
    if walk::is_true(context, "privileged") {
        conflict("`privileged` to true");
    }
    for capability in walk::list(context, "capabilities.add") {
        if capability == "CAP_SYS_ADMIN" {
            conflict("`capabilities.Add` CAP_SYS_ADMIN");
        }
    }
}

fn id(errors: &mut Errors, path: &Path, context: &Value, field: &str) {
    if let Some(id) = walk::integer(context, field) {
        checks::complain(
            errors,
            &path.child(field),
            id,
            names::in_range(id, 0, ID_MAX),
        );
    }
}

fn sysctls(errors: &mut Errors, path: &Path, spec: &Value) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, sysctl) in walk::list(spec, "securityContext.sysctls")
        .iter()
        .enumerate()
    {
        let path = path.index(index).child("name");
        let name = walk::text(sysctl, "name");
        if name.is_empty() {
            errors.push(Error::required(&path, ""));
        } else if !is_sysctl(name) {
            errors.push(Error::invalid(&path, name, SYSCTL_RULE));
        } else if seen.contains(&name) {
            errors.push(Error::duplicate(&path, name));
        }
        for (host, belongs) in [
            ("hostNetwork", is_of_network as fn(&str) -> bool),
            ("hostIPC", is_of_ipc),
        ] {
            if walk::is_true(spec, host) && belongs(&name.replace('/', ".")) {
                let detail = format!("may not be specified when '{host}' is true");
                errors.push(Error::invalid(&path, name, &detail));
            }
        }
        seen.push(name);
    }
}

fn is_of_network(name: &str) -> bool {
    name.starts_with("net.")
}

fn is_of_ipc(name: &str) -> bool {
    name == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Segments of lower-case letters, digits, `-` and `_`, joined by `.` or `/`.
fn is_sysctl(name: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= SYSCTL_LENGTH_MAX
        && name.split(['.', '/']).all(|segment| {
            segment.starts_with(word)
                && segment.ends_with(word)
                && segment.chars().all(|c| word(c) || c == '-' || c == '_')
        })
}

fn seccomp(errors: &mut Errors, path: &Path, profile: &Value) {
    if profile.is_null() {
        return;
    }
    let kind = walk::text(profile, "type");
    profile_type(
        errors,
        path,
        kind,
        "type is required when seccompProfile is set",
    );
    let path_local = path.child("localhostProfile");
    match (kind, walk::at(profile, "localhostProfile")) {
        ("Localhost", Value::String(file)) => checks::descending_path(errors, &path_local, file),
        ("Localhost", _) => {
            let detail = "must be set when seccomp type is Localhost";
            errors.push(Error::required(&path_local, detail));
        }
        (_, Value::Null) => {}
        (_, _) => {
            let detail = "can only be set when seccomp type is Localhost";
            let shown = internal::show("SeccompProfile", profile);
            checks::invalid_shown(errors, &path_local, &shown, detail);
        }
    }
}

fn app_armor(errors: &mut Errors, path: &Path, profile: &Value) {
    if profile.is_null() {
        return;
    }
    let kind = walk::text(profile, "type");
    let path_local = path.child("localhostProfile");
    let required = "must be set when AppArmor type is Localhost";
    match (kind, walk::at(profile, "localhostProfile")) {
        ("Localhost", Value::String(name)) => {
            if name.trim() != name {
                let detail = "must not be padded with whitespace";
                errors.push(Error::invalid(&path_local, name.as_str(), detail));
            } else if name.is_empty() {
                errors.push(Error::required(&path_local, required));
            }
        }
        ("Localhost", _) => errors.push(Error::required(&path_local, required)),
        ("RuntimeDefault" | "Unconfined", Value::String(name)) => {
            let detail = "can only be set when AppArmor type is Localhost";
            errors.push(Error::invalid(&path_local, name.as_str(), detail));
        }
        ("RuntimeDefault" | "Unconfined", _) => {}
        _ => profile_type(
            errors,
            path,
            kind,
            "type is required when appArmorProfile is set",
        ),
    }
}

fn profile_type(errors: &mut Errors, path: &Path, kind: &str, required: &str) {
    let path = path.child("type");
    if kind.is_empty() {
        errors.push(Error::required(&path, required));
    } else if !PROFILE_TYPES.contains(&kind) {
        errors.push(Error::not_supported(&path, kind, &PROFILE_TYPES));
    }
}
