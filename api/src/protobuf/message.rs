//! Messages as JSON objects, by the schema's types. Judges no values; the JSON decoder does.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    Error,
    numbers::{self, Place},
    wire::{Field, Reader, text},
};
use crate::schema::{Definition, Scalar, Type};

/// More than any kind needs.
const DEPTH_MAX: u32 = 64;

/// Reads a message of `definition` into `out`.
pub(super) fn read(
    definition: &Definition,
    message: &[u8],
    out: &mut Map<String, Value>,
) -> Result<(), Error> {
    let places: Vec<&Place> = numbers::places(definition.name).iter().collect();
    Walk {
        depth: 0,
        definition,
    }
    .fields(&places, 0, message, out)
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    depth: u32,
    definition: &'a Definition,
}

impl Walk<'_> {
    /// Reads those fields of a message that `places` names at `level` of their paths.
    fn fields(
        self,
        places: &[&Place],
        level: usize,
        message: &[u8],
        out: &mut Map<String, Value>,
    ) -> Result<(), Error> {
        for field in Reader::new(message) {
            let (number, value) = field?;
            let named: Vec<&Place> = places
                .iter()
                .copied()
                .filter(|place| place.path.get(level) == Some(&number))
                .collect();
            match (named.as_slice(), value) {
                ([place], value) if place.path.len() == level + 1 => {
                    let row = self.definition.field(place.name);
                    let kind = row.map(|row| &row.kind);
                    if let Some(kind) = kind {
                        self.field(kind, value, out.entry(place.name).or_insert(Value::Null))?;
                    }
                }
                ([], _) => {}
                (inlined, Field::Bytes(message)) => {
                    self.fields(inlined, level + 1, message, out)?
                }
                _ => return Err(Error::Mismatch("a message")),
            }
        }
        Ok(())
    }

    /// Adds one occurrence of a field to what is there of it.
    fn field(self, kind: &Type, value: Field<'_>, out: &mut Value) -> Result<(), Error> {
        match kind {
            // A named list is a message of its own, with the list as its only field.
            Type::Named(_, inner) if matches!(**inner, Type::List(_)) => {
                *out = self.wrapped_list(inner, value)?;
            }
            Type::Named(_, inner) | Type::Pointer(inner) => self.field(inner, value, out)?,
            Type::List(item) => {
                let item = self.value(item, value)?;
                match out.as_array_mut() {
                    Some(items) => items.push(item),
                    None => *out = json!([item]),
                }
            }
            Type::Map(_, item) => {
                let (key, item) = self.entry(item, value)?;
                if !out.is_object() {
                    *out = Value::Object(Map::new());
                }
                if let Some(entries) = out.as_object_mut() {
                    entries.insert(key, item);
                }
            }
            Type::Scalar(_) | Type::Ref(_) => *out = self.value(kind, value)?,
        }
        Ok(())
    }

    fn value(self, kind: &Type, value: Field<'_>) -> Result<Value, Error> {
        match kind {
            Type::Scalar(scalar) => self::scalar(*scalar, value),
            Type::Ref(id) => {
                let Field::Bytes(message) = value else {
                    return Err(Error::Mismatch("a message"));
                };
                if self.depth >= DEPTH_MAX {
                    return Err(Error::TooDeep);
                }
                let definition = id.get();
                let places: Vec<&Place> = numbers::places(definition.name).iter().collect();
                let mut fields = Map::new();
                let walk = Walk {
                    depth: self.depth + 1,
                    definition,
                };
                walk.fields(&places, 0, message, &mut fields)?;
                Ok(fields.into())
            }
            Type::Named(_, inner) if matches!(**inner, Type::List(_)) => {
                self.wrapped_list(inner, value)
            }
            Type::Named(_, inner) | Type::Pointer(inner) => self.value(inner, value),
            Type::List(_) | Type::Map(..) => {
                let mut out = Value::Null;
                self.field(kind, value, &mut out)?;
                Ok(out)
            }
        }
    }

    fn wrapped_list(self, list: &Type, value: Field<'_>) -> Result<Value, Error> {
        let Field::Bytes(message) = value else {
            return Err(Error::Mismatch("a list"));
        };
        let mut out = json!([]);
        for field in Reader::new(message) {
            if let (1, item) = field? {
                self.field(list, item, &mut out)?;
            }
        }
        Ok(out)
    }

    fn entry(self, item: &Type, value: Field<'_>) -> Result<(String, Value), Error> {
        let Field::Bytes(message) = value else {
            return Err(Error::Mismatch("a map entry"));
        };
        let (mut key, mut found) = (String::new(), None);
        for field in Reader::new(message) {
            match field? {
                (1, Field::Bytes(bytes)) => key = text(bytes),
                (2, value) => found = Some(self.value(item, value)?),
                _ => {}
            }
        }
        Ok((key, found.unwrap_or_default()))
    }
}

fn scalar(scalar: Scalar, value: Field<'_>) -> Result<Value, Error> {
    match (scalar, value) {
        (Scalar::String, Field::Bytes(bytes)) => Ok(text(bytes).into()),
        (Scalar::Bytes, Field::Bytes(bytes)) => Ok(STANDARD.encode(bytes).into()),
        (Scalar::Bool, Field::Varint(value)) => Ok((value != 0).into()),
        (Scalar::Int32 | Scalar::Int64, Field::Varint(value)) => Ok(value.cast_signed().into()),
        (Scalar::Uint32 | Scalar::Uint64, Field::Varint(value)) => Ok(value.into()),
        (Scalar::Float64, Field::Fixed64(bits)) => Ok(f64::from_bits(bits).into()),
        (Scalar::Quantity, Field::Bytes(message)) => Ok(parts(message)?.text(1).into()),
        (Scalar::IntOrString, Field::Bytes(message)) => {
            let parts = parts(message)?;
            Ok(match parts.number(1) {
                0 => parts.number(2).into(),
                _ => parts.text(3).into(),
            })
        }
        (Scalar::Time | Scalar::MicroTime, Field::Bytes(message)) => time(scalar, message),
        (Scalar::Raw | Scalar::FieldsV1, Field::Bytes(message)) => match parts(message)?.bytes(1) {
            [] => Ok(Value::Null),
            raw => serde_json::from_slice(raw).map_err(|_| Error::Raw),
        },
        _ => Err(Error::Mismatch("a scalar")),
    }
}

/// Nothing at all is Go's zero time.
fn time(scalar: Scalar, message: &[u8]) -> Result<Value, Error> {
    if message.is_empty() {
        return Ok(Value::Null);
    }
    let parts = parts(message)?;
    let nanoseconds = i32::try_from(parts.number(2)).unwrap_or(0);
    let Ok(time) = jiff::Timestamp::new(parts.number(1), nanoseconds) else {
        return Ok(Value::Null);
    };
    let format = match scalar {
        Scalar::MicroTime => "%Y-%m-%dT%H:%M:%S.%6fZ",
        _ => "%Y-%m-%dT%H:%M:%SZ",
    };
    Ok(time.strftime(format).to_string().into())
}

/// The fields of a small message by number.
struct Parts<'a>(Vec<(u64, Field<'a>)>);

fn parts(message: &[u8]) -> Result<Parts<'_>, Error> {
    Reader::new(message).collect::<Result<_, _>>().map(Parts)
}

impl<'a> Parts<'a> {
    fn number(&self, wanted: u64) -> i64 {
        let found = self.0.iter().find_map(|(number, field)| match field {
            Field::Varint(value) if *number == wanted => Some(value.cast_signed()),
            _ => None,
        });
        found.unwrap_or(0)
    }

    fn bytes(&self, wanted: u64) -> &'a [u8] {
        let found = self.0.iter().find_map(|(number, field)| match field {
            Field::Bytes(bytes) if *number == wanted => Some(*bytes),
            _ => None,
        });
        found.unwrap_or_default()
    }

    fn text(&self, wanted: u64) -> String {
        text(self.bytes(wanted))
    }
}
