//! The patch formats of the API: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge. Never validates the outcome.

mod error;
mod json;
mod order;
mod strategic;

use serde_json::Value;

use crate::{decode, go, status::Status};

pub use json::json_patch;
pub use strategic::strategic;

/// What a PATCH body is, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// A patch read from a body, and what a strict reader has to say about it.
#[derive(Debug, PartialEq)]
pub struct Parsed {
    pub patch: Value,
    pub problems: Vec<String>,
}

/// Reads a PATCH body.
///
/// # Errors
/// 400 when the body is not JSON (YAML for apply) or not of the format's shape.
pub fn parse(format: Format, body: &[u8]) -> Result<Parsed, Status> {
    match format {
        Format::Json => json::parse(body),
        Format::Merge => mapping(body).map_err(|text| decoding(&text)),
        Format::Strategic => mapping(body).map_err(Status::bad_request),
        Format::Apply => apply_configuration(body),
    }
}

fn decoding(text: &str) -> Status {
    Status::bad_request(format!("error decoding patch: {text}"))
}

fn mapping(body: &[u8]) -> Result<Parsed, String> {
    let (patch, problems) = decode::untyped(body)?;
    expect_mapping(&patch)?;
    Ok(Parsed { patch, problems })
}

fn expect_mapping(patch: &Value) -> Result<(), String> {
    if patch.is_object() || patch.is_null() {
        return Ok(());
    }
    Err(format!(
        "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
        go::json_name(patch)
    ))
}

fn apply_configuration(body: &[u8]) -> Result<Parsed, Status> {
    let refused = |text: String| Status::bad_request(format!("error decoding YAML: {text}"));
    let (patch, problems) = crate::yaml::lenient_document(body)
        .map_err(|error| refused(format!("error converting YAML to JSON: yaml: {error}")))?;
    expect_mapping(&patch).map_err(|text| {
        refused(format!(
            "error unmarshaling JSON: while decoding JSON: {text}"
        ))
    })?;
    let problems = problems.into_iter();
    let problems = problems.map(|problem| format!("error converting YAML to JSON: {problem}"));
    Ok(Parsed {
        patch,
        problems: problems.collect(),
    })
}

/// Applies a merge patch.
pub fn merge(target: &mut Value, patch: &Value) {
    json_patch::merge(target, patch);
}

/// 422 for a patch that does not fit the object.
fn does_not_apply() -> Status {
    Status::failure(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
    )
    .with_details(crate::status::Details::default())
}

#[cfg(test)]
mod tests;
