//! Objects as Kubernetes prints its internal types into error messages: `{"Type":"Fancy","RollingUpdate":null}`.
//!
//! `internal/types.txt` has a type a line and its fields in Go's order, each as `GoName=jsonName:type`. `+Type` embeds another
//! one; `-name:type` and `~name:type` are fields that keep their JSON name, the latter left out when empty. Types are `s` text,
//! `b` boolean, `i` integer, `q` quantity, `p` integer or percentage, `t` time or another line's, after any of `*` pointer,
//! `[]` list and `{}` map.

pub mod diff;

use std::{collections::BTreeMap, sync::OnceLock};

use serde_json::{Value, json};

use crate::walk;

/// Fields of a pod spec that Kubernetes keeps in the security context.
const HOISTED: [&str; 5] = [
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "shareProcessNamespace",
    "hostUsers",
];

type Types = BTreeMap<&'static str, Vec<Part>>;

enum Part {
    Embedded(&'static str),
    Field {
        shown: &'static str,
        json: &'static str,
        shape: &'static str,
        presence: Presence,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Always,
    UnlessEmpty,
}

fn types() -> &'static Types {
    static TYPES: OnceLock<Types> = OnceLock::new();
    TYPES.get_or_init(|| {
        include_str!("internal/types.txt")
            .lines()
            .filter_map(parse_line)
            .collect()
    })
}

fn parse_line(line: &'static str) -> Option<(&'static str, Vec<Part>)> {
    let mut words = line.split(' ');
    let name = words.next()?;
    Some((name, words.filter_map(parse_part).collect()))
}

fn parse_part(word: &'static str) -> Option<Part> {
    if let Some(embedded) = word.strip_prefix('+') {
        return Some(Part::Embedded(embedded));
    }
    let (names, shape) = word.split_once(':')?;
    let presence = if names.starts_with('~') {
        Presence::UnlessEmpty
    } else {
        Presence::Always
    };
    let (shown, json) = match names.strip_prefix(['~', '-']) {
        Some(name) => (name, name),
        None => names.split_once('=')?,
    };
    Some(Part::Field {
        shown,
        json,
        shape,
        presence,
    })
}

/// A value on its way to text, with the fields of structs in Go's order.
enum Tree {
    Leaf(String),
    List(Vec<Tree>),
    Fields(Vec<(String, Tree)>),
}

/// A value of an internal type (`*PodSpec`, `[]NodeSelectorTerm`) on one line.
pub fn show(shape: &str, value: &Value) -> String {
    let mut out = String::new();
    tree(shape, value).write(&mut out, None);
    out
}

/// A value of an internal type over many lines, indented by one space a level.
pub fn pretty(shape: &str, value: &Value) -> String {
    let mut out = String::new();
    tree(shape, value).write(&mut out, Some(0));
    out
}

fn tree(shape: &str, value: &Value) -> Tree {
    if let Some(inner) = shape.strip_prefix('*') {
        return if value.is_null() {
            Tree::null()
        } else {
            tree(inner, value)
        };
    }
    if let Some(inner) = shape.strip_prefix("[]") {
        return match value {
            Value::Array(items) => Tree::List(items.iter().map(|item| tree(inner, item)).collect()),
            _ => Tree::null(),
        };
    }
    if let Some(inner) = shape.strip_prefix("{}") {
        return match value {
            Value::Object(map) => {
                let entry = |(key, value): (&String, &Value)| (key.clone(), tree(inner, value));
                Tree::Fields(map.iter().map(entry).collect())
            }
            _ => Tree::null(),
        };
    }
    let zero = match shape {
        "s" => json!(""),
        "b" => json!(false),
        "i" | "p" => json!(0),
        "q" => json!("0"),
        "t" => Value::Null,
        _ => return Tree::Fields(struct_fields(shape, value)),
    };
    Tree::leaf(if value.is_null() { &zero } else { value })
}

fn struct_fields(name: &str, value: &Value) -> Vec<(String, Tree)> {
    if name == "PodSpec" {
        return fields_of(name, &with_hoisted_fields(value));
    }
    fields_of(name, value)
}

fn fields_of(name: &str, value: &Value) -> Vec<(String, Tree)> {
    let mut fields = Vec::new();
    for part in types().get(name).into_iter().flatten() {
        match part {
            Part::Embedded("ObjectMeta") => {
                fields.extend(fields_of("ObjectMeta", walk::at(value, "metadata")));
            }
            Part::Embedded(other) => fields.extend(fields_of(other, value)),
            Part::Field {
                shown,
                json,
                shape,
                presence,
            } => {
                let inner = walk::at(value, json);
                let is_left_out = *presence == Presence::UnlessEmpty && is_empty(inner);
                if !is_left_out {
                    fields.push(((*shown).to_owned(), tree(shape, inner)));
                }
            }
        }
    }
    fields
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn with_hoisted_fields(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let hoisted: Vec<(&str, Value)> = HOISTED
        .iter()
        .map(|field| (*field, walk::at(&spec, field).clone()))
        .collect();
    let context = walk::object_mut(&mut spec, "securityContext");
    for (field, value) in hoisted {
        context.insert(field.to_owned(), value);
    }
    spec
}

impl Tree {
    fn null() -> Tree {
        Tree::Leaf("null".into())
    }

    /// Go's encoder escapes what could end a script element.
    fn leaf(value: &Value) -> Tree {
        let text = value.to_string();
        let text = text.replace('<', "\\u003c").replace('>', "\\u003e");
        Tree::Leaf(text.replace('&', "\\u0026"))
    }

    fn write(&self, out: &mut String, depth: Option<usize>) {
        let inner = depth.map(|depth| depth + 1);
        let separate = |out: &mut String, index: usize| {
            if index > 0 {
                out.push(',');
            }
            break_line(out, inner);
        };
        match self {
            Tree::Leaf(text) => out.push_str(text),
            Tree::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    separate(out, index);
                    item.write(out, inner);
                }
                if !items.is_empty() {
                    break_line(out, depth);
                }
                out.push(']');
            }
            Tree::Fields(fields) => {
                out.push('{');
                for (index, (name, value)) in fields.iter().enumerate() {
                    separate(out, index);
                    out.push_str(&json!(name).to_string());
                    out.push_str(if inner.is_some() { ": " } else { ":" });
                    value.write(out, inner);
                }
                if !fields.is_empty() {
                    break_line(out, depth);
                }
                out.push('}');
            }
        }
    }
}

fn break_line(out: &mut String, depth: Option<usize>) {
    if let Some(depth) = depth {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', depth));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_show_every_field_in_go_order() {
        let check = |shape: &str, value: Value, expected: &str| {
            assert_eq!(show(shape, &value), expected);
        };
        check(
            "DeploymentStrategy",
            json!({"type": "Fancy"}),
            r#"{"Type":"Fancy","RollingUpdate":null}"#,
        );
        check(
            "DeploymentStrategy",
            json!({"type": "X", "rollingUpdate": {"maxSurge": "1%"}}),
            r#"{"Type":"X","RollingUpdate":{"MaxUnavailable":0,"MaxSurge":"1%"}}"#,
        );
        check(
            "LabelSelector",
            json!({"matchExpressions": [{"key": "a", "operator": "Exists"}], "matchLabels": {"b": "<"}}),
            r#"{"matchLabels":{"b":"\u003c"},"matchExpressions":[{"key":"a","operator":"Exists"}]}"#,
        );
        check("*SeccompProfile", Value::Null, "null");
    }

    #[test]
    fn embedded_structs_show_as_part_of_their_holder() {
        let volume = show("Volume", &json!({"name": "v", "emptyDir": {}}));
        assert!(volume.starts_with(r#"{"Name":"v","HostPath":null,"EmptyDir":{"Medium":"","#));
        let template = show(
            "PodTemplateSpec",
            &json!({"metadata": {"labels": {"a": "b"}}, "spec": {}}),
        );
        assert!(
            template.starts_with(r#"{"labels":{"a":"b"},"Spec":{"Volumes":null,"#),
            "{template}"
        );
    }

    #[test]
    fn host_namespaces_are_part_of_the_security_context() {
        let spec = show("PodSpec", &json!({"hostNetwork": true}));
        assert!(
            spec.contains(r#""SecurityContext":{"HostNetwork":true,"HostPID":false,"#),
            "{spec}"
        );
    }

    #[test]
    fn every_type_that_is_named_is_known() {
        for (name, parts) in types() {
            for part in parts {
                let (Part::Embedded(shape) | Part::Field { shape, .. }) = part;
                let base = shape.trim_start_matches(['*', '[', ']', '{', '}']);
                assert!(
                    base.len() == 1 || types().contains_key(base),
                    "{name}: {base}"
                );
            }
        }
    }

    #[test]
    fn pretty_text_breaks_lines_as_go_does() {
        let expected = "{\n \"Nameservers\": [\n  \"192.0.2.1\"\n ],\n \"Searches\": null,\n \"Options\": []\n}";
        let config = json!({"nameservers": ["192.0.2.1"], "options": []});
        assert_eq!(pretty("PodDNSConfig", &config), expected);
    }
}
