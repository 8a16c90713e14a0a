//! The first look at a JSON body: its apiVersion and kind, and Go's words for text that is not JSON.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::TypeMeta;

const GO_TYPE: &str = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
const DEPTH_MAX: usize = 10_000;

/// Reads apiVersion and kind, and finds every syntax error of the body.
pub(super) fn type_meta(text: &str) -> Result<TypeMeta, String> {
    match serde_json::from_str::<Said>(text) {
        Ok(said) => {
            if let Some(mismatch) = said.mismatch {
                return Err(mismatch);
            }
            TypeMeta::parse(&said.api_version, &said.kind)
        }
        Err(e) => Err(prefixed(&error(text).unwrap_or_else(|| e.to_string()))),
    }
}

/// What Go says of a body, or of its apiVersion or kind, that has the wrong JSON type.
pub(super) fn type_meta_mismatch(found: &Value, field: &str) -> String {
    let name = crate::go::json_name(found);
    prefixed(&if field.is_empty() {
        format!("json: cannot unmarshal {name} into Go value of type {GO_TYPE}")
    } else {
        format!("json: cannot unmarshal {name} into Go struct field .{field} of type string")
    })
}

fn prefixed(text: &str) -> String {
    format!("couldn't get version/kind; json parse error: {text}")
}

#[derive(Default)]
struct Said {
    api_version: String,
    kind: String,
    mismatch: Option<String>,
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(SaidVisitor)
    }
}

struct SaidVisitor;

impl SaidVisitor {
    fn not_an_object(found: &Value) -> Said {
        Said {
            mismatch: Some(type_meta_mismatch(found, "")),
            ..Said::default()
        }
    }
}

impl<'de> Visitor<'de> for SaidVisitor {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Said, A::Error> {
        let mut said = Said::default();
        while let Some(key) = entries.next_key::<std::borrow::Cow<'de, str>>()? {
            let slot = match &*key {
                "apiVersion" => &mut said.api_version,
                "kind" => &mut said.kind,
                _ => {
                    entries.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            match entries.next_value::<Value>()? {
                Value::String(text) => *slot = text,
                Value::Null => {}
                other => {
                    said.mismatch
                        .get_or_insert_with(|| type_meta_mismatch(&other, &key));
                }
            }
        }
        Ok(said)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Said, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::not_an_object(&Value::Array(Vec::new())))
    }

    fn visit_unit<E>(self) -> Result<Said, E> {
        Ok(Said::default())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Said, E> {
        Ok(Self::not_an_object(&value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Said, E> {
        Ok(Self::not_an_object(&value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Said, E> {
        Ok(Self::not_an_object(&value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Said, E> {
        Ok(Self::not_an_object(&value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Said, E> {
        Ok(Self::not_an_object(&value.into()))
    }
}

/// The first syntax error of a JSON text, in the words of Go's scanner.
pub(super) fn error(text: &str) -> Option<String> {
    Scanner::new(text.as_bytes()).error()
}

/// Finds the first syntax error and words it as Go's scanner does.
struct Scanner<'a> {
    body: &'a [u8],
    at: usize,
    /// For each open bracket, whether it is an object's.
    open: Vec<Bracket>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Object,
    Array,
}

impl<'a> Scanner<'a> {
    fn new(body: &'a [u8]) -> Self {
        Scanner {
            body,
            at: 0,
            open: Vec::new(),
        }
    }

    fn error(mut self) -> Option<String> {
        self.document().err()
    }

    fn document(&mut self) -> Result<(), String> {
        self.value()?;
        while let Some(bracket) = self.open.last().copied() {
            match (bracket, self.token()?) {
                (Bracket::Object, b',') => {
                    self.key()?;
                    self.value()?;
                }
                (Bracket::Array, b',') => self.value()?,
                (Bracket::Object, b'}') | (Bracket::Array, b']') => {
                    self.open.pop();
                }
                (Bracket::Object, byte) => {
                    return Err(invalid(byte, "after object key:value pair"));
                }
                (Bracket::Array, byte) => return Err(invalid(byte, "after array element")),
            }
        }
        self.skip_space();
        match self.body.get(self.at) {
            Some(byte) => Err(invalid(*byte, "after top-level value")),
            None => Ok(()),
        }
    }

    /// Reads a scalar, or opens brackets up to the first scalar or empty pair.
    fn value(&mut self) -> Result<(), String> {
        loop {
            match self.token()? {
                b'{' => {
                    self.push(Bracket::Object)?;
                    if self.closes(b'}') {
                        return Ok(());
                    }
                    self.key()?;
                }
                b'[' => {
                    self.push(Bracket::Array)?;
                    if self.closes(b']') {
                        return Ok(());
                    }
                }
                b'"' => return self.string(),
                b't' => return self.literal("true"),
                b'f' => return self.literal("false"),
                b'n' => return self.literal("null"),
                byte @ (b'-' | b'0'..=b'9') => return self.number(byte),
                byte => return Err(invalid(byte, "looking for beginning of value")),
            }
        }
    }

    fn push(&mut self, bracket: Bracket) -> Result<(), String> {
        self.open.push(bracket);
        if self.open.len() > DEPTH_MAX {
            let byte = if bracket == Bracket::Object {
                b'{'
            } else {
                b'['
            };
            return Err(invalid(byte, "exceeded max depth"));
        }
        Ok(())
    }

    /// Whether the bracket just opened is closed at once; consumes the closing one.
    fn closes(&mut self, byte: u8) -> bool {
        self.skip_space();
        let closed = self.body.get(self.at) == Some(&byte);
        if closed {
            self.at += 1;
            self.open.pop();
        }
        closed
    }

    fn key(&mut self) -> Result<(), String> {
        match self.token()? {
            b'"' => self.string()?,
            byte => return Err(invalid(byte, "looking for beginning of object key string")),
        }
        match self.token()? {
            b':' => Ok(()),
            byte => Err(invalid(byte, "after object key")),
        }
    }

    fn string(&mut self) -> Result<(), String> {
        loop {
            match self.byte()? {
                b'"' => return Ok(()),
                b'\\' => match self.byte()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let digit = self.byte()?;
                            if !digit.is_ascii_hexdigit() {
                                return Err(invalid(digit, "in \\u hexadecimal character escape"));
                            }
                        }
                    }
                    byte => return Err(invalid(byte, "in string escape code")),
                },
                byte @ 0..0x20 => return Err(invalid(byte, "in string literal")),
                _ => {}
            }
        }
    }

    fn literal(&mut self, text: &str) -> Result<(), String> {
        for wanted in text.bytes().skip(1) {
            let byte = self.byte()?;
            if byte != wanted {
                let wanted = char::from(wanted);
                return Err(invalid(
                    byte,
                    &format!("in literal {text} (expecting '{wanted}')"),
                ));
            }
        }
        Ok(())
    }

    fn number(&mut self, first: u8) -> Result<(), String> {
        let first = if first == b'-' { self.byte()? } else { first };
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            byte => return Err(invalid(byte, "in numeric literal")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn digit(&mut self, context: &str) -> Result<(), String> {
        let byte = self.byte()?;
        if !byte.is_ascii_digit() {
            return Err(invalid(byte, context));
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn byte(&mut self) -> Result<u8, String> {
        let byte = self
            .peek()
            .ok_or_else(|| "unexpected end of JSON input".to_owned())?;
        self.at += 1;
        Ok(byte)
    }

    fn token(&mut self) -> Result<u8, String> {
        self.skip_space();
        self.byte()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }
}

fn invalid(byte: u8, context: &str) -> String {
    let shown = match byte {
        b'\'' => "\\'".to_owned(),
        b'"' => "\"".to_owned(),
        byte => {
            let quoted = crate::field::quote(&char::from(byte).to_string());
            quoted.trim_matches('"').to_owned()
        }
    };
    format!("invalid character '{shown}' {context}")
}
