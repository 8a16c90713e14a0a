//! Environment variables and references to a pod's own fields. Resolves nothing.

use serde_json::Value;

use super::super::checks::{self, Errors};
use crate::{
    field::{Error, Path},
    names,
    quantity::Quantity,
    walk,
};

/// Fields that files of a downward API volume may show.
pub const VOLUME_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Fields that variables may show.
const VARIABLE_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields a reference may name at all, before the place it stands in is considered.
const CONVERTIBLE_FIELDS: [&str; 13] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
];

const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const BYTE_DIVISORS: [&str; 13] = [
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

/// Where a resource reference stands: a file needs to say which container it means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Variable,
    Volume,
}

/// Validates `env`.
pub fn validate(errors: &mut Errors, path: &Path, variables: &[Value]) {
    for (index, variable) in variables.iter().enumerate() {
        let path = path.index(index);
        let name = walk::text(variable, "name");
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        } else {
            checks::complain(errors, &path.child("name"), name, names::env_var_name(name));
        }
        let source = walk::at(variable, "valueFrom");
        if !source.is_null() {
            let has_value = !walk::text(variable, "value").is_empty();
            value_source(errors, &path.child("valueFrom"), source, has_value);
        }
    }
}

#[derive(Clone, Copy)]
enum Source {
    Field,
    Resource,
    Key,
    File,
}

fn value_source(errors: &mut Errors, path: &Path, source: &Value, has_value: bool) {
    let mut source_count = 0;
    for (name, kind) in [
        ("fieldRef", Source::Field),
        ("resourceFieldRef", Source::Resource),
        ("configMapKeyRef", Source::Key),
        ("secretKeyRef", Source::Key),
        ("fileKeyRef", Source::File),
    ] {
        let reference = walk::at(source, name);
        if reference.is_null() {
            continue;
        }
        source_count += 1;
        let path = path.child(name);
        match kind {
            Source::Field => field_reference(errors, &path, reference, &VARIABLE_FIELDS),
            Source::Resource => resource_reference(errors, &path, reference, Place::Variable),
            Source::Key => key_reference(errors, &path, reference),
            Source::File => file_reference(errors, &path, reference),
        }
    }
    if source_count == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(Error::invalid(path, "", detail));
    } else if has_value {
        let detail = "may not be specified when `value` is not empty";
        errors.push(Error::invalid(path, "", detail));
    } else if source_count > 1 {
        let detail = "may not have more than one field specified at a time";
        errors.push(Error::invalid(path, "", detail));
    }
}

/// Validates `envFrom`.
pub fn validate_from(errors: &mut Errors, path: &Path, sources: &[Value]) {
    for (index, source) in sources.iter().enumerate() {
        let own = path.index(index);
        let prefix = walk::text(source, "prefix");
        if !prefix.is_empty() {
            checks::complain(
                errors,
                &own.child("prefix"),
                prefix,
                names::env_var_name(prefix),
            );
        }
        let mut source_count = 0;
        for name in ["configMapRef", "secretRef"] {
            let reference = walk::at(source, name);
            if !reference.is_null() {
                source_count += 1;
                let path = own.child(name).child("name");
                let name = walk::text(reference, "name");
                if name.is_empty() {
                    errors.push(Error::required(&path, ""));
                } else {
                    // A trailing dash is allowed here, as in the prefix of a generated name.
                    let whole = name.strip_suffix('-').map(|stem| format!("{stem}a"));
                    let messages = names::dns1123_subdomain(whole.as_deref().unwrap_or(name));
                    checks::complain(errors, &path, name, messages);
                }
            }
        }
        if source_count == 0 {
            let detail = "must specify one of: `configMapRef` or `secretRef`";
            errors.push(Error::invalid(path, "", detail));
        } else if source_count > 1 {
            let detail = "may not have more than one field specified at a time";
            errors.push(Error::invalid(path, "", detail));
        }
    }
}

/// Validates a reference to one of the pod's own fields.
pub fn field_reference(errors: &mut Errors, path: &Path, reference: &Value, allowed: &[&str]) {
    let version = walk::text(reference, "apiVersion");
    let field = walk::text(reference, "fieldPath");
    for (name, value) in [("apiVersion", version), ("fieldPath", field)] {
        if value.is_empty() {
            errors.push(Error::required(&path.child(name), ""));
            return;
        }
    }
    let subscripted = field
        .strip_suffix("']")
        .and_then(|field| field.split_once("['"));
    let plain = subscripted.map_or(field, |(plain, _)| plain);
    if let Some(detail) = conversion_error(version, field, plain, subscripted.is_some()) {
        errors.push(Error::invalid(&path.child("fieldPath"), field, &detail));
        return;
    }
    match subscripted {
        Some(("metadata.annotations", key)) => {
            checks::qualified_name(errors, path, &key.to_lowercase());
        }
        Some(("metadata.labels", key)) => checks::qualified_name(errors, path, key),
        Some((other, _)) => {
            errors.push(Error::invalid(path, other, "does not support subscript"));
        }
        None if !allowed.contains(&field) => {
            let path = path.child("fieldPath");
            errors.push(Error::not_supported(&path, field, allowed));
        }
        None => {}
    }
}

fn conversion_error(
    version: &str,
    field: &str,
    plain: &str,
    is_subscripted: bool,
) -> Option<String> {
    let detail = if version != "v1" {
        format!("unsupported pod version: {version}")
    } else if is_subscripted && !matches!(plain, "metadata.annotations" | "metadata.labels") {
        format!("field label does not support subscript: {field}")
    } else if !is_subscripted && !CONVERTIBLE_FIELDS.contains(&field) && field != "status.podIPs" {
        format!("field label not supported: {field}")
    } else {
        return None;
    };
    Some(format!("error converting fieldPath: {detail}"))
}

/// Validates a reference to a container's own requests or limits.
pub fn resource_reference(errors: &mut Errors, path: &Path, reference: &Value, place: Place) {
    let resource = walk::text(reference, "resource");
    let huge_pages = ["limits.hugepages-", "requests.hugepages-"]
        .iter()
        .any(|prefix| resource.starts_with(prefix));
    if place == Place::Volume && walk::text(reference, "containerName").is_empty() {
        errors.push(Error::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(Error::required(&path.child("resource"), ""));
    } else if !RESOURCES.contains(&resource) && !huge_pages {
        errors.push(Error::not_supported(
            &path.child("resource"),
            resource,
            &RESOURCES,
        ));
    }
    divisor(errors, path, resource, walk::text(reference, "divisor"));
}

fn divisor(errors: &mut Errors, path: &Path, resource: &str, divisor: &str) {
    if Quantity::parse(divisor).map_or(true, Quantity::is_zero) {
        return;
    }
    let (allowed, name): (&[&str], &str) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "cpu"),
        "limits.memory" | "requests.memory" => (&BYTE_DIVISORS, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (&BYTE_DIVISORS, "local ephemeral storage")
        }
        other if other.contains(".hugepages-") => (&BYTE_DIVISORS, "hugepages"),
        _ => return,
    };
    if !allowed.contains(&divisor) {
        let values = match name {
            "cpu" => "1m and 1".to_owned(),
            _ => BYTE_DIVISORS.join(", "),
        };
        let detail =
            format!("only divisor's values {values} are supported with the {name} resource");
        errors.push(Error::invalid(&path.child("divisor"), resource, &detail));
    }
}

fn key_reference(errors: &mut Errors, path: &Path, reference: &Value) {
    let name = walk::text(reference, "name");
    checks::complain(
        errors,
        &path.child("name"),
        name,
        names::dns1123_subdomain(name),
    );
    let key = walk::text(reference, "key");
    if key.is_empty() {
        errors.push(Error::required(&path.child("key"), ""));
    } else {
        checks::complain(errors, &path.child("key"), key, names::config_map_key(key));
    }
}

fn file_reference(errors: &mut Errors, path: &Path, reference: &Value) {
    let key = walk::text(reference, "key");
    if key.is_empty() {
        errors.push(Error::required(&path.child("key"), ""));
    } else {
        checks::complain(errors, &path.child("key"), key, names::env_var_name(key));
    }
    let volume = walk::text(reference, "volumeName");
    checks::required_dns_label(errors, &path.child("volumeName"), volume);
    let file = walk::text(reference, "path");
    if file.is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    } else {
        checks::no_backsteps(errors, &path.child("path"), file);
    }
}
