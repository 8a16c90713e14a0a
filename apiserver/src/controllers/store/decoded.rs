//! Stored bytes as typed objects: those read lately are kept, and no more than so many bytes of them.

use std::collections::HashMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::storage::Stored;

/// Bytes of documents whose objects are kept; an object takes two or three times as much.
const BYTES_MAX: usize = 1 << 20;

/// The object that a document holds, without its managed fields.
pub(super) fn decode<K: DeserializeOwned>(document: &[u8]) -> Result<K, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(document);
    serde_json::from_value(knarr_client::lean(&mut reader)?)
}

/// The objects read lately, each beside what it was read from.
pub(super) struct Decoded<K> {
    recent: Generation<K>,
    recent_bytes: usize,
    earlier: Generation<K>,
}

/// By the address of the stored object, which is nobody else's for as long as it is held here.
type Generation<K> = HashMap<usize, (Arc<Stored>, Arc<K>)>;

fn address(stored: &Arc<Stored>) -> usize {
    Arc::as_ptr(stored).addr()
}

impl<K> Decoded<K> {
    pub(super) fn new() -> Decoded<K> {
        Decoded {
            recent: HashMap::new(),
            recent_bytes: 0,
            earlier: HashMap::new(),
        }
    }

    pub(super) fn get(&mut self, stored: &Arc<Stored>) -> Option<Arc<K>> {
        if let Some((_, object)) = self.recent.get(&address(stored)) {
            return Some(Arc::clone(object));
        }
        let (_, object) = self.earlier.remove(&address(stored))?;
        self.insert(stored, &object);
        Some(object)
    }

    pub(super) fn insert(&mut self, stored: &Arc<Stored>, object: &Arc<K>) {
        self.recent_bytes += stored.document.len();
        if self.recent_bytes > BYTES_MAX / 2 {
            self.earlier = std::mem::take(&mut self.recent);
            self.recent_bytes = stored.document.len();
        }
        let entry = (Arc::clone(stored), Arc::clone(object));
        self.recent.insert(address(stored), entry);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use knarr_api::kinds::configmap::CONFIG_MAP;
    use serde_json::json;

    use super::*;
    use crate::storage::{Key, Revision};

    #[test]
    fn what_is_read_again_and_again_outlives_what_was_read_once() {
        let stored = |number: u64| {
            let object =
                json!({"metadata": {"name": "a"}, "data": {"x": "y".repeat(BYTES_MAX / 8)}});
            let key = Key::new(&CONFIG_MAP, "ns", number.to_string());
            Arc::new(Stored::new(key, Revision(number), &object))
        };
        let mut decoded: Decoded<ConfigMap> = Decoded::new();
        let (hot, once) = (stored(0), stored(1));
        decoded.insert(&hot, &Arc::default());
        decoded.insert(&once, &Arc::default());
        for number in 2..100 {
            decoded.insert(&stored(number), &Arc::default());
            assert!(decoded.get(&hot).is_some());
        }
        assert!(decoded.get(&once).is_none());
        let kept = decoded.recent.len() + decoded.earlier.len();
        assert!(kept <= 8, "{kept} objects are kept");
    }
}
