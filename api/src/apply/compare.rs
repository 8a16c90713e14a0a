//! What differs between two objects, as sets of paths.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    path::{Element, Set},
    typed::{Place, Shape, is_bare, item_element},
};

/// Paths only the new object has, only the old one has, and those whose values differ.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) added: Set,
    pub(super) removed: Set,
    pub(super) modified: Set,
}

impl Comparison {
    pub(super) fn of(place: Place, old: &Value, new: &Value) -> Self {
        let mut comparison = Comparison::default();
        comparison.node(place, Some(old), Some(new), &mut Vec::new());
        comparison
    }

    /// Leaves out everything at and below the paths of `ignored`.
    pub(super) fn without_below(self, ignored: &Set) -> Self {
        Comparison {
            added: self.added.without_below(ignored),
            removed: self.removed.without_below(ignored),
            modified: self.modified.without_below(ignored),
        }
    }

    fn node(
        &mut self,
        place: Place,
        old: Option<&Value>,
        new: Option<&Value>,
        path: &mut Vec<Element>,
    ) {
        if old == new {
            return;
        }
        let shape = place.shape(new.or(old).unwrap_or(&Value::Null));
        let is_leaf = match shape {
            Shape::Scalar | Shape::Whole(_) => true,
            _ => is_bare(old) && is_bare(new),
        };
        match (old, new) {
            (None, _) => self.added.insert(path),
            (_, None) => self.removed.insert(path),
            _ if is_leaf => self.modified.insert(path),
            _ => {}
        }
        if is_leaf {
            return;
        }
        match shape {
            Shape::Set | Shape::ListMap(..) => self.items(place, shape, list(old), list(new), path),
            _ => self.entries(
                shape,
                old.and_then(Value::as_object),
                new.and_then(Value::as_object),
                path,
            ),
        }
    }

    fn entries(
        &mut self,
        shape: Shape,
        old: Option<&Map<String, Value>>,
        new: Option<&Map<String, Value>>,
        path: &mut Vec<Element>,
    ) {
        for (name, value) in old.into_iter().flatten() {
            let other = new.and_then(|n| n.get(name));
            if other == Some(value) {
                continue;
            }
            self.entry(shape, name, Some(value), other, path);
        }
        for (name, value) in new.into_iter().flatten() {
            if old.is_none_or(|o| !o.contains_key(name)) {
                self.entry(shape, name, None, Some(value), path);
            }
        }
    }

    fn entry(
        &mut self,
        shape: Shape,
        name: &str,
        old: Option<&Value>,
        new: Option<&Value>,
        path: &mut Vec<Element>,
    ) {
        let place = shape.entry(name).unwrap_or(Place::Free);
        path.push(Element::Field(name.to_owned()));
        self.node(place, old, new, path);
        path.pop();
    }

    fn items(
        &mut self,
        place: Place,
        shape: Shape,
        old: &[Value],
        new: &[Value],
        path: &mut Vec<Element>,
    ) {
        let mut pairs: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in old {
            if let Ok(element) = item_element(shape, item) {
                pairs.entry(element).or_default().0.push(item);
            }
        }
        for item in new {
            if let Ok(element) = item_element(shape, item) {
                pairs.entry(element).or_default().1.push(item);
            }
        }
        for (element, (old, new)) in pairs {
            path.push(element);
            self.item(place.item(), &old, &new, path);
            path.pop();
        }
    }

    /// Items with one key; several of them are one value that is owned as a whole.
    fn item(&mut self, place: Place, old: &[&Value], new: &[&Value], path: &mut Vec<Element>) {
        match (old, new) {
            ([] | [_], [] | [_]) => {
                self.node(place, old.first().copied(), new.first().copied(), path);
            }
            ([_, _, ..], [_, _, ..]) => {
                if old != new {
                    self.modified.insert(path);
                }
            }
            ([_, _, ..], _) => {
                if let Some(new) = new.first() {
                    self.node(place, None, Some(new), path);
                }
                self.removed.insert(path);
            }
            (_, [_, _, ..]) => {
                if let Some(old) = old.first() {
                    self.node(place, Some(old), None, path);
                }
                self.added.insert(path);
            }
        }
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
