//! Zero values: what Go prints for a field that was never set, and which set values count as none.

use serde_json::{Map, Value};

use crate::schema::{Definition, Field, Scalar, Type};

/// What Go prints for a variable of this type that was never set.
pub(super) fn of(kind: &Type) -> Value {
    match kind {
        Type::Pointer(_) | Type::List(_) | Type::Map(..) => Value::Null,
        Type::Named(_, inner) => of(inner),
        Type::Ref(id) => {
            let mut fields = Map::new();
            fill(id.get(), &mut fields);
            Value::Object(fields)
        }
        Type::Scalar(scalar) => match scalar {
            Scalar::String => "".into(),
            Scalar::Bool => false.into(),
            Scalar::Int32
            | Scalar::Int64
            | Scalar::Uint32
            | Scalar::Uint64
            | Scalar::Float64
            | Scalar::IntOrString => 0.into(),
            Scalar::Quantity => "0".into(),
            Scalar::Bytes | Scalar::Time | Scalar::MicroTime | Scalar::Raw | Scalar::FieldsV1 => {
                Value::Null
            }
        },
    }
}

/// Adds the fields of a struct that Go prints even when they are not set.
pub(super) fn fill(definition: &Definition, fields: &mut Map<String, Value>) {
    for field in &definition.fields {
        if is_always_printed(field) && !fields.contains_key(field.name) {
            fields.insert(field.name.to_owned(), of(&field.kind));
        }
    }
}

/// Whether Go leaves this value of the field out.
pub(super) fn is_left_out(field: &Field, value: &Value) -> bool {
    if field.omit_zero && *value == of(&field.kind) {
        return true;
    }
    if !field.omit_empty {
        return false;
    }
    // An empty list of managers is a request to forget them all.
    if field.name == "managedFields" && value.is_array() {
        return false;
    }
    match value {
        Value::Null => is_pointer(&field.kind) || has_empty_value(&field.kind),
        Value::Bool(set) => !set && has_empty_value(&field.kind),
        Value::Number(number) => number.as_f64() == Some(0.0) && has_empty_value(&field.kind),
        Value::String(text) => text.is_empty() && has_empty_value(&field.kind),
        Value::Array(items) => items.is_empty() && !is_pointer(&field.kind),
        Value::Object(entries) => entries.is_empty() && is_map(&field.kind),
    }
}

/// A struct is never empty in Go's eyes, and a pointer only when it is nil, which is null here.
fn has_empty_value(kind: &Type) -> bool {
    match kind {
        Type::Named(_, inner) => has_empty_value(inner),
        Type::Ref(_) => false,
        Type::Scalar(scalar) => !matches!(
            scalar,
            Scalar::Quantity
                | Scalar::IntOrString
                | Scalar::Time
                | Scalar::MicroTime
                | Scalar::Raw
                | Scalar::FieldsV1
        ),
        Type::List(_) | Type::Map(..) => true,
        Type::Pointer(_) => false,
    }
}

fn is_pointer(kind: &Type) -> bool {
    matches!(kind, Type::Pointer(_))
}

fn is_map(kind: &Type) -> bool {
    match kind {
        Type::Named(_, inner) => is_map(inner),
        Type::Map(..) => true,
        _ => false,
    }
}

fn is_always_printed(field: &Field) -> bool {
    if field.omit_zero {
        return false;
    }
    if !field.omit_empty {
        return true;
    }
    match &field.kind {
        Type::Ref(_) => true,
        Type::Scalar(scalar) => matches!(scalar, Scalar::Time | Scalar::MicroTime),
        _ => false,
    }
}
