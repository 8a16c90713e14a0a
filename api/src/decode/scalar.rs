//! Scalars as Go reads and prints them: integer ranges, base64, times, quantities. Knows no paths.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{field::quote, quantity::Quantity, schema::Scalar};

pub(super) const QUANTITY_FORMAT: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const RFC3339: &str = "2006-01-02T15:04:05Z07:00";
const RFC3339_MICRO: &str = "2006-01-02T15:04:05.000000Z07:00";

/// A JSON scalar before its type is known.
#[derive(Clone, Copy)]
pub(super) enum Literal<'a> {
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(&'a str),
}

pub(super) enum Error {
    /// Wrong JSON type, named as Go names what it found.
    Mismatch(String),
    /// As `Mismatch`, met by a type that decodes itself and so ends decoding; with the type it wanted.
    FatalMismatch(String, &'static str),
    /// Another error after which decoding goes on.
    Saved(String),
    /// Another error that ends decoding.
    Fatal(String),
}

impl Literal<'_> {
    /// As Go names what it found in the JSON.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Literal::Bool(_) => "bool",
            Literal::Integer(_) | Literal::Float(_) => "number",
            Literal::Text(_) => "string",
        }
    }

    /// The JSON text.
    fn raw(&self) -> Cow<'_, str> {
        match self {
            Literal::Bool(value) => value.to_string().into(),
            Literal::Integer(value) => value.to_string().into(),
            Literal::Float(value) => Value::from(*value).to_string().into(),
            Literal::Text(text) => (*text).into(),
        }
    }

    /// How Go names a number that does not fit.
    fn number(&self) -> String {
        format!("number {}", self.raw())
    }
}

/// Reads a literal as a type.
pub(super) fn read(wanted: Scalar, literal: Literal<'_>) -> Result<Value, Error> {
    let mismatch = || Error::Mismatch(literal.name().to_owned());
    match (wanted, literal) {
        (Scalar::String, Literal::Text(text)) => Ok(text.into()),
        (Scalar::Bool, Literal::Bool(value)) => Ok(value.into()),
        (Scalar::Int32, _) => integer(literal, i32::MIN.into(), i32::MAX.into()),
        (Scalar::Int64, _) => integer(literal, i64::MIN.into(), i64::MAX.into()),
        (Scalar::Uint32, _) => integer(literal, 0, u32::MAX.into()),
        (Scalar::Uint64, _) => integer(literal, 0, u64::MAX.into()),
        (Scalar::Float64, Literal::Integer(value)) => Ok(Value::from(value as f64)),
        (Scalar::Float64, Literal::Float(value)) => Ok(value.into()),
        (Scalar::Bytes, Literal::Text(text)) => bytes(text),
        (Scalar::Quantity, _) => quantity(literal),
        (Scalar::IntOrString, Literal::Text(text)) => Ok(text.into()),
        (Scalar::IntOrString, _) => {
            integer(literal, i32::MIN.into(), i32::MAX.into()).map_err(|e| with_type(e, "int32"))
        }
        (Scalar::Time | Scalar::MicroTime, Literal::Text(text)) => instant(wanted, text),
        (Scalar::Time | Scalar::MicroTime, _) => Err(with_type(mismatch(), "string")),
        _ => Err(mismatch()),
    }
}

fn with_type(error: Error, wanted: &'static str) -> Error {
    match error {
        Error::Mismatch(found) => Error::FatalMismatch(found, wanted),
        other => other,
    }
}

fn integer(literal: Literal<'_>, min: i128, max: i128) -> Result<Value, Error> {
    let value = match literal {
        Literal::Integer(value) if (min..=max).contains(&value) => value,
        Literal::Integer(_) | Literal::Float(_) => return Err(Error::Mismatch(literal.number())),
        _ => return Err(Error::Mismatch(literal.name().to_owned())),
    };
    i64::try_from(value)
        .map(Value::from)
        .or_else(|_| u64::try_from(value).map(Value::from))
        .map_err(|_| Error::Mismatch(literal.number()))
}

fn bytes(text: &str) -> Result<Value, Error> {
    let joined: Cow<'_, str> = if text.contains(['\r', '\n']) {
        text.replace(['\r', '\n'], "").into()
    } else {
        text.into()
    };
    match STANDARD.decode(joined.as_bytes()) {
        Ok(bytes) => Ok(STANDARD.encode(bytes).into()),
        Err(_) => Err(Error::Saved(format!(
            "illegal base64 data at input byte {}",
            corrupt_at(text)
        ))),
    }
}

/// The offset that Go's decoder complains about: the first byte outside the alphabet, else the start of the last, broken group.
fn corrupt_at(text: &str) -> usize {
    let mut group_start = 0;
    let mut in_group = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\r' | b'\n' => continue,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => {}
            _ => return at,
        }
        if in_group == 0 {
            group_start = at;
        }
        in_group = (in_group + 1) % 4;
    }
    group_start
}

fn quantity(literal: Literal<'_>) -> Result<Value, Error> {
    if let Literal::Bool(_) = literal {
        return Err(Error::Fatal(QUANTITY_FORMAT.to_owned()));
    }
    Quantity::parse(literal.raw().trim())
        .map(|quantity| quantity.to_string().into())
        .map_err(|e| Error::Fatal(e.to_string()))
}

fn instant(wanted: Scalar, text: &str) -> Result<Value, Error> {
    let layout = if wanted == Scalar::MicroTime {
        RFC3339_MICRO
    } else {
        RFC3339
    };
    let time = parse_time(text, layout).map_err(Error::Fatal)?;
    let utc = time.to_zoned(jiff::tz::TimeZone::UTC);
    let text = if wanted == Scalar::MicroTime {
        utc.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
    } else {
        utc.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    // Go's zero time prints as null.
    if text.starts_with("0001-01-01T00:00:00") {
        return Ok(Value::Null);
    }
    Ok(text.into())
}

/// Parses RFC 3339 as Go's `time.Parse` does, and says which part it stumbled over.
fn parse_time(text: &str, layout: &str) -> Result<jiff::Timestamp, String> {
    let cannot = |rest: &str, part: &str| {
        format!(
            "parsing time {} as {}: cannot parse {} as {}",
            quote(text),
            quote(layout),
            quote(rest),
            quote(part)
        )
    };
    let mut rest = text;
    for (digits, part, after) in [
        (4, "2006", "-"),
        (2, "01", "-"),
        (2, "02", "T"),
        (2, "15", ":"),
        (2, "04", ":"),
        (2, "05", ""),
    ] {
        let head = rest.get(..digits).unwrap_or_default();
        if head.len() != digits || !head.bytes().all(|b| b.is_ascii_digit()) {
            return Err(cannot(rest, part));
        }
        rest = rest.get(digits..).unwrap_or_default();
        rest = rest
            .strip_prefix(after)
            .ok_or_else(|| cannot(rest, after))?;
    }
    if layout == RFC3339_MICRO {
        rest = after_microseconds(rest).ok_or_else(|| cannot(rest, ".000000"))?;
    } else if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            rest = fraction.get(digits..).unwrap_or_default();
        }
    }
    if !is_offset(rest) {
        return Err(cannot(rest, "Z07:00"));
    }
    text.parse()
        .map_err(|_| format!("parsing time {}: day out of range", quote(text)))
}

/// What follows the six digits that this layout insists on.
fn after_microseconds(text: &str) -> Option<&str> {
    let (digits, rest) = text.strip_prefix('.')?.split_at_checked(6)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then_some(rest)
}

fn is_offset(text: &str) -> bool {
    match text.as_bytes() {
        [b'Z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()),
        _ => false,
    }
}
