//! Objects as bytes: written once with their resourceVersion, served as they are.

use std::collections::BTreeMap;

use bytes::Bytes;
use knarr_api::kind::Kind;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

use super::{Labels, Revision};

const RESOURCE_VERSION: &str = "resourceVersion";

/// The JSON of `object` at `revision`.
pub(super) fn write(object: &Value, revision: Revision) -> Bytes {
    let revised = Revised {
        object,
        revision: &revision.to_string(),
    };
    // A Value always serialises; there is no other way for this to be empty.
    let document = serde_json::to_vec(&revised).unwrap_or_default();
    Bytes::from(document.into_boxed_slice())
}

/// What the store itself reads of a document.
pub(super) struct Metadata {
    pub uid: Box<str>,
    pub labels: Labels,
}

pub(super) fn metadata(document: &[u8]) -> Result<Metadata, serde_json::Error> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Fields,
    }
    #[derive(Deserialize)]
    struct Fields {
        #[serde(default)]
        uid: Box<str>,
        #[serde(default)]
        labels: Option<BTreeMap<String, Value>>,
    }
    let Object { metadata } = serde_json::from_slice(document)?;
    let labels = metadata.labels.into_iter().flatten();
    let text = |(key, value): (String, Value)| match value {
        Value::String(value) => Some((key.into_boxed_str(), value.into_boxed_str())),
        _ => None,
    };
    Ok(Metadata {
        uid: metadata.uid,
        labels: Labels(labels.filter_map(text).collect()),
    })
}

/// Whether an object of the kind has something to hide, as far as its bytes tell.
pub(super) fn hides(document: &[u8], kind: &Kind) -> bool {
    let text = || std::str::from_utf8(document).unwrap_or_default();
    let hidden = kind.hidden.as_ref();
    hidden.is_some_and(|hidden| text().contains(hidden.marker))
}

/// An object with another resourceVersion than it carries, without a copy of it.
struct Revised<'a> {
    object: &'a Value,
    revision: &'a str,
}

impl Serialize for Revised<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Value::Object(fields) = self.object else {
            return self.object.serialize(serializer);
        };
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in fields {
            match (key.as_str(), value) {
                ("metadata", Value::Object(fields)) => {
                    let revision = self.revision;
                    map.serialize_entry(key, &RevisedMetadata { fields, revision })?;
                }
                _ => map.serialize_entry(key, value)?,
            }
        }
        map.end()
    }
}

struct RevisedMetadata<'a> {
    fields: &'a Map<String, Value>,
    revision: &'a str,
}

impl Serialize for RevisedMetadata<'_> {
    /// Keys stay in order, so that equal objects are equal bytes.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let split = |key: &str| key < RESOURCE_VERSION;
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.fields.iter().filter(|(key, _)| split(key)) {
            map.serialize_entry(key, value)?;
        }
        map.serialize_entry(RESOURCE_VERSION, self.revision)?;
        let after = self.fields.iter().filter(|(key, _)| !split(key));
        for (key, value) in after.filter(|(key, _)| *key != RESOURCE_VERSION) {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_its_object_with_the_revision() {
        let check = |object: Value, expected: &str| {
            assert_eq!(write(&object, Revision(7)), expected.as_bytes());
        };
        check(
            json!({ "kind": "A", "metadata": { "name": "a", "uid": "u" } }),
            r#"{"kind":"A","metadata":{"name":"a","resourceVersion":"7","uid":"u"}}"#,
        );
        check(
            json!({ "metadata": { "resourceVersion": "3" }, "spec": { "metadata": {} } }),
            r#"{"metadata":{"resourceVersion":"7"},"spec":{"metadata":{}}}"#,
        );
        check(
            json!({ "metadata": {} }),
            r#"{"metadata":{"resourceVersion":"7"}}"#,
        );
    }
}
