//! The paths of everything an applied configuration says, after checking that the schema knows it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    path::{Element, Set},
    typed::{Composite, Place, Shape, item_element},
};
use crate::{
    go,
    schema::{Scalar, Type},
};

/// The paths of every field of a configuration.
pub(super) fn of(place: Place, value: &Value) -> Set {
    let mut set = Set::default();
    node(&mut set, place, value, &mut Vec::new());
    set
}

fn node(set: &mut Set, place: Place, value: &Value, path: &mut Vec<Element>) {
    let shape = place.shape(value);
    match (shape, value) {
        (Shape::Scalar | Shape::Whole(_), _) => set.insert(path),
        (Shape::Set | Shape::ListMap(..), Value::Array(list)) => {
            items(set, place, shape, list, path);
        }
        (Shape::Struct(_) | Shape::Map(_), Value::Object(fields)) => {
            entries(set, shape, fields, path);
        }
        _ => {}
    }
}

fn entries(set: &mut Set, shape: Shape, fields: &Map<String, Value>, path: &mut Vec<Element>) {
    for (name, value) in fields {
        let place = shape.entry(name).unwrap_or(Place::Free);
        path.push(Element::Field(name.clone()));
        node(set, place, value, path);
        let is_hollow = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        if is_hollow || !matches!(place, Place::Field(_)) {
            set.insert(path);
        }
        path.pop();
    }
}

fn items(set: &mut Set, place: Place, shape: Shape, list: &[Value], path: &mut Vec<Element>) {
    let mut by_element: BTreeMap<Element, Vec<&Value>> = BTreeMap::new();
    for item in list {
        if let Ok(element) = item_element(shape, item) {
            by_element.entry(element).or_default().push(item);
        }
    }
    for (element, items) in by_element {
        path.push(element);
        if let [item] = items.as_slice() {
            node(set, place.item(), item, path);
        }
        set.insert(path);
        path.pop();
    }
}

/// Says why a configuration does not fit the schema, in the words of structured-merge-diff.
pub(super) fn errors(place: Place, value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    check(&mut out, place, value, &mut String::new());
    out
}

fn report(out: &mut Vec<String>, path: &str, text: &str) {
    out.push(if path.is_empty() {
        text.to_owned()
    } else {
        format!("{path}: {text}")
    });
}

fn check(out: &mut Vec<String>, place: Place, value: &Value, path: &mut String) {
    if value.is_null() {
        return;
    }
    let shape = place.shape(value);
    match (shape, value) {
        (Shape::Scalar, _) => {
            if let Some(text) = scalar_error(place, value) {
                report(out, path, &text);
            }
        }
        (
            Shape::Struct(_) | Shape::Map(_) | Shape::Whole(Composite::Map),
            Value::Object(fields),
        ) => {
            check_entries(out, place, shape, fields, path);
        }
        (Shape::Struct(_) | Shape::Map(_) | Shape::Whole(Composite::Map), other) => {
            report(
                out,
                path,
                &format!("expected map, got &{{{}}}", go::value(other)),
            );
        }
        (Shape::Set | Shape::ListMap(..), Value::Array(list)) => {
            check_items(out, place, shape, list, path);
        }
        (Shape::Whole(Composite::List), Value::Array(list)) => {
            for (index, item) in list.iter().enumerate() {
                below(out, place.item(), item, path, &format!("[{index}]"));
            }
        }
        (Shape::Set | Shape::ListMap(..) | Shape::Whole(Composite::List), other) => {
            report(
                out,
                path,
                &format!("expected list, got &{{{}}}", go::value(other)),
            );
        }
    }
}

fn below(out: &mut Vec<String>, place: Place, value: &Value, path: &mut String, step: &str) {
    let mark = path.len();
    path.push_str(step);
    check(out, place, value, path);
    path.truncate(mark);
}

fn check_entries(
    out: &mut Vec<String>,
    place: Place,
    shape: Shape,
    fields: &Map<String, Value>,
    path: &mut String,
) {
    let shape = match (shape, place) {
        // Owned as a whole, but its fields must exist all the same.
        (Shape::Whole(_), Place::Field(field)) => whole_map(&field.kind),
        (Shape::Whole(_), Place::Item(kind)) => whole_map(kind),
        _ => shape,
    };
    for (name, value) in fields {
        let Some(place) = shape.entry(name) else {
            report(
                out,
                &format!("{path}.{name}"),
                "field not declared in schema",
            );
            return;
        };
        below(out, place, value, path, &format!(".{name}"));
    }
}

fn whole_map(kind: &'static Type) -> Shape {
    match kind.bare() {
        Type::Ref(id) => Shape::Struct(id.get()),
        Type::Map(_, element) => Shape::Map(Place::Item(element)),
        _ => Shape::Map(Place::Free),
    }
}

fn check_items(
    out: &mut Vec<String>,
    place: Place,
    shape: Shape,
    list: &[Value],
    path: &mut String,
) {
    let mut seen = std::collections::BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        let element = match item_element(shape, item) {
            Ok(element) => element,
            Err(text) => {
                report(out, path, &format!("element {index}: {text}"));
                return;
            }
        };
        let step = element.to_string();
        if !seen.insert(element) {
            report(out, path, &format!("duplicate entries for key {step}"));
        }
        below(out, place.item(), item, path, &step);
    }
}

fn scalar_error(place: Place, value: &Value) -> Option<String> {
    let kind = match place {
        Place::Field(field) => field.kind.bare(),
        Place::Item(kind) => kind.bare(),
        Place::Root(_) | Place::Free => return None,
    };
    let Type::Scalar(scalar) = kind else {
        return None;
    };
    match (scalar, value) {
        (Scalar::String | Scalar::Bytes, Value::String(_)) => None,
        (Scalar::String | Scalar::Bytes, other) => Some(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            go::value(other)
        )),
        (Scalar::Bool, Value::Bool(_)) => None,
        (Scalar::Bool, other) => Some(format!("expected boolean, got &{{{}}}", go::value(other))),
        (
            Scalar::Int32 | Scalar::Int64 | Scalar::Uint32 | Scalar::Uint64 | Scalar::Float64,
            Value::Number(_),
        ) => None,
        (
            Scalar::Int32 | Scalar::Int64 | Scalar::Uint32 | Scalar::Uint64 | Scalar::Float64,
            other,
        ) => Some(format!(
            "expected numeric (int or float), got {}",
            go::type_name(other)
        )),
        (_, Value::Array(_) | Value::Object(_)) => Some(format!(
            "expected any scalar, got &{{{}}}",
            go::value(value)
        )),
        _ => None,
    }
}
