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
        if operation.is_null() {
            continue;
        }
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
    let leads_on = |key: &str| text(key).contains('/');
    let has_source = !["copy", "move"].contains(&text("op")) || leads_on("from");
    if !KNOWN.contains(&text("op")) || !leads_on("path") || !has_source {
        return Err(does_not_apply());
    }
    let value = operation.get("value").unwrap_or(&Value::Null);
    let mut operation = operation.clone();
    let from = counted(target, text("from"), Spare::None);
    match text("op") {
        "test" if value.is_null() && is_missing_key(target, text("path")) => return Ok(()),
        // A key that is not there counts as null.
        "replace" if is_missing_key(target, text("path")) => operation["op"] = "add".into(),
        "copy" => {
            let source = match target.pointer(&from) {
                Some(source) => source.clone(),
                None if is_missing_key(target, &from) => Value::Null,
                None => return Err(does_not_apply()),
            };
            *copied_bytes += source.to_string().len();
            if *copied_bytes > COPIED_BYTES_MAX {
                return Err(does_not_apply());
            }
            operation = json!({"op": "add", "path": text("path"), "value": source});
        }
        "move" => {
            let source = target.pointer(&from).cloned();
            let source = source.ok_or_else(does_not_apply)?;
            apply(target, &json!({"op": "remove", "path": from}), copied_bytes)?;
            operation = json!({"op": "add", "path": text("path"), "value": source});
        }
        _ => {}
    }
    let spare = match operation["op"].as_str() {
        Some("add") => Spare::One,
        _ => Spare::None,
    };
    operation["path"] = counted(target, text("path"), spare).into();
    if let Value::Object(fields) = &mut operation {
        fields.entry("value").or_insert(Value::Null);
    }
    let operation: PatchOperation =
        serde_json::from_value(operation).map_err(|_| does_not_apply())?;
    json_patch::patch(target, &[operation]).map_err(|_| does_not_apply())
}

/// Room behind the last element, where an element can be added.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spare {
    None,
    One,
}

/// A path with its indices as plain numbers: Go's library reads `01`, and counts `-1` from the end.
fn counted(target: &Value, path: &str, spare: Spare) -> String {
    let mut written = String::new();
    let mut inside = Some(target);
    let mut tokens = path.split('/').skip(1).peekable();
    while let Some(token) = tokens.next() {
        let is_last = tokens.peek().is_none();
        let key = token.replace("~1", "/").replace("~0", "~");
        let index = inside.and_then(Value::as_array).and_then(|list| {
            let room = usize::from(is_last && spare == Spare::One);
            index(&key, list.len() + room)
        });
        written.push('/');
        match index {
            Some(index) => {
                written.push_str(&index.to_string());
                inside = inside.and_then(|list| list.get(index));
            }
            None => {
                written.push_str(token);
                inside = inside.and_then(|object| object.get(&key));
            }
        }
    }
    written
}

/// Where in a list of `length` an index points; `None` for what is none.
fn index(text: &str, length: usize) -> Option<usize> {
    let index: i64 = text.parse().ok()?;
    if index >= 0 {
        return usize::try_from(index).ok();
    }
    let back = usize::try_from(index.unsigned_abs()).ok()?;
    length.checked_sub(back)
}

/// Whether the path names a key that an existing object does not have.
fn is_missing_key(target: &Value, path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(parent, _)| {
        target.pointer(path).is_none() && target.pointer(parent).is_some_and(Value::is_object)
    })
}
