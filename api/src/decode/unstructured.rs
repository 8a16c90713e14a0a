//! Go's converter from unstructured objects to structs: what it says of a value of the wrong type. Converts nothing itself.

use serde_json::Value;

use super::scalar::{self, Literal};
use crate::{
    go,
    schema::{Definition, Scalar, Type},
};

/// What is wrong with the first value that does not fit its type.
pub(super) fn mismatch(definition: &Definition, value: &Value) -> Option<String> {
    let fields = match value {
        Value::Object(fields) => fields,
        Value::Null => return None,
        other => return Some(format!("cannot restore struct from: {}", kind(other))),
    };
    let known = definition.fields.iter();
    known
        .filter_map(|field| Some((&field.kind, fields.get(field.name)?)))
        .find_map(|(wanted, value)| of(wanted, value))
}

fn of(wanted: &Type, value: &Value) -> Option<String> {
    if value.is_null() {
        return None;
    }
    match (wanted.bare(), value) {
        (Type::Ref(id), _) => mismatch(id.get(), value),
        (Type::Map(_, element), Value::Object(entries)) => {
            entries.values().find_map(|value| of(element, value))
        }
        (Type::Map(..), other) => Some(format!("cannot restore map from {}", kind(other))),
        (Type::List(element), Value::Array(items)) => {
            items.iter().find_map(|item| of(element, item))
        }
        (Type::List(_), other) => Some(format!("cannot restore slice from {}", kind(other))),
        (Type::Scalar(scalar), _) => of_scalar(*scalar, wanted, value),
        // The innermost type is neither a name nor a pointer.
        (Type::Named(..) | Type::Pointer(_), _) => None,
    }
}

fn of_scalar(wanted: Scalar, named: &Type, value: &Value) -> Option<String> {
    let cannot = || {
        Some(format!(
            "cannot convert {} to {}",
            go::type_name(value),
            named.go_name()
        ))
    };
    let is_whole = value.as_f64().is_some_and(|number| number.fract() == 0.0);
    let integers = matches!(
        wanted,
        Scalar::Int32 | Scalar::Int64 | Scalar::Uint32 | Scalar::Uint64
    );
    match (wanted, value) {
        (Scalar::String, Value::String(_)) | (Scalar::Bool, Value::Bool(_)) => None,
        (Scalar::String, Value::Number(number)) if !number.is_f64() => cannot(),
        (Scalar::Float64, Value::Number(_)) => None,
        (_, Value::Number(_)) if integers && is_whole => None,
        (_, Value::Number(_)) if integers => cannot(),
        (Scalar::Bytes, Value::String(text)) => match scalar::read(wanted, Literal::Text(text)) {
            Err(scalar::Error::Saved(text)) => Some(format!("error decoding from json: {text}")),
            _ => None,
        },
        (Scalar::Bytes, other) => Some(format!("cannot restore slice from {}", kind(other))),
        (Scalar::String | Scalar::Bool | Scalar::Float64, _) => unrecognized(wanted),
        _ if integers => unrecognized(wanted),
        (Scalar::Raw | Scalar::FieldsV1, _) => None,
        // These read their own JSON.
        (Scalar::Time | Scalar::MicroTime, Value::String(_)) => None,
        (Scalar::Quantity, Value::String(_) | Value::Number(_)) => None,
        (Scalar::IntOrString, Value::String(_) | Value::Number(_)) => None,
        (Scalar::Quantity, _) => Some(scalar::QUANTITY_FORMAT.to_owned()),
        (Scalar::IntOrString, other) => Some(own_json(other, "int32")),
        (_, other) => Some(own_json(other, "string")),
    }
}

fn unrecognized(wanted: Scalar) -> Option<String> {
    Some(format!("unrecognized type: {}", wanted.go_name()))
}

fn own_json(found: &Value, wanted: &str) -> String {
    let found = go::json_name(found);
    format!("json: cannot unmarshal {found} into Go value of type {wanted}")
}

/// As `reflect.Kind` prints.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
        other => go::type_name(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{kinds::service::SERVICE, schema};

    #[test]
    fn the_first_value_of_a_wrong_type_is_named_by_its_types() {
        let definition = schema::of(&SERVICE).unwrap();
        let check = |object: Value, expected: Option<&str>| {
            assert_eq!(mismatch(definition, &object).as_deref(), expected);
        };
        check(json!({"spec": {"ports": [{"port": 80}]}}), None);
        check(json!({"spec": {"ports": [{"port": 80.0}]}}), None);
        check(
            json!({"spec": {"ports": [{"port": "eighty"}]}}),
            Some("unrecognized type: int32"),
        );
        check(
            json!({"spec": {"ports": [{"port": 80.5}]}}),
            Some("cannot convert float64 to int32"),
        );
        check(
            json!({"spec": {"ports": {"port": 80}}}),
            Some("cannot restore slice from map"),
        );
        check(
            json!({"spec": {"selector": {"a": 1}}}),
            Some("cannot convert int64 to string"),
        );
        check(
            json!({"spec": {"type": 1}}),
            Some("cannot convert int64 to v1.ServiceType"),
        );
        check(
            json!({"spec": {"selector": ["a"]}}),
            Some("cannot restore map from slice"),
        );
        check(
            json!({"metadata": {"labels": {"a": true}}}),
            Some("unrecognized type: string"),
        );
        check(
            json!({"spec": "x"}),
            Some("cannot restore struct from: string"),
        );
    }
}
