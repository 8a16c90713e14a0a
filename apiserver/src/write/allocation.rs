//! Cluster IPs and node ports of the Services that pass through: asks for them before validation, gives them back at the end.

use knarr_api::{kind::Kind, kinds::service::SERVICE, status::Status};
use serde_json::Value;

use crate::{State, allocate::Mode, request::options::DryRun, storage::Write};

/// Allocates what a new object needs; the claims are committed with it.
pub(super) fn for_create(
    state: &State,
    kind: &'static Kind,
    object: &mut Value,
    dry_run: DryRun,
) -> Result<Vec<Write>, Status> {
    if !applies(kind) {
        return Ok(Vec::new());
    }
    state.allocator.create(object, mode(dry_run))
}

/// Allocates and releases what an update needs; the claims are committed with it.
pub(super) fn for_update(
    state: &State,
    kind: &'static Kind,
    new: &mut Value,
    old: &Value,
    dry_run: DryRun,
) -> Result<Vec<Write>, Status> {
    if !applies(kind) {
        return Ok(Vec::new());
    }
    state.allocator.update(new, old, mode(dry_run))
}

/// Gives back what a deleted object held.
pub(crate) fn releases(state: &State, kind: &'static Kind, object: &Value) -> Vec<Write> {
    if !applies(kind) {
        return Vec::new();
    }
    state.allocator.release(object)
}

/// Whether objects of the kind are given anything.
pub(super) fn applies(kind: &Kind) -> bool {
    std::ptr::eq(kind, &SERVICE)
}

fn mode(dry_run: DryRun) -> Mode {
    match dry_run {
        DryRun::All => Mode::Dry,
        DryRun::No => Mode::Real,
    }
}
