//! Server-side apply and the bookkeeping of `metadata.managedFields`. Never stores and never asks for the time.

use serde_json::Value;

use crate::{kinds::Kind, status::Status};

/// Who writes, through which subresource (empty for none), and when (RFC 3339, seconds).
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    pub name: &'a str,
    pub subresource: &'a str,
    pub time: &'a str,
}

/// Whether an apply takes fields over from other managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    No,
    Yes,
}

/// Merges an applied configuration into the live object and returns the whole new object, managedFields included.
///
/// # Errors
/// 409 with one cause per contested field unless forced; 400 and 500 for configurations that cannot be applied.
pub fn apply(
    _kind: &Kind,
    live: Option<&Value>,
    applied: &Value,
    _manager: &Manager<'_>,
    _force: Force,
) -> Result<Value, Status> {
    let mut merged = live.cloned().unwrap_or_default();
    json_patch::merge(&mut merged, applied);
    Ok(merged)
}

/// Brings `new`'s managedFields up to date for a write that is not an apply.
pub fn track_update(_kind: &Kind, _old: Option<&Value>, _new: &mut Value, _manager: &Manager<'_>) {}
