//! One JSON line for each event, made from the bytes the store holds where they are served as they are.

use bytes::{BufMut, BytesMut};
use knarr_api::{kind::Kind, status::Status, table::Columns};
use serde_json::{Value, json};

use crate::{
    read::{self, Shown},
    storage::{Revision, Stored},
};

/// The type of an event on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Added,
    Modified,
    Deleted,
    Bookmark,
}

impl Type {
    fn head(self) -> &'static [u8] {
        match self {
            Type::Added => br#"{"type":"ADDED","object":"#,
            Type::Modified => br#"{"type":"MODIFIED","object":"#,
            Type::Deleted => br#"{"type":"DELETED","object":"#,
            Type::Bookmark => br#"{"type":"BOOKMARK","object":"#,
        }
    }
}

/// Writes events in the form a client asked for.
pub(super) struct Lines {
    kind: &'static Kind,
    shown: Shown,
    columns: Columns,
}

impl Lines {
    pub(super) fn new(kind: &'static Kind, shown: Shown) -> Self {
        Lines {
            kind,
            shown,
            columns: Columns::Named,
        }
    }

    pub(super) fn event(&mut self, out: &mut BytesMut, event: Type, stored: &Stored) {
        match read::document_in(self.shown.form(), self.kind, stored) {
            Some(document) => line(out, event, &document),
            None => self.object(out, event, read::object(self.kind, stored)),
        }
    }

    /// An object that leaves the selection: its last state inside it, at the revision that took it out.
    pub(super) fn left(&mut self, out: &mut BytesMut, previous: &Stored, revision: Revision) {
        let mut object = read::object(self.kind, previous);
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        self.object(out, Type::Deleted, object);
    }

    fn object(&mut self, out: &mut BytesMut, event: Type, object: Value) {
        let shown = self.shown.one(object, self.columns);
        self.columns = Columns::Omitted;
        line(out, event, shown.to_string().as_bytes());
    }

    pub(super) fn bookmark(&mut self, out: &mut BytesMut, revision: Revision, mark: Bookmark) {
        let mut metadata = json!({
            "resourceVersion": revision.to_string(),
        });
        if mark == Bookmark::InitialEventsEnd {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = json!({
            "kind": self.kind.kind,
            "apiVersion": self.kind.api_version(),
            "metadata": metadata,
        });
        self.object(out, Type::Bookmark, object);
    }

    pub(super) fn error(&self, out: &mut BytesMut, status: &Status) {
        let event = json!({"type": "ERROR", "object": status});
        out.put_slice(event.to_string().as_bytes());
        out.put_u8(b'\n');
    }
}

/// What a bookmark says beside its revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bookmark {
    Progress,
    InitialEventsEnd,
}

fn line(out: &mut BytesMut, event: Type, object: &[u8]) {
    out.reserve(object.len() + 40);
    out.put_slice(event.head());
    out.put_slice(object);
    out.put_slice(b"}\n");
}
