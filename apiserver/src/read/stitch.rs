//! List bodies put together from stored bytes. Parses nothing; it only finds where top-level fields begin and end.

use std::{ops::Range, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use knarr_api::{kind::Kind, table::Version};
use serde_json::Value;

use super::view;
use crate::storage::Stored;

/// `{"apiVersion":…,"items":[…],"kind":…,"metadata":…}`; the items leave out apiVersion and kind, as typed lists do.
pub(super) fn list(kind: &Kind, metadata: &Value, objects: &[Arc<Stored>]) -> Bytes {
    let size: usize = objects.iter().map(|stored| stored.document.len() + 1).sum();
    let mut body = BytesMut::with_capacity(size + 256);
    body.put_slice(&opening(kind, metadata));
    items(&mut body, objects);
    body.put_slice(b"]}");
    body.freeze()
}

/// A list up to where its first item begins.
pub(super) fn opening(kind: &Kind, metadata: &Value) -> Bytes {
    let opening = format!(
        r#"{{"kind":"{}List","apiVersion":"{}","metadata":{metadata},"items":["#,
        kind.kind,
        kind.api_version(),
    );
    Bytes::from(opening)
}

/// Items of a list, with commas between them.
pub(super) fn items(body: &mut BytesMut, objects: &[Arc<Stored>]) {
    for (index, stored) in objects.iter().enumerate() {
        if index > 0 {
            body.put_u8(b',');
        }
        item(body, &view::document(stored.key.kind, stored));
    }
}

/// A document reduced to its metadata, as `table::partial_metadata` does to an object.
pub(super) fn partial_metadata(version: Version, document: &[u8]) -> Bytes {
    const METADATA: &[u8] = b"\"metadata\":";
    let mut fields = Fields::new(document).filter_map(|field| document.get(field));
    let metadata = fields.find(|field| field.starts_with(METADATA));
    let metadata = metadata.unwrap_or(b"\"metadata\":null");
    let mut body = BytesMut::with_capacity(metadata.len() + 80);
    body.put_slice(br#"{"kind":"PartialObjectMetadata","apiVersion":""#);
    body.put_slice(version.api_version().as_bytes());
    body.put_slice(b"\",");
    body.put_slice(metadata);
    body.put_u8(b'}');
    body.freeze()
}

/// Copies a document without its apiVersion and kind.
fn item(body: &mut BytesMut, document: &[u8]) {
    body.put_u8(b'{');
    let mut first = true;
    for field in Fields::new(document) {
        let text = document.get(field).unwrap_or_default();
        if text.starts_with(b"\"apiVersion\":") || text.starts_with(b"\"kind\":") {
            continue;
        }
        if !first {
            body.put_u8(b',');
        }
        first = false;
        body.put_slice(text);
    }
    body.put_u8(b'}');
}

/// The ranges of `"name":value` at the top level of a compact JSON object.
struct Fields<'a> {
    document: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn new(document: &'a [u8]) -> Self {
        Fields { document, at: 1 }
    }
}

impl Iterator for Fields<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let mut depth = 0_u32;
        let mut bytes = self.document.iter().enumerate().skip(start);
        while let Some((index, byte)) = bytes.next() {
            match byte {
                b'"' => skip_string(&mut bytes),
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth > 0 => depth -= 1,
                b',' | b'}' | b']' if depth == 0 => {
                    self.at = index + 1;
                    return (index > start).then_some(start..index);
                }
                _ => {}
            }
        }
        None
    }
}

/// Moves past the closing quote of a string.
fn skip_string<'a>(bytes: &mut impl Iterator<Item = (usize, &'a u8)>) {
    while let Some((_, byte)) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'"' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use knarr_api::table;
    use serde_json::json;

    use super::*;

    #[test]
    fn partial_metadata_is_that_of_the_object() {
        let check = |object: Value| {
            let document = object.to_string();
            let stitched = partial_metadata(Version::V1, document.as_bytes());
            let expected = table::partial_metadata(&object, Version::V1);
            assert_eq!(
                serde_json::from_slice::<Value>(&stitched).unwrap(),
                expected
            );
        };
        check(json!({"apiVersion": "v1", "metadata": {"name": "a", "labels": {"metadata": "}"}}}));
        check(json!({"a": [{"metadata": {}}], "spec": {"metadata": 1}}));
    }

    #[test]
    fn items_leave_out_their_own_type_and_nothing_else() {
        let check = |object: Value, expected: Value| {
            let mut body = BytesMut::new();
            item(&mut body, object.to_string().as_bytes());
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
        };
        check(
            json!({"apiVersion": "v1", "kind": "A", "involvedObject": {"kind": "B"}}),
            json!({"involvedObject": {"kind": "B"}}),
        );
        check(
            json!({"apiVersion": "v1", "data": {"a": "}\",\"kind\":[{"}, "kind": "A", "z": [1, {}]}),
            json!({"data": {"a": "}\",\"kind\":[{"}, "z": [1, {}]}),
        );
        check(json!({"apiVersion": "v1", "kind": "A"}), json!({}));
    }
}
