//! Descriptions of types and fields, as k8s-openapi's types carry them; the build script collected them. Shapes are taken
//! from elsewhere.

use std::{collections::BTreeMap, io::Read};

use flate2::read::ZlibDecoder;

const COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/prose.json.zz"));

/// What is said about types and fields, by published name of the type.
#[derive(Default)]
pub(super) struct Prose(BTreeMap<String, BTreeMap<String, String>>);

impl Prose {
    /// Unpacks all of it, which takes milliseconds and is worth keeping for one document only.
    pub(super) fn unpack() -> Prose {
        let mut text = Vec::new();
        let read = ZlibDecoder::new(COMPRESSED).read_to_end(&mut text);
        // The build wrote it, so it can be read.
        read.ok()
            .and_then(|_| serde_json::from_slice(&text).ok())
            .map_or_else(Prose::default, Prose)
    }

    /// The description of a field, or of the type itself.
    pub(super) fn of(&self, definition: &str, field: Option<&str>) -> Option<&str> {
        let texts = self.0.get(definition)?;
        texts.get(field.unwrap_or_default()).map(String::as_str)
    }
}
