//! A long list as a body that is made while it is read: of what waits for a slow reader only one piece is there.

use std::{convert::Infallible, sync::Arc, vec};

use axum::{body::Body, response::Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::StatusCode;
use serde_json::Value;

use crate::{respond, storage::Stored};

/// Documents that one piece is made of.
const PIECE_BYTES: usize = 64 << 10;
const PIECE_OBJECTS: usize = 64;

/// The pieces of `{…,"items":[…]}`, whatever the list calls its items.
struct Pieces<W> {
    opening: Option<Bytes>,
    objects: vec::IntoIter<Arc<Stored>>,
    /// Writes some items, with commas between them.
    write: W,
    ended: bool,
}

/// An answer whose `field` holds `objects` as `write` shows them, and that has all fields of `shell`.
pub(super) fn response(
    shell: Value,
    field: &str,
    objects: Vec<Arc<Stored>>,
    write: impl FnMut(&mut BytesMut, &[Arc<Stored>]) + Send + 'static,
) -> Response {
    let pieces = Pieces {
        opening: Some(opening(shell, field)),
        objects: objects.into_iter(),
        write,
        ended: false,
    };
    let frames = stream::iter(pieces.map(Ok::<_, Infallible>));
    let response = respond::typed(StatusCode::OK, "application/json", Bytes::new());
    response.map(|_| Body::from_stream(frames))
}

/// All of `shell`, up to where the first item begins.
fn opening(mut shell: Value, field: &str) -> Bytes {
    if let Some(fields) = shell.as_object_mut() {
        fields.remove(field);
    }
    let mut text = shell.to_string();
    text.pop();
    text.push_str(&format!(",\"{field}\":["));
    Bytes::from(text)
}

impl<W: FnMut(&mut BytesMut, &[Arc<Stored>])> Iterator for Pieces<W> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut out = BytesMut::with_capacity(PIECE_BYTES);
        let opening = self.opening.take();
        let is_first = opening.is_some();
        out.put(opening.unwrap_or_default());
        let batch = self.batch();
        if batch.is_empty() {
            self.ended = true;
            out.put_slice(b"]}\n");
            return Some(out.freeze());
        }
        if !is_first {
            out.put_u8(b',');
        }
        (self.write)(&mut out, &batch);
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
