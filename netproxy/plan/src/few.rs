//! Maps of few entries: sorted lists, which take no room for entries that never come.
//!
//! A `BTreeMap` of one entry has room for eleven; a plan has several such maps for each Service.

/// A map of few entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FewMap<K, V>(Vec<(K, V)>);

/// A set of few entries.
pub(crate) type FewSet<K> = FewMap<K, ()>;

impl<K, V> Default for FewMap<K, V> {
    fn default() -> Self {
        FewMap(Vec::new())
    }
}

impl<K: Ord, V> FewMap<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let (_, value) = self.0.get(self.place(key).ok()?)?;
        Some(value)
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.place(key).is_ok()
    }

    /// Adds an entry, unless there is one of its key.
    pub(crate) fn insert_new(&mut self, key: K, value: V) {
        if let Err(place) = self.place(&key) {
            self.0.insert(place, (key, value));
        }
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Ok(place) = self.place(key) {
            self.0.remove(place);
        }
    }

    /// Entries in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Keys in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// The keys that `other` does not have, in order.
    pub(crate) fn keys_without(&self, other: &Self) -> impl Iterator<Item = &K> {
        self.keys().filter(|key| !other.contains(key))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives back room for more entries than there are.
    pub(crate) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    fn place(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(own, _)| own.cmp(key))
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for FewMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = FewMap::default();
        for (key, value) in entries {
            map.insert_new(key, value);
        }
        map.shrink();
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_in_order_and_each_key_is_there_once() {
        let entries = [(3, 'c'), (1, 'a'), (2, 'b'), (3, 'x')];
        let mut map: FewMap<u8, char> = entries.into_iter().collect();
        let shown = |map: &FewMap<u8, char>| map.iter().map(|(_, v)| *v).collect::<String>();
        assert_eq!(shown(&map), "abc");
        assert_eq!((map.get(&3), map.get(&4)), (Some(&'c'), None));
        let other: FewMap<u8, char> = [(1, 'z')].into_iter().collect();
        assert_eq!(
            map.keys_without(&other).copied().collect::<Vec<_>>(),
            [2, 3]
        );
        map.remove(&2);
        map.remove(&9);
        assert_eq!(shown(&map), "ac");
        assert!(!map.contains(&2) && map.len() == 2 && !map.is_empty());
    }
}
