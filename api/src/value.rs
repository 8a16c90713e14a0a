//! Reading and editing JSON values without surprises: what is missing or of another type counts as empty.

use serde_json::{Map, Value};

/// The items of an array.
pub fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The items of the array in a field, to be changed.
pub fn items_mut<'a>(object: &'a mut Value, field: &str) -> &'a mut [Value] {
    object
        .get_mut(field)
        .and_then(Value::as_array_mut)
        .map(Vec::as_mut_slice)
        .unwrap_or_default()
}

/// The text of a string.
pub fn str_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The texts of an array of strings.
pub fn texts(value: &Value) -> Vec<&str> {
    items(value).iter().filter_map(Value::as_str).collect()
}

/// The whole number.
pub fn int_of(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// Whether it is `true`.
pub fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or(false)
}

/// The entries of an object.
pub fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let entries = value.as_object().into_iter().flatten();
    entries.map(|(key, value)| (key.as_str(), value))
}

/// The fields of the object in a field, made if it is missing.
pub fn fields_mut<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    let value = of_object(object).entry(field).or_insert(Value::Null);
    of_object(value)
}

/// The fields of a value, which becomes an object if it is none.
pub fn of_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("made an object above"),
    }
}

/// Sets a field that is missing, null or empty text.
pub fn default_to(fields: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    let current = fields.get(field).unwrap_or(&Value::Null);
    if current.is_null() || current == "" {
        fields.insert(field.to_owned(), value.into());
    }
}

/// Sets a field, or removes it where the value is null.
pub fn put(fields: &mut Map<String, Value>, field: &str, value: Value) {
    if value.is_null() {
        fields.remove(field);
    } else {
        fields.insert(field.to_owned(), value);
    }
}

/// Makes a top-level field of `new` what it is in `old`.
pub fn restore(new: &mut Value, old: &Value, field: &str) {
    put(of_object(new), field, old[field].clone());
}
