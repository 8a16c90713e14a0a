//! What a term leads to within a namespace, so that nobody walks through all of it. Knows no kind and no own writes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Key;

/// The terms by which an object is found.
pub(in crate::controllers) type Terms<K> = fn(&K) -> Vec<String>;

pub(super) struct Index<K> {
    terms: Terms<K>,
    namespaces: HashMap<String, HashMap<String, Found<K>>>,
}

/// Most terms lead to one object, which then needs no map of its own.
enum Found<K> {
    One(String, Arc<K>),
    Many(BTreeMap<String, Arc<K>>),
}

impl<K> Index<K> {
    pub(super) fn new(terms: Terms<K>) -> Index<K> {
        Index {
            terms,
            namespaces: HashMap::new(),
        }
    }

    pub(super) fn get(&self, namespace: &str, term: &str) -> impl Iterator<Item = &Arc<K>> {
        let found = self
            .namespaces
            .get(namespace)
            .and_then(|terms| terms.get(term));
        let (one, many) = match found {
            None => (None, None),
            Some(Found::One(_, object)) => (Some(object), None),
            Some(Found::Many(objects)) => (None, Some(objects.values())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    pub(super) fn insert(&mut self, key: &Key, object: &Arc<K>) {
        for term in (self.terms)(object) {
            let terms = self.namespaces.entry(key.namespace.clone()).or_default();
            let (name, object) = (key.name.clone(), Arc::clone(object));
            match terms.remove(&term) {
                None => terms.insert(term, Found::One(name, object)),
                Some(Found::One(other, _)) if other == name => {
                    terms.insert(term, Found::One(name, object))
                }
                Some(Found::One(other, before)) => {
                    let objects = BTreeMap::from([(other, before), (name, object)]);
                    terms.insert(term, Found::Many(objects))
                }
                Some(Found::Many(mut objects)) => {
                    objects.insert(name, object);
                    terms.insert(term, Found::Many(objects))
                }
            };
        }
    }

    /// Forgets an object as it was inserted.
    pub(super) fn remove(&mut self, key: &Key, object: &K) {
        let Some(terms) = self.namespaces.get_mut(&key.namespace) else {
            return;
        };
        for term in (self.terms)(object) {
            let is_empty = match terms.get_mut(&term) {
                None => false,
                Some(Found::One(name, _)) => *name == key.name,
                Some(Found::Many(objects)) => {
                    objects.remove(&key.name);
                    objects.is_empty()
                }
            };
            if is_empty {
                terms.remove(&term);
            }
        }
        if terms.is_empty() {
            self.namespaces.remove(&key.namespace);
        }
    }

    pub(super) fn clear(&mut self) {
        self.namespaces.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_by_its_terms_until_it_is_removed() {
        let mut index: Index<&str> =
            Index::new(|text| text.split(' ').map(str::to_owned).collect());
        let key = |name: &str| Key::new("ns", name);
        let check = |index: &Index<&str>, term: &str, expected: &[&str]| {
            let found: Vec<&str> = index.get("ns", term).map(|object| **object).collect();
            assert_eq!(found, expected, "{term}");
        };
        index.insert(&key("1"), &Arc::new("a b"));
        index.insert(&key("2"), &Arc::new("b"));
        check(&index, "a", &["a b"]);
        check(&index, "b", &["a b", "b"]);
        check(&index, "c", &[]);
        index.insert(&key("2"), &Arc::new("b c"));
        check(&index, "b", &["a b", "b c"]);
        index.remove(&key("2"), &"b c");
        check(&index, "b", &["a b"]);
        check(&index, "c", &[]);
        index.remove(&key("1"), &"a b");
        assert!(index.namespaces.is_empty());
    }
}
