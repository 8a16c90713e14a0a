//! Objects seen through the schema as structured-merge-diff sees them: what is owned as a whole, and how list items are told apart.

use serde_json::Value;

use super::path::{Element, Scalar};
use crate::schema::{self, Definition, Field, ListKind, Type};

/// A place in the schema: a type, and what the field it was reached by says of it.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Root(&'static Definition),
    Field(&'static Field),
    /// An item of a list or a value of a map.
    Item(&'static Type),
    /// Below a field of free form, or of a kind without facts.
    Free,
}

/// What structured-merge-diff does with the values at a place.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Scalar,
    /// A list or map owned as a whole.
    Whole(Composite),
    Set,
    ListMap(&'static [&'static str], Option<&'static Definition>),
    Struct(&'static Definition),
    Map(Place),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Composite {
    List,
    Map,
}

impl Place {
    /// The shape of a value at this place; free form is judged by the value.
    pub(super) fn shape(self, value: &Value) -> Shape {
        match self {
            Place::Root(definition) => Shape::Struct(definition),
            Place::Field(field) => match field.kind.bare() {
                Type::Map(..) if field.atomic => Shape::Whole(Composite::Map),
                Type::Ref(_) if field.atomic => Shape::Whole(Composite::Map),
                Type::List(element) => match &field.list {
                    ListKind::Atomic => Shape::Whole(Composite::List),
                    ListKind::Set => Shape::Set,
                    ListKind::Map(keys) => Shape::ListMap(keys, element.definition()),
                },
                kind => bare_shape(kind, value),
            },
            Place::Item(kind) => bare_shape(kind.bare(), value),
            Place::Free => free_shape(value),
        }
    }

    /// The place of an item of a list.
    pub(super) fn item(self) -> Place {
        match self {
            Place::Field(Field { kind, .. }) | Place::Item(kind) => {
                kind.element().map_or(Place::Free, Place::Item)
            }
            Place::Root(_) | Place::Free => Place::Free,
        }
    }
}

fn bare_shape(kind: &'static Type, value: &Value) -> Shape {
    match kind {
        Type::Scalar(schema::Scalar::Raw | schema::Scalar::FieldsV1) => free_shape(value),
        Type::Scalar(_) => Shape::Scalar,
        Type::List(_) => Shape::Whole(Composite::List),
        Type::Map(_, element) => Shape::Map(Place::Item(element)),
        Type::Ref(id) => {
            let definition = id.get();
            if definition.atomic {
                Shape::Whole(Composite::Map)
            } else {
                Shape::Struct(definition)
            }
        }
        Type::Named(_, inner) | Type::Pointer(inner) => bare_shape(inner, value),
    }
}

fn free_shape(value: &Value) -> Shape {
    match value {
        Value::Object(_) => Shape::Map(Place::Free),
        Value::Array(_) => Shape::Whole(Composite::List),
        _ => Shape::Scalar,
    }
}

impl Shape {
    /// The place of a struct's field or a map's value; `None` for a field the struct does not have.
    pub(super) fn entry(self, name: &str) -> Option<Place> {
        match self {
            Shape::Struct(definition) => definition.field(name).map(Place::Field),
            Shape::Map(place) => Some(place),
            _ => Some(Place::Free),
        }
    }
}

/// Tells an item of a set or list map from the others.
pub(super) fn item_element(shape: Shape, item: &Value) -> Result<Element, String> {
    match shape {
        Shape::ListMap(keys, definition) => key_element(keys, definition, item),
        _ => match item {
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type".to_owned())
            }
            Value::Array(_) => {
                Err("not supported: associative list with lists as elements".to_owned())
            }
            Value::Null => Err(
                "associative list without keys has an element that's an explicit null".to_owned(),
            ),
            scalar => Ok(Element::Value(Scalar::of(scalar).unwrap_or(Scalar::Null))),
        },
    }
}

fn key_element(
    keys: &'static [&'static str],
    definition: Option<&'static Definition>,
    item: &Value,
) -> Result<Element, String> {
    let fields = match item {
        Value::Object(fields) => fields,
        Value::Null => {
            return Err("associative list with keys may not have a null element".to_owned());
        }
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let value = match fields.get(*key) {
            Some(value) => Some(Scalar::of(value).unwrap_or(Scalar::Null)),
            None => definition.and_then(|d| d.field(key)).and_then(key_default),
        };
        if let Some(value) = value {
            found.push(((*key).to_owned(), value));
        }
    }
    if found.is_empty() {
        let quoted: Vec<String> = keys.iter().map(|k| crate::field::quote(k)).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            quoted.join(" ")
        ));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Element::Key(found))
}

/// What the published schema gives a key field that is left out: its default, or zero if Go always prints it.
fn key_default(field: &Field) -> Option<Scalar> {
    if let Some(default) = field.default {
        return Scalar::of(&serde_json::from_str(default).ok()?);
    }
    match field.kind.bare() {
        _ if field.omit_empty || matches!(field.kind, Type::Pointer(_)) => None,
        Type::Scalar(schema::Scalar::String) => Some(Scalar::String(String::new())),
        Type::Scalar(schema::Scalar::Int32 | schema::Scalar::Int64) => {
            Some(Scalar::Number(0.into()))
        }
        _ => None,
    }
}

/// No entries: missing, null or empty.
pub(super) fn is_bare(value: Option<&Value>) -> bool {
    match value {
        None => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(entries)) => entries.is_empty(),
        Some(_) => true,
    }
}
