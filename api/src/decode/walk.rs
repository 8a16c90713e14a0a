//! Reads any serde source along a type, collecting what Go's decoder would complain about. Knows no texts beyond that.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{scalar, zero};
use crate::{
    field::quote,
    schema::{Definition, Field, Scalar, Type},
};

const PROBLEMS_MAX: usize = 100;

/// Where the walk is and what it has found.
#[derive(Default)]
pub(super) struct Walk {
    /// `spec.ports[0]`, with indices and map keys.
    path: String,
    /// `spec.ports`, the names of struct fields only, embedded structs included.
    fields: String,
    /// The innermost struct.
    within: &'static str,
    problems: Vec<String>,
    /// The first type error; decoding goes on after it.
    saved: Option<String>,
    /// An error that ends decoding and outranks `saved`.
    fatal: Option<String>,
}

impl Walk {
    /// The problems, and the error Go would return.
    pub(super) fn into_outcome(self) -> (Vec<String>, Option<String>) {
        (self.problems, self.fatal.or(self.saved))
    }

    fn enter_field(&mut self, field: &Field) -> (usize, usize) {
        let mark = (self.path.len(), self.fields.len());
        add_name(&mut self.path, field.name);
        if let Some(embedded) = field.embedded {
            add_name(&mut self.fields, embedded);
        }
        add_name(&mut self.fields, field.name);
        mark
    }

    fn enter_key(&mut self, key: &str) -> (usize, usize) {
        let mark = (self.path.len(), self.fields.len());
        self.path.push('.');
        self.path.push_str(key);
        mark
    }

    fn enter_index(&mut self, index: usize) -> (usize, usize) {
        let mark = (self.path.len(), self.fields.len());
        self.path.push('[');
        self.path.push_str(&index.to_string());
        self.path.push(']');
        mark
    }

    fn leave(&mut self, (path, fields): (usize, usize)) {
        self.path.truncate(path);
        self.fields.truncate(fields);
    }

    fn problem(&mut self, what: &str, name: &str) {
        let dot = if self.path.is_empty() { "" } else { "." };
        let text = format!(
            "{what} field {}",
            quote(&format!("{}{dot}{name}", self.path))
        );
        if self.problems.len() < PROBLEMS_MAX && !self.problems.contains(&text) {
            self.problems.push(text);
        }
    }

    /// A value of the wrong JSON type; the zero value takes its place.
    fn mismatch(&mut self, found: &str, kind: &Type) -> Value {
        if self.saved.is_none() {
            self.saved = Some(self.type_error(found, &kind.go_name()));
        }
        zero::of(kind)
    }

    fn type_error(&self, found: &str, wanted: &str) -> String {
        if self.within.is_empty() {
            format!("json: cannot unmarshal {found} into Go value of type {wanted}")
        } else {
            format!(
                "json: cannot unmarshal {found} into Go struct field {}.{} of type {wanted}",
                self.within, self.fields
            )
        }
    }

    fn fail<E: de::Error>(&mut self, text: String) -> E {
        self.fatal = Some(text);
        E::custom("decoding stopped")
    }
}

fn add_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// Reads the object itself.
pub(super) struct Root<'w> {
    pub(super) walk: &'w mut Walk,
    pub(super) definition: &'static Definition,
}

impl<'de> DeserializeSeed<'de> for Root<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Root<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Value, A::Error> {
        read_struct(self.walk, self.definition, entries)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        let mut fields = Map::new();
        zero::fill(self.definition, &mut fields);
        Ok(Value::Object(fields))
    }
}

/// Reads a value of a type; what comes out is never missing, at worst it is zero.
struct Node<'w> {
    walk: &'w mut Walk,
    kind: &'static Type,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        match self.kind.bare() {
            Type::Scalar(Scalar::Raw | Scalar::FieldsV1) => serde::Deserialize::deserialize(source),
            _ => source.deserialize_any(self),
        }
    }
}

impl Node<'_> {
    fn scalar<E: de::Error>(self, literal: scalar::Literal<'_>) -> Result<Value, E> {
        let Type::Scalar(wanted) = self.kind.bare() else {
            return Ok(self.walk.mismatch(literal.name(), self.kind));
        };
        match scalar::read(*wanted, literal) {
            Ok(value) => Ok(value),
            Err(scalar::Error::Mismatch(found)) => Ok(self.walk.mismatch(&found, self.kind)),
            Err(scalar::Error::Saved(text)) => {
                self.walk.saved.get_or_insert(text);
                Ok(zero::of(self.kind))
            }
            Err(scalar::Error::FatalMismatch(found, wanted)) => {
                let text = self.walk.type_error(&found, wanted);
                Err(self.walk.fail(text))
            }
            Err(scalar::Error::Fatal(text)) => Err(self.walk.fail(text)),
        }
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(zero::of(self.kind))
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(zero::of(self.kind))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.scalar(scalar::Literal::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.scalar(scalar::Literal::Integer(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.scalar(scalar::Literal::Integer(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.scalar(scalar::Literal::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.scalar(scalar::Literal::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Value, A::Error> {
        let Node { walk, kind } = self;
        match kind.bare() {
            Type::List(element) => read_list(walk, element, items),
            Type::Scalar(wanted) if wanted.reads_own_json() => {
                skip_seq(items)?;
                let text = wanted.refuse("array", walk);
                Err(walk.fail(text))
            }
            _ => {
                skip_seq(items)?;
                Ok(walk.mismatch("array", kind))
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Value, A::Error> {
        let Node { walk, kind } = self;
        match kind.bare() {
            Type::Ref(id) => read_struct(walk, id.get(), entries),
            Type::Map(_, element) => read_map(walk, element, entries),
            Type::Scalar(wanted) if wanted.reads_own_json() => {
                skip_map(entries)?;
                let text = wanted.refuse("object", walk);
                Err(walk.fail(text))
            }
            _ => {
                skip_map(entries)?;
                Ok(walk.mismatch("object", kind))
            }
        }
    }
}

impl Scalar {
    /// Whether the type decodes its own JSON in Go, so that an error ends decoding.
    fn reads_own_json(self) -> bool {
        matches!(
            self,
            Scalar::Quantity | Scalar::IntOrString | Scalar::Time | Scalar::MicroTime
        )
    }

    fn refuse(self, found: &str, walk: &Walk) -> String {
        match self {
            Scalar::Quantity => scalar::QUANTITY_FORMAT.to_owned(),
            Scalar::IntOrString => walk.type_error(found, "int32"),
            _ => walk.type_error(found, "string"),
        }
    }
}

fn read_struct<'de, A: MapAccess<'de>>(
    walk: &mut Walk,
    definition: &'static Definition,
    mut entries: A,
) -> Result<Value, A::Error> {
    let mut fields = Map::new();
    let mut seen: u128 = 0;
    let outside = std::mem::replace(&mut walk.within, definition.short_name());
    while let Some(name) = entries.next_key_seed(FieldName(definition))? {
        let (at, field) = match name {
            Name::Known(at, field) => (at, field),
            Name::Unknown(name) => {
                walk.problem("unknown", &name);
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
        };
        let bit = 1_u128.checked_shl(at).unwrap_or_default();
        if seen & bit != 0 {
            walk.problem("duplicate", field.name);
        }
        seen |= bit;
        let mark = walk.enter_field(field);
        let kind = &field.kind;
        let value = entries.next_value_seed(Node { walk, kind })?;
        walk.leave(mark);
        walk.within = definition.short_name();
        if zero::is_left_out(field, &value) {
            fields.remove(field.name);
        } else {
            match fields.get_mut(field.name) {
                Some(earlier) => fill_again(earlier, value),
                None => {
                    fields.insert(field.name.to_owned(), value);
                }
            }
        }
    }
    walk.within = outside;
    zero::fill(definition, &mut fields);
    Ok(Value::Object(fields))
}

/// Go decodes a repeated field into what is there: structs and maps keep what the repetition leaves out.
fn fill_again(earlier: &mut Value, value: Value) {
    match (earlier, value) {
        (Value::Object(earlier), Value::Object(fields)) => {
            for (name, value) in fields {
                match earlier.get_mut(&name) {
                    Some(earlier) => fill_again(earlier, value),
                    None => {
                        earlier.insert(name, value);
                    }
                }
            }
        }
        (earlier, value) => *earlier = value,
    }
}

fn read_map<'de, A: MapAccess<'de>>(
    walk: &mut Walk,
    element: &'static Type,
    mut entries: A,
) -> Result<Value, A::Error> {
    let mut out = Map::new();
    while let Some(key) = entries.next_key::<String>()? {
        if out.contains_key(&key) {
            walk.problem("duplicate", &key);
        }
        let mark = walk.enter_key(&key);
        let value = entries.next_value_seed(Node {
            walk,
            kind: element,
        })?;
        walk.leave(mark);
        out.insert(key, value);
    }
    Ok(Value::Object(out))
}

fn read_list<'de, A: SeqAccess<'de>>(
    walk: &mut Walk,
    element: &'static Type,
    mut items: A,
) -> Result<Value, A::Error> {
    let mut out = Vec::new();
    loop {
        let mark = walk.enter_index(out.len());
        let item = items.next_element_seed(Node {
            walk,
            kind: element,
        })?;
        walk.leave(mark);
        match item {
            Some(item) => out.push(item),
            None => return Ok(Value::Array(out)),
        }
    }
}

fn skip_seq<'de, A: SeqAccess<'de>>(mut items: A) -> Result<(), A::Error> {
    while items.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

fn skip_map<'de, A: MapAccess<'de>>(mut entries: A) -> Result<(), A::Error> {
    while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Looks a struct field's name up without allocating.
struct FieldName(&'static Definition);

enum Name {
    Known(u32, &'static Field),
    Unknown(String),
}

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Name, D::Error> {
        source.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Name, E> {
        let fields = &self.0.fields;
        Ok(fields
            .binary_search_by(|f| f.name.cmp(name))
            .ok()
            .and_then(|at| Some(Name::Known(u32::try_from(at).ok()?, fields.get(at)?)))
            .unwrap_or_else(|| Name::Unknown(name.to_owned())))
    }
}
