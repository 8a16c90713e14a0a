//! Prints unstructured data as Go does, for messages that show values.

use serde_json::Value;

/// As `%v`: `map[a:1 b:[x y]]`.
pub fn value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => list(items),
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, inner)| format!("{name}:{}", self::value(inner)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

/// As `%v` of a list: `[a b]`.
pub fn list(items: &[Value]) -> String {
    let items: Vec<String> = items.iter().map(value).collect();
    format!("[{}]", items.join(" "))
}

/// As `%T`, the type unstructured data has in Go.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// As `encoding/json` names what it found.
pub fn json_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_print_as_in_go() {
        let check = |json: Value, expected: &str| assert_eq!(value(&json), expected);
        check(
            json!({"b": [1, "x", null], "a": {"c": true}}),
            "map[a:map[c:true] b:[1 x <nil>]]",
        );
        check(json!([]), "[]");
    }
}
