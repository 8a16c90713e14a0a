//! Cluster IPs and node ports of the Services that pass through: asks for them before validation, gives them back at the end.

use knarr_api::{kinds::Kind, status::Status};
use serde_json::Value;

use crate::{State, request::options::DryRun, storage::Write};

/// Allocates what a new object needs; the claims are committed with it.
pub(super) fn for_create(
    _state: &State,
    _kind: &'static Kind,
    _object: &mut Value,
    _dry_run: DryRun,
) -> Result<Vec<Write>, Status> {
    Ok(Vec::new())
}

/// Allocates and releases what an update needs; the claims are committed with it.
pub(super) fn for_update(
    _state: &State,
    _kind: &'static Kind,
    _new: &mut Value,
    _old: &Value,
    _dry_run: DryRun,
) -> Result<Vec<Write>, Status> {
    Ok(Vec::new())
}

/// Gives back what a deleted object held.
pub(crate) fn releases(_state: &State, _kind: &'static Kind, _object: &Value) -> Vec<Write> {
    Vec::new()
}
