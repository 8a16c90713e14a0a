//! The options of each verb (`metav1.ListOptions`, `CreateOptions`, `DeleteOptions` …), decoded and validated.

mod delete;
mod list;
mod write;

use knarr_api::{
    field::{Error, Path},
    status::Status,
};
use serde_json::Value;

pub(crate) use delete::{DeleteOptions, Preconditions, Propagation};
pub(crate) use list::{ListOptions, ResourceVersion};
pub(crate) use write::{FieldValidation, WriteOptions};

/// Whether a write is only tried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DryRun {
    #[default]
    No,
    All,
}

impl DryRun {
    fn read(values: &[String], errors: &mut Vec<Error>) -> DryRun {
        if values.iter().any(|value| value != "All") {
            let given: Vec<Value> = values.iter().map(|v| Value::from(v.as_str())).collect();
            errors.push(Error::not_supported(&Path::new("dryRun"), given, &["All"]));
        }
        if values.is_empty() {
            DryRun::No
        } else {
            DryRun::All
        }
    }
}

/// 422 for options, e.g. `ListOptions.meta.k8s.io "" is invalid: …`.
fn invalid(kind: &str, errors: &[Error]) -> Status {
    Status::invalid_kind(&format!("{kind}.meta.k8s.io"), "", errors)
}

fn check(kind: &str, errors: &[Error]) -> Result<(), Status> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(invalid(kind, errors))
    }
}

/// A character as Go's `%#U` prints it.
fn code_point(c: char) -> String {
    let code = format!("U+{:04X}", c as u32);
    if c.is_control() {
        code
    } else {
        format!("{code} '{c}'")
    }
}

fn field_manager_errors(manager: &str) -> Vec<Error> {
    let path = Path::new("fieldManager");
    let mut errors = Vec::new();
    if manager.len() > 128 {
        errors.push(Error::too_long(&path, 128));
    }
    for (at, c) in manager.char_indices().filter(|(_, c)| !is_printable(*c)) {
        let detail = format!("invalid character {} (at position {at})", code_point(c));
        errors.push(Error::invalid(&path, manager, &detail));
    }
    errors
}

/// Letters, marks, numbers, punctuation, symbols and the plain space.
fn is_printable(c: char) -> bool {
    c == ' ' || !(c.is_control() || c.is_whitespace())
}
