//! Reads JSON of any shape and notes duplicate fields.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::field::quote;

/// The value and what a strict reader says of it.
pub(super) fn read(text: &str) -> serde_json::Result<(Value, Vec<String>)> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let mut notes = Notes::default();
    let value = Node(&mut notes).deserialize(&mut reader)?;
    reader.end()?;
    Ok((value, notes.problems))
}

#[derive(Default)]
struct Notes {
    path: String,
    problems: Vec<String>,
}

impl Notes {
    fn duplicate(&mut self, name: &str) {
        let dot = if self.path.is_empty() { "" } else { "." };
        let text = format!(
            "duplicate field {}",
            quote(&format!("{}{dot}{name}", self.path))
        );
        if !self.problems.contains(&text) {
            self.problems.push(text);
        }
    }
}

struct Node<'n>(&'n mut Notes);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        let mark = self.0.path.len();
        loop {
            self.0.path.push_str(&format!("[{}]", out.len()));
            let item = items.next_element_seed(Node(self.0))?;
            self.0.path.truncate(mark);
            match item {
                Some(item) => out.push(item),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if out.contains_key(&name) {
                self.0.duplicate(&name);
            }
            let mark = self.0.path.len();
            if mark > 0 {
                self.0.path.push('.');
            }
            self.0.path.push_str(&name);
            let value = entries.next_value_seed(Node(self.0))?;
            self.0.path.truncate(mark);
            out.insert(name, value);
        }
        Ok(Value::Object(out))
    }
}
