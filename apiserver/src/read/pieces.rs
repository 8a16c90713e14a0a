//! A long list as a body that is made while it is read: of what waits for a slow reader only one piece is there.

use std::{convert::Infallible, sync::Arc, vec};

use axum::{body::Body, response::Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::StatusCode;
use serde_json::{Value, json};

use crate::{respond, storage::Stored};

/// Documents that one piece is made of.
const PIECE_BYTES: usize = 64 << 10;
const PIECE_OBJECTS: usize = 64;

/// What there is around and between the items.
pub(super) struct Layout {
    content_type: &'static str,
    opening: Bytes,
    comma: &'static [u8],
    closing: &'static [u8],
}

/// A list on its way, whatever it calls its items.
struct Pieces<W> {
    layout: Layout,
    is_begun: bool,
    objects: vec::IntoIter<Arc<Stored>>,
    /// Writes some items, with commas between them.
    write: W,
    is_ended: bool,
}

impl Layout {
    /// All fields of `shell`, then `field`.
    pub(super) fn json(mut shell: Value, field: &str) -> Self {
        remove(&mut shell, field);
        let mut text = shell.to_string();
        text.pop();
        text.push_str(&format!(",\"{field}\":["));
        Layout::stitched(Bytes::from(text))
    }

    /// All that comes before the first item, as it is.
    pub(super) fn stitched(opening: Bytes) -> Self {
        Layout {
            content_type: "application/json",
            opening,
            comma: b",",
            closing: b"]}\n",
        }
    }

    /// As [`Layout::json`] in YAML.
    pub(super) fn yaml(mut shell: Value, field: &str) -> Self {
        remove(&mut shell, field);
        let mut text = serde_saphyr::to_string(&shell).unwrap_or_default();
        text.push_str(&format!("{field}:\n"));
        Layout {
            content_type: "application/yaml",
            opening: Bytes::from(text),
            comma: b"",
            closing: b"",
        }
    }
}

fn remove(shell: &mut Value, field: &str) {
    if let Some(fields) = shell.as_object_mut() {
        fields.remove(field);
    }
}

/// Writes the items of a list's `field` without what is around them.
pub(super) fn write_json(out: &mut BytesMut, list: &Value, field: &str) {
    let items = list[field].to_string();
    let inner = items.get(1..items.len() - 1);
    out.put_slice(inner.unwrap_or_default().as_bytes());
}

/// As [`write_json`] in YAML, indented as below `field`.
pub(super) fn write_yaml(out: &mut BytesMut, list: &Value, field: &str) {
    let text = serde_saphyr::to_string(&json!({ field: list[field] })).unwrap_or_default();
    let inner = text.split_once('\n').map(|(_, inner)| inner);
    out.put_slice(inner.unwrap_or_default().as_bytes());
}

/// An answer with `objects` as `write` shows them.
pub(super) fn response(
    layout: Layout,
    objects: Vec<Arc<Stored>>,
    write: impl FnMut(&mut BytesMut, &[Arc<Stored>]) + Send + 'static,
) -> Response {
    let response = respond::typed(StatusCode::OK, layout.content_type, Bytes::new());
    let pieces = Pieces {
        layout,
        is_begun: false,
        objects: objects.into_iter(),
        write,
        is_ended: false,
    };
    let frames = stream::iter(pieces.map(Ok::<_, Infallible>));
    response.map(|_| Body::from_stream(frames))
}

impl<W: FnMut(&mut BytesMut, &[Arc<Stored>])> Iterator for Pieces<W> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.is_ended {
            return None;
        }
        let mut out = BytesMut::with_capacity(PIECE_BYTES);
        let batch = self.batch();
        if !self.is_begun {
            self.is_begun = true;
            out.put_slice(&self.layout.opening);
        } else if !batch.is_empty() {
            out.put_slice(self.layout.comma);
        }
        (self.write)(&mut out, &batch);
        if self.objects.as_slice().is_empty() {
            self.is_ended = true;
            out.put_slice(self.layout.closing);
        }
        Some(out.freeze())
    }
}

impl<W> Pieces<W> {
    fn batch(&mut self) -> Vec<Arc<Stored>> {
        let mut bytes = 0;
        let mut batch = Vec::new();
        while bytes < PIECE_BYTES && batch.len() < PIECE_OBJECTS {
            let Some(stored) = self.objects.next() else {
                break;
            };
            bytes += stored.document.len();
            batch.push(stored);
        }
        batch
    }
}
