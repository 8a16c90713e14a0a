//! Merging an applied configuration into an object, and taking fields out of one. Decides nothing about ownership.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    path::{Element, Set},
    typed::{Place, Shape, is_bare, item_element},
};

/// `live` overlaid with `config`.
pub(super) fn merge(place: Place, live: &Value, config: &Value) -> Value {
    node(place, Some(live), Some(config)).unwrap_or(Value::Null)
}

fn node(place: Place, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let shape = place.shape(config.or(live).unwrap_or(&Value::Null));
    let is_leaf = match shape {
        Shape::Scalar | Shape::Whole(_) => true,
        _ => is_bare(live) && is_bare(config),
    };
    if is_leaf {
        return config.or(live).cloned();
    }
    match shape {
        Shape::Set | Shape::ListMap(..) => items(place, shape, live, config),
        _ => entries(shape, live, config),
    }
}

fn entries(shape: Shape, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let live = live.and_then(Value::as_object);
    let config = config.and_then(Value::as_object);
    let mut out = Map::new();
    let names = live
        .into_iter()
        .chain(config)
        .flat_map(|fields| fields.keys());
    for name in names {
        if out.contains_key(name) {
            continue;
        }
        let place = shape.entry(name).unwrap_or(Place::Free);
        if let Some(value) = node(place, field(live, name), field(config, name)) {
            out.insert(name.clone(), value);
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

fn field<'v>(fields: Option<&'v Map<String, Value>>, name: &str) -> Option<&'v Value> {
    fields.and_then(|fields| fields.get(name))
}

/// One side of a list merge: elements in order, and the item of each, `None` when several items share it.
struct Side<'a> {
    order: Vec<(Element, &'a Value)>,
    by_element: BTreeMap<Element, Option<&'a Value>>,
}

impl<'a> Side<'a> {
    fn of(shape: Shape, value: Option<&'a Value>) -> Self {
        let mut side = Side {
            order: Vec::new(),
            by_element: BTreeMap::new(),
        };
        for item in value.and_then(Value::as_array).into_iter().flatten() {
            if let Ok(element) = item_element(shape, item) {
                side.by_element
                    .entry(element.clone())
                    .and_modify(|shared| *shared = None)
                    .or_insert(Some(item));
                side.order.push((element, item));
            }
        }
        side
    }

    fn has(&self, element: &Element) -> bool {
        self.by_element.contains_key(element)
    }

    fn get(&self, element: &Element) -> Option<&'a Value> {
        self.by_element.get(element).copied().flatten()
    }
}

/// Items of `config` in its order, items of `live` alone staying where they were between shared ones.
fn items(
    place: Place,
    shape: Shape,
    live: Option<&Value>,
    config: Option<&Value>,
) -> Option<Value> {
    let live = Side::of(shape, live);
    let config = Side::of(shape, config);
    let mut shared = config
        .order
        .iter()
        .map(|(element, _)| element)
        .filter(|element| live.has(element));
    let mut next_shared = shared.next();
    let mut merged = std::collections::BTreeSet::new();
    let mut out = Vec::with_capacity(live.order.len().max(config.order.len()));
    let (mut at_live, mut at_config) = (0, 0);
    while at_live < live.order.len() || at_config < config.order.len() {
        let left = live.order.get(at_live);
        let right = config.order.get(at_config);
        if let (Some((l, _)), Some((r, _))) = (left, right) {
            if l == r {
                out.extend(node(place.item(), live.get(l), config.get(r)));
                merged.insert(r);
                at_live += 1;
                at_config += 1;
                next_shared = shared.next();
                continue;
            }
            if config.has(l) && next_shared.is_some_and(|next| next != l) {
                at_live += 1;
                continue;
            }
        }
        if let Some((l, item)) = left {
            if !config.has(l) {
                out.extend(node(place.item(), Some(item), None));
                at_live += 1;
                continue;
            }
            if merged.contains(l) || right.is_none() {
                at_live += 1;
            }
        }
        if let Some((r, _)) = right {
            out.extend(node(place.item(), live.get(r), config.get(r)));
            merged.insert(r);
            at_config += 1;
            if next_shared == Some(r) {
                next_shared = shared.next();
            }
        }
    }
    (!out.is_empty()).then_some(Value::Array(out))
}

/// A copy of `value` without the paths of `doomed`; what is left empty is null.
pub(super) fn remove(place: Place, value: &Value, doomed: &Set) -> Value {
    let shape = place.shape(value);
    match (shape, value) {
        (Shape::Scalar, _) => value.clone(),
        (Shape::Set | Shape::ListMap(..), Value::Array(list)) => {
            let kept: Vec<Value> = list
                .iter()
                .filter_map(|item| match item_element(shape, item) {
                    Ok(element) if doomed.members.contains(&element) => None,
                    Ok(element) => Some(match doomed.children.get(&element) {
                        Some(below) if !below.is_empty() => remove(place.item(), item, below),
                        _ => item.clone(),
                    }),
                    Err(_) => Some(item.clone()),
                })
                .collect();
            if kept.is_empty() {
                Value::Null
            } else {
                Value::Array(kept)
            }
        }
        (Shape::Struct(_) | Shape::Map(_), Value::Object(fields)) => {
            let kept: Map<String, Value> = fields
                .iter()
                .filter_map(|(name, value)| {
                    let element = Element::Field(name.clone());
                    if doomed.members.contains(&element) {
                        return None;
                    }
                    let place = shape.entry(name).unwrap_or(Place::Free);
                    let value = match doomed.children.get(&element) {
                        Some(below) if !below.is_empty() => remove(place, value, below),
                        _ => value.clone(),
                    };
                    Some((name.clone(), value))
                })
                .collect();
            if kept.is_empty() {
                Value::Null
            } else {
                Value::Object(kept)
            }
        }
        _ => Value::Null,
    }
}

/// Adds every struct field that has something below it, so that removing all of that removes the field.
pub(super) fn with_named_fields(place: Place, value: &Value, set: &Set) -> Set {
    let shape = place.shape(value);
    let mut out = Set {
        members: set.members.clone(),
        children: BTreeMap::new(),
    };
    for (element, child) in &set.children {
        let (below, value) = match element {
            Element::Field(name) => {
                let below = shape.entry(name).unwrap_or(Place::Free);
                if matches!((shape, below), (Shape::Struct(_), Place::Field(_))) {
                    out.members.insert(element.clone());
                }
                (below, value.get(name).unwrap_or(&Value::Null))
            }
            _ => (place.item(), &Value::Null),
        };
        out.children
            .insert(element.clone(), with_named_fields(below, value, child));
    }
    out
}
