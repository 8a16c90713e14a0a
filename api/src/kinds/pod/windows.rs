//! Security options of Windows, which Kubernetes checks whatever the pod runs on. Applies none.

use serde_json::Value;

use super::super::checks::Errors;
use crate::{
    field::{Error, Path},
    names, walk,
};

const CREDENTIAL_SPEC_BYTES_MAX: usize = 64 * 1024;
const DOMAIN_BYTES_MAX: usize = 256;
const USER_BYTES_MAX: usize = 104;
const NOT_IN_USERS: [char; 16] = [
    '"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']',
];
const NOT_IN_NETBIOS: [char; 9] = ['\\', '/', ':', '*', '?', '"', '<', '>', '|'];
const NETBIOS_CHARS_MAX: usize = 15;
const UNSET_ON_WINDOWS: &str = "cannot be set for a windows pod";
/// Fields of the pod that mean nothing on Windows, in the order Kubernetes looks at them.
const FOREIGN_TO_PODS: [&str; 15] = [
    "securityContext.appArmorProfile",
    "securityContext.seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "securityContext.seccompProfile",
    "securityContext.fsGroup",
    "securityContext.fsGroupChangePolicy",
    "securityContext.sysctls",
    "shareProcessNamespace",
    "securityContext.runAsUser",
    "securityContext.runAsGroup",
    "securityContext.supplementalGroups",
    "securityContext.supplementalGroupsPolicy",
    "securityContext.seLinuxChangePolicy",
];
const FOREIGN_TO_CONTAINERS: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// Validates `windowsOptions` of a pod's or a container's security context.
pub(super) fn options(errors: &mut Errors, path: &Path, context: &Value) {
    let options = walk::at(context, "windowsOptions");
    let path = path.child("windowsOptions");
    let text = |field: &str| walk::at(options, field).as_str();
    if let Some(name) = text("gmsaCredentialSpecName") {
        for message in names::dns1123_subdomain(name) {
            let path = path.child("gmsaCredentialSpecName");
            errors.push(Error::invalid(&path, name, &message));
        }
    }
    if let Some(spec) = text("gmsaCredentialSpec") {
        let detail = match spec.len() {
            0 => Some("gmsaCredentialSpec cannot be an empty string"),
            1..=CREDENTIAL_SPEC_BYTES_MAX => None,
            _ => Some("gmsaCredentialSpec size must be under 64 KiB"),
        };
        if let Some(detail) = detail {
            errors.push(Error::invalid(
                &path.child("gmsaCredentialSpec"),
                spec,
                detail,
            ));
        }
    }
    if let Some(name) = text("runAsUserName") {
        let path = path.child("runAsUserName");
        for detail in user_name(name) {
            errors.push(Error::invalid(&path, name, &detail));
        }
    }
}

fn user_name(name: &str) -> Vec<String> {
    let parts: Vec<&str> = name.split('\\').collect();
    let whole = if name.is_empty() {
        Some("runAsUserName cannot be an empty string")
    } else if name.contains(|c: char| c.is_ascii_control()) {
        Some("runAsUserName cannot contain control characters")
    } else if parts.len() > 2 {
        Some("runAsUserName cannot contain more than one backslash")
    } else {
        None
    };
    if let Some(detail) = whole {
        return vec![detail.to_owned()];
    }
    let mut details = Vec::new();
    if let [domain, _] = parts[..] {
        if domain.len() >= DOMAIN_BYTES_MAX {
            details.push(format!(
                "runAsUserName's Domain length must be under {DOMAIN_BYTES_MAX} characters"
            ));
        }
        if !is_netbios(domain) && !names::dns1123_subdomain(domain).is_empty() {
            let detail = "runAsUserName's Domain doesn't match the NetBios nor the DNS format";
            details.push(detail.to_owned());
        }
    }
    let user = parts.last().copied().unwrap_or_default();
    if user.is_empty() {
        details.push("runAsUserName's User cannot be empty".to_owned());
    } else if user.len() > USER_BYTES_MAX {
        details.push(format!(
            "runAsUserName's User length must not be longer than {USER_BYTES_MAX} characters"
        ));
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        let detail = "runAsUserName's User cannot contain only periods or spaces";
        details.push(detail.to_owned());
    }
    if user.contains(NOT_IN_USERS) {
        let detail =
            r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#;
        details.push(detail.to_owned());
    }
    details
}

fn is_netbios(domain: &str) -> bool {
    (1..=NETBIOS_CHARS_MAX).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(NOT_IN_NETBIOS)
}

/// A pod whose containers are processes of the host is one as a whole, and in the host's network.
pub(super) fn host_process(errors: &mut Errors, path: &Path, spec: &Value) {
    const FIELD: &str = "securityContext.windowsOptions.hostProcess";
    let of_pod = walk::at(spec, FIELD).as_bool();
    let (mut count, mut count_all) = (0, 0);
    for (path, container) in super::visit(spec, path) {
        let own = walk::at(container, FIELD).as_bool();
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            let path = path.child("securityContext").child("windowsOptions");
            let detail =
                format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.push(Error::invalid(&path.child("hostProcess"), own, &detail));
        }
        count_all += 1;
        count += usize::from(own.or(of_pod) == Some(true));
    }
    if count == 0 {
        return;
    }
    if count != count_all {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(Error::invalid(path, "", detail));
    }
    if !walk::is_true(spec, "hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(Error::invalid(&path.child("hostNetwork"), false, detail));
    }
}

/// What a pod that says it runs on Windows may not ask for.
pub(super) fn foreign(errors: &mut Errors, path: &Path, spec: &Value) {
    for field in FOREIGN_TO_PODS {
        let value = walk::at(spec, field);
        let is_unset = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        let is_off = matches!(field, "hostPID" | "hostIPC") && value == false;
        if !is_unset && !is_off {
            let path = field
                .split('.')
                .fold(path.clone(), |path, name| path.child(name));
            errors.push(Error::forbidden(&path, UNSET_ON_WINDOWS));
        }
    }
    for (path, container) in super::visit(spec, path) {
        let path = path.child("securityContext");
        for field in FOREIGN_TO_CONTAINERS {
            if walk::has(walk::at(container, "securityContext"), field) {
                errors.push(Error::forbidden(&path.child(field), UNSET_ON_WINDOWS));
            }
        }
    }
}
