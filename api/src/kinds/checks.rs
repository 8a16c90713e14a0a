//! The small rules that validation of many kinds is built from. Decides nothing about a kind as a whole.

use serde_json::Value;

use super::internal;
use crate::{
    field::{Error, Path, Reason, quote},
    meta::IMMUTABLE,
    names, walk,
};

/// What validation has found so far, in the order Kubernetes reports it.
pub type Errors = Vec<Error>;

/// Reports every message about one value.
pub fn complain(errors: &mut Errors, path: &Path, value: impl Into<Value>, messages: Vec<String>) {
    let value = value.into();
    for message in messages {
        errors.push(Error::invalid(path, value.clone(), &message));
    }
}

pub fn non_negative(errors: &mut Errors, path: &Path, value: i64) {
    if value < 0 {
        errors.push(Error::invalid(
            path,
            value,
            "must be greater than or equal to 0",
        ));
    }
}

/// Applies [`non_negative`] to each of the named fields that is there.
pub fn counts(errors: &mut Errors, path: &Path, object: &Value, names: &[&str]) {
    for name in names {
        if let Some(value) = walk::integer(object, name) {
            non_negative(errors, &path.child(name), value);
        }
    }
}

/// Empty is `Required value`, anything unknown `Unsupported value`.
pub fn one_of(errors: &mut Errors, path: &Path, value: &str, supported: &[&str]) {
    if value.is_empty() {
        errors.push(Error::required(path, ""));
    } else if !supported.contains(&value) {
        errors.push(Error::not_supported(path, value, supported));
    }
}

/// As [`one_of`], but a missing value is fine.
pub fn one_of_if_set(errors: &mut Errors, path: &Path, value: &Value, supported: &[&str]) {
    if let Some(value) = value.as_str()
        && !supported.contains(&value)
    {
        errors.push(Error::not_supported(path, value, supported));
    }
}

pub fn dns_label(errors: &mut Errors, path: &Path, value: &str) {
    complain(errors, path, value, names::dns1123_label(value));
}

/// Empty is `Required value`, anything else must be a DNS label.
pub fn required_dns_label(errors: &mut Errors, path: &Path, value: &str) {
    if value.is_empty() {
        errors.push(Error::required(path, ""));
    } else {
        dns_label(errors, path, value);
    }
}

pub fn required(errors: &mut Errors, path: &Path, value: &str) {
    if value.is_empty() {
        errors.push(Error::required(path, ""));
    }
}

pub fn qualified_name(errors: &mut Errors, path: &Path, value: &str) {
    complain(errors, path, value, names::qualified_name(value));
}

pub fn immutable(errors: &mut Errors, path: &Path, new: &Value, old: &Value) {
    if !walk::same(new, old) {
        errors.push(Error::invalid(path, new.clone(), IMMUTABLE));
    }
}

/// As [`immutable`] for a value of an internal type.
pub fn immutable_shaped(errors: &mut Errors, path: &Path, shape: &str, new: &Value, old: &Value) {
    if !walk::same(new, old) {
        invalid_shown(errors, path, &internal::show(shape, new), IMMUTABLE);
    }
}

/// An invalid value too long or too secret to repeat.
pub fn invalid_unshown(errors: &mut Errors, path: &Path, detail: &str) {
    errors.push(Error {
        reason: Reason::Invalid,
        field: path.to_string(),
        message: format!("Invalid value: {detail}"),
    });
}

/// As [`Error::not_supported`] for a value that Kubernetes prints in the form of its Go type.
pub fn not_supported_shown(errors: &mut Errors, path: &Path, shown: &str, supported: &[&str]) {
    let supported: Vec<String> = supported.iter().map(|value| quote(value)).collect();
    let supported = supported.join(", ");
    errors.push(Error {
        reason: Reason::NotSupported,
        field: path.to_string(),
        message: format!("Unsupported value: {shown}: supported values: {supported}"),
    });
}

/// As [`Error::invalid`] for a value that Kubernetes prints in the form of its Go type.
pub fn invalid_shown(errors: &mut Errors, path: &Path, shown: &str, detail: &str) {
    errors.push(Error {
        reason: Reason::Invalid,
        field: path.to_string(),
        message: format!("Invalid value: {shown}: {detail}"),
    });
}

/// Keys and values of labels, each reported at the map itself.
pub fn labels(errors: &mut Errors, path: &Path, labels: &Value) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        qualified_name(errors, path, key);
        let value = value.as_str().unwrap_or_default();
        complain(errors, path, value, names::label_value(value));
    }
}

/// Keys of annotations, compared in lower case, and their size in total.
pub fn annotations(errors: &mut Errors, path: &Path, annotations: &Value) {
    const SIZE_MAX: usize = 256 * 1024;
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        complain(
            errors,
            path,
            key.as_str(),
            names::qualified_name(&key.to_lowercase()),
        );
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > SIZE_MAX {
        errors.push(Error::too_long(path, SIZE_MAX));
    }
}

/// Number or name of a port, as probes refer to one.
pub fn port_or_name(errors: &mut Errors, path: &Path, port: &Value) {
    match port {
        Value::String(name) => complain(errors, path, name.as_str(), names::port_name(name)),
        other => {
            let number = other.as_i64().unwrap_or_default();
            complain(errors, path, number, names::port_number(number));
        }
    }
}

/// `must be a relative path` without steps upward.
pub fn descending_path(errors: &mut Errors, path: &Path, value: &str) {
    if value.starts_with('/') {
        errors.push(Error::invalid(path, value, "must be a relative path"));
    }
    no_backsteps(errors, path, value);
}

pub fn no_backsteps(errors: &mut Errors, path: &Path, value: &str) {
    if value.split('/').any(|part| part == "..") {
        errors.push(Error::invalid(path, value, "must not contain '..'"));
    }
}

/// As [`descending_path`], and not starting with `..` as the files that projected volumes reserve do.
pub fn local_path(errors: &mut Errors, path: &Path, value: &str) {
    descending_path(errors, path, value);
    if value.starts_with("..") && !value.starts_with("../") {
        errors.push(Error::invalid(path, value, "must not start with '..'"));
    }
}
