//! JSON patch: operations checked one by one, with the bounds and statuses of the API server.

use json_patch::PatchOperation;
use serde_json::{Value, json};

use super::{Parsed, decoding, does_not_apply};
use crate::{decode, go, status::Status};

const OPERATIONS_MAX: usize = 10_000;
/// What all copies of one patch may add up to, so that a patch cannot double an object over and over.
const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;
const KNOWN: [&str; 6] = ["add", "remove", "replace", "move", "copy", "test"];

/// Reads a JSON patch body.
pub(super) fn parse(body: &[u8]) -> Result<Parsed, Status> {
    let (patch, mut problems) = decode::untyped(body).map_err(|text| decoding(&text))?;
    let operations = operations(&patch)?;
    for (index, operation) in operations.iter().enumerate() {
        let Value::Object(fields) = operation else {
            return Err(decoding(&format!(
                "json: cannot unmarshal {} into Go value of type handlers.jsonPatchOp",
                go::json_name(operation)
            )));
        };
        for (name, value) in fields {
            match name.as_str() {
                "value" => {}
                "op" | "path" | "from" if value.is_string() || value.is_null() => {}
                "op" | "path" | "from" => {
                    return Err(decoding(&format!(
                        "json: cannot unmarshal {} into Go struct field jsonPatchOp.{name} of type string",
                        go::json_name(value)
                    )));
                }
                other => problems.push(format!("unknown field \"[{index}].{other}\"")),
            }
        }
    }
    let problems = problems
        .iter()
        .map(|problem| format!("json patch {problem}"))
        .collect();
    Ok(Parsed { patch, problems })
}

fn operations(patch: &Value) -> Result<&[Value], Status> {
    match patch {
        Value::Array(operations) => Ok(operations),
        Value::Null => Ok(&[]),
        other => Err(decoding(&format!(
            "json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp",
            go::json_name(other)
        ))),
    }
}

/// Applies a JSON patch.
///
/// # Errors
/// 400 when the patch is not a list, 413 with too many operations, 422 when one does not apply.
pub fn json_patch(target: &mut Value, patch: &Value) -> Result<(), Status> {
    let operations = operations(patch)?;
    if operations.len() > OPERATIONS_MAX {
        return Err(Status::failure(
            413,
            "RequestEntityTooLarge",
            format!(
                "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
                operations.len()
            ),
        ));
    }
    let mut copied_bytes = 0;
    for operation in operations {
        apply(target, operation, &mut copied_bytes)?;
    }
    Ok(())
}

fn apply(target: &mut Value, operation: &Value, copied_bytes: &mut usize) -> Result<(), Status> {
    let text = |key: &str| {
        operation
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    // The object itself cannot be replaced or tested.
    if !KNOWN.contains(&text("op")) || text("path").is_empty() {
        return Err(does_not_apply());
    }
    let value = operation.get("value").unwrap_or(&Value::Null);
    let mut operation = operation.clone();
    match text("op") {
        "test" if value.is_null() && is_missing_key(target, text("path")) => return Ok(()),
        // A key that is not there counts as null.
        "replace" if is_missing_key(target, text("path")) => operation["op"] = "add".into(),
        "copy" => {
            let source = match target.pointer(text("from")) {
                Some(source) => source.clone(),
                None if is_missing_key(target, text("from")) => Value::Null,
                None => return Err(does_not_apply()),
            };
            *copied_bytes += source.to_string().len();
            if *copied_bytes > COPIED_BYTES_MAX {
                return Err(does_not_apply());
            }
            operation = json!({"op": "add", "path": text("path"), "value": source});
        }
        _ => {}
    }
    if let Value::Object(fields) = &mut operation {
        fields.entry("value").or_insert(Value::Null);
    }
    let operation: PatchOperation =
        serde_json::from_value(operation).map_err(|_| does_not_apply())?;
    json_patch::patch(target, &[operation]).map_err(|_| does_not_apply())
}

/// Whether the path names a key that an existing object does not have.
fn is_missing_key(target: &Value, path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(parent, _)| {
        target.pointer(path).is_none() && target.pointer(parent).is_some_and(Value::is_object)
    })
}
