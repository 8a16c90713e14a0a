//! Reads protobuf bodies, which typed Go clients send, as the JSON they stand for. Never writes protobuf.
//!
//! The numbers of fields are facts in `schema/protobuf.txt`, written by `schema/protobuf.py`.

mod message;
mod numbers;
mod wire;

use serde_json::{Map, Value};

use crate::{
    decode::{self, Decoded, Target},
    status::Status,
};

use wire::{Field, Reader};

/// What every protobuf body of Kubernetes starts with.
const MAGIC: &[u8] = b"k8s\0";

/// Why a body cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Error {
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    NoMagic,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: illegal wireType {0}")]
    WireType(u64),
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: messages are nested too deeply")]
    TooDeep,
    #[error("proto: {0} is not of the type that its field has")]
    Mismatch(&'static str),
    #[error("a raw field holds no JSON")]
    Raw,
}

/// Decodes a protobuf body.
///
/// # Errors
/// 400 when the body cannot be read or is of another kind.
pub fn decode(target: Target<'_>, body: &[u8]) -> Result<Decoded, Status> {
    let json = read(target, body).map_err(|error| Status::bad_request(error.to_string()))?;
    decode::json_as(target, json.to_string().as_bytes())
}

/// The body as JSON, with the apiVersion and kind that its envelope names.
fn read(target: Target<'_>, body: &[u8]) -> Result<Value, Error> {
    let body = body.strip_prefix(MAGIC).ok_or(Error::NoMagic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Reader::new(body) {
        match field? {
            (1, Field::Bytes(type_meta)) => {
                for field in Reader::new(type_meta) {
                    match field? {
                        (1, Field::Bytes(text)) => api_version = wire::text(text),
                        (2, Field::Bytes(text)) => kind = wire::text(text),
                        _ => {}
                    }
                }
            }
            (2, Field::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let mut fields = Map::new();
    if let Some(definition) = target.definition() {
        message::read(definition, raw, &mut fields)?;
    }
    for (name, value) in [("apiVersion", api_version), ("kind", kind)] {
        if !value.is_empty() {
            fields.insert(name.to_owned(), value.into());
        }
    }
    Ok(fields.into())
}

#[cfg(test)]
mod tests;
