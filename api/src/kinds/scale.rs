//! The `/scale` subresource: reading and writing the replica count of whatever has one.

use serde_json::{Value, json};

use crate::{
    kind::{Column, Kind, Scope},
    selector,
    table::age,
    walk,
};

/// Kinds whose `/scale` means `spec.replicas`.
const SCALABLE: [&str; 3] = ["Deployment", "ReplicaSet", "StatefulSet"];

/// What a Scale looks like. Nothing of this kind is stored or listed.
pub static SCALE: Kind = Kind {
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    scope: Scope::Namespaced,
    columns: &[
        Column::NAME,
        Column::integer("Desired", "spec.replicas: the replicas that are wanted."),
        Column::integer("Available", "status.replicas: the replicas that are there."),
        Column::AGE,
    ],
    cells: |scale, now_seconds| {
        vec![
            json!(walk::text(scale, "metadata.name")),
            json!(walk::count(scale, "spec.replicas")),
            json!(walk::count(scale, "status.replicas")),
            age(scale, now_seconds),
        ]
    },
    ..Kind::BASE
};

/// The `autoscaling/v1` Scale of an object, or `None` for kinds that have no such thing.
pub fn of(kind: &Kind, object: &Value) -> Option<Value> {
    if !SCALABLE.contains(&kind.kind) {
        return None;
    }
    let meta = walk::at(object, "metadata");
    let mut metadata = json!({});
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        if let Some(value) = meta.get(field) {
            metadata[field] = value.clone();
        }
    }
    let mut status = json!({"replicas": walk::count(object, "status.replicas")});
    let selector = selector_text(walk::at(object, "spec.selector"));
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    let mut spec = json!({});
    if let Some(replicas) = walk::integer(object, "spec.replicas").filter(|count| *count != 0) {
        spec["replicas"] = json!(replicas);
    }
    Some(json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    }))
}

/// Writes the wanted replica count into an object.
pub fn set(kind: &Kind, object: &mut Value, replicas: i64) {
    if SCALABLE.contains(&kind.kind) {
        walk::object_mut(object, "spec").insert("replicas".into(), json!(replicas));
    }
}

/// A `LabelSelector` in the notation of query parameters: `app=web,tier in (a,b)`.
pub fn selector_text(selector: &Value) -> String {
    let mut requirements: Vec<(String, String)> = Vec::new();
    for (key, value) in walk::entries(selector, "matchLabels") {
        let value = value.as_str().unwrap_or_default();
        requirements.push((key.to_owned(), format!("{key}={value}")));
    }
    for expression in walk::list(selector, "matchExpressions") {
        let key = walk::text(expression, "key");
        let mut values: Vec<&str> = walk::list(expression, "values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match walk::text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => continue,
        };
        requirements.push((key.to_owned(), text));
    }
    requirements.sort_by(|(a, _), (b, _)| a.cmp(b));
    let texts: Vec<String> = requirements.into_iter().map(|(_, text)| text).collect();
    texts.join(",")
}

/// A `LabelSelector` in one cell of a Table: `<none>` where it selects everything.
pub fn selector_cell(selector: &Value) -> Value {
    let text = match selector::from_label_selector(selector) {
        Err(_) => "<error>".to_owned(),
        Ok(_) => selector_text(selector),
    };
    json!(if text.is_empty() {
        "<none>".to_owned()
    } else {
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_read_as_query_parameters() {
        let check = |selector: Value, expected: &str| {
            assert_eq!(selector_text(&selector), expected, "{selector}");
        };
        check(json!({"matchLabels": {"b": "2", "a": "1"}}), "a=1,b=2");
        check(
            json!({"matchLabels": {"app": "web"}, "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["b", "a"]},
                {"key": "aged", "operator": "DoesNotExist"},
                {"key": "env", "operator": "NotIn", "values": ["x"]},
                {"key": "zone", "operator": "Exists"},
            ]}),
            "!aged,app=web,env notin (x),tier in (a,b),zone",
        );
        assert_eq!(selector_cell(&json!({})), "<none>");
        assert_eq!(selector_cell(&Value::Null), "<none>");
    }
}
