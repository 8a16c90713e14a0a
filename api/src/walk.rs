//! Reads and fills JSON objects by dotted path, treating what is missing as Go treats its zero value.
//!
//! Builds on [`value`], which looks at one value at a time. Knows no kind; never panics on a shape it did not expect.

use serde_json::{Map, Value};

use crate::value;

/// The value at `a.b.c`, or null.
pub fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .try_fold(value, |value, name| value.get(name))
        .unwrap_or(&Value::Null)
}

/// The text at a path, empty if there is none.
pub fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value::str_of(at(value, path))
}

/// The integer at a path.
pub fn integer(value: &Value, path: &str) -> Option<i64> {
    at(value, path).as_i64()
}

/// The integer at a path, zero if there is none.
pub fn count(value: &Value, path: &str) -> i64 {
    integer(value, path).unwrap_or_default()
}

/// Whether `true` stands at a path.
pub fn is_true(value: &Value, path: &str) -> bool {
    at(value, path) == &Value::Bool(true)
}

/// Whether anything but null stands at a path.
pub fn has(value: &Value, path: &str) -> bool {
    !at(value, path).is_null()
}

/// The elements of the list at a path.
pub fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value::items(at(value, path))
}

/// The entries of the map at a path, in order of their keys.
pub fn entries<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    value::entries(at(value, path))
}

/// The map at a path, made if nothing or something else stands there.
pub fn object_mut<'a>(value: &'a mut Value, path: &str) -> &'a mut Map<String, Value> {
    let mut map = value::of_object(value);
    for name in path.split('.').filter(|name| !name.is_empty()) {
        map = value::of_object(map.entry(name).or_insert(Value::Null));
    }
    map
}

/// The elements of the list at a path, to be changed; none if no list is there.
pub fn list_mut<'a>(value: &'a mut Value, path: &str) -> &'a mut [Value] {
    path.split('.')
        .try_fold(value, |value, name| value.get_mut(name))
        .and_then(Value::as_array_mut)
        .map_or(&mut [], Vec::as_mut_slice)
}

/// The value at a path if it is there, to be changed.
pub fn at_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.')
        .try_fold(value, |value, name| value.get_mut(name))
}

/// Sets `name` where it is missing or null.
pub fn fill(map: &mut Map<String, Value>, name: &str, default: impl Into<Value>) {
    let slot = map.entry(name).or_insert(Value::Null);
    if slot.is_null() {
        *slot = default.into();
    }
}

/// Sets `name` where it is missing, null, empty or zero.
pub fn fill_zero(map: &mut Map<String, Value>, name: &str, default: impl Into<Value>) {
    if is_zero(map.get(name).unwrap_or(&Value::Null)) {
        map.insert(name.to_owned(), default.into());
    }
}

/// Copies `name` from one object to another, removing it where the source has none.
pub fn carry(to: &mut Value, from: &Value, name: &str) {
    let map = value::of_object(to);
    match from.get(name) {
        Some(value) => {
            map.insert(name.to_owned(), value.clone());
        }
        None => {
            map.remove(name);
        }
    }
}

/// Equality in which an empty list, map or text equals a missing one, as `equality.Semantic` has it for nil slices and maps.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(left), Value::Object(right)) => {
            let covered = |from: &Map<String, Value>, other: &Map<String, Value>| {
                from.iter()
                    .all(|(key, value)| same(value, other.get(key).unwrap_or(&Value::Null)))
            };
            covered(left, right) && covered(right, left)
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same(l, r))
        }
        (Value::Null, other) | (other, Value::Null) => is_empty(other),
        _ => a == b,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(_) | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64() == Some(0.0),
        other => is_empty(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn missing_values_read_as_zero() {
        let pod = json!({"spec": {"nodeName": "a", "containers": [{}]}});
        assert_eq!(text(&pod, "spec.nodeName"), "a");
        assert_eq!(text(&pod, "spec.nodeName.deeper"), "");
        assert_eq!(count(&pod, "status.replicas"), 0);
        assert_eq!(list(&pod, "spec.containers").len(), 1);
        assert_eq!(list(&pod, "spec").len(), 0);
        assert!(!has(&pod, "spec.none"));
    }

    #[test]
    fn filling_leaves_what_the_client_said() {
        let mut value = json!({"a": 0, "b": null, "c": ""});
        let map = object_mut(&mut value, "");
        fill(map, "a", 1);
        fill(map, "b", 2);
        fill_zero(map, "c", "x");
        fill_zero(map, "d", 3);
        assert_eq!(value, json!({"a": 0, "b": 2, "c": "x", "d": 3}));
    }

    #[test]
    fn empty_lists_equal_missing_ones() {
        assert!(same(&json!({"a": [], "b": {"c": ""}}), &json!({"b": {}})));
        assert!(!same(&json!({"a": [1]}), &json!({})));
        assert!(!same(&json!({"a": {}}), &json!({})));
    }
}
