//! The elements of one set, in order of key.

use super::set::{Key, Value};

/// Elements sorted by key, each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elements(Vec<(Key, Value)>);

impl Elements {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a key leads to.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Value> {
        let (_, value) = self.0.get(self.find(key).ok()?)?;
        Some(value)
    }

    /// Adds an element; gives back the one it takes the place of.
    pub fn insert(&mut self, key: Key, value: Value) -> Option<Value> {
        match self.find(&key) {
            Ok(index) => Some(std::mem::replace(&mut self.0[index].1, value)),
            Err(index) => {
                self.0.insert(index, (key, value));
                None
            }
        }
    }

    /// Removes an element and gives it back.
    pub fn remove(&mut self, key: &Key) -> Option<Value> {
        let index = self.find(key).ok()?;
        Some(self.0.remove(index).1)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Those that the other does not have as they are.
    #[must_use]
    pub fn missing_in(&self, other: &Self) -> Vec<(Key, Value)> {
        let mut others = other.0.iter().peekable();
        let mut known = |own: &(Key, Value)| {
            while others.next_if(|(key, _)| *key < own.0).is_some() {}
            others.peek() == Some(&own)
        };
        let missing = self.0.iter().filter(|own| !known(own));
        missing.cloned().collect()
    }

    fn find(&self, key: &Key) -> Result<usize, usize> {
        self.0.binary_search_by(|(own, _)| own.cmp(key))
    }
}

impl From<Vec<(Key, Value)>> for Elements {
    /// Of several with one key, the last stays.
    fn from(mut elements: Vec<(Key, Value)>) -> Self {
        elements.sort_by(|(one, _), (other, _)| one.cmp(other));
        elements.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        Self(elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::Verdict;

    fn element(key: u8, value: Value) -> (Key, Value) {
        let first = (&[key][..]).try_into().expect("few bytes");
        (Key { first, last: None }, value)
    }

    fn elements(list: &[(u8, Value)]) -> Elements {
        let list = list.iter().map(|(key, value)| element(*key, value.clone()));
        list.collect::<Vec<_>>().into()
    }

    #[test]
    fn of_two_with_one_key_the_last_stays() {
        let both = elements(&[
            (2, Value::Present),
            (1, Value::Present),
            (2, Value::Verdict(Verdict::Drop)),
        ]);
        assert_eq!(both.len(), 2);
        let (key, value) = element(2, Value::Verdict(Verdict::Drop));
        assert_eq!(both.get(&key), Some(&value));
    }

    #[test]
    fn an_element_is_missing_where_its_key_is_absent_or_leads_elsewhere() {
        let drop = || Value::Verdict(Verdict::Drop);
        let own = elements(&[(1, drop()), (2, drop()), (3, drop()), (5, drop())]);
        let other = elements(&[(0, drop()), (2, Value::Present), (3, drop()), (4, drop())]);
        let missing = own.missing_in(&other);
        assert_eq!(
            missing,
            [element(1, drop()), element(2, drop()), element(5, drop())]
        );
        assert_eq!(own.missing_in(&own), []);
        assert_eq!(own.missing_in(&Elements::default()).len(), own.len());
    }
}
