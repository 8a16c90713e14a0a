//! The registry as a whole, and the kinds that are too small for tests of their own.

mod cluster;
mod data;
mod network;
mod registry;

use serde_json::{Value, json};

use super::*;
use crate::{field, meta};

/// An object of the kind as it is after decoding and defaulting, with a name and its namespace.
fn object(kind: &Kind, body: Value) -> Value {
    let decoded = crate::decode::json(kind, body.to_string().as_bytes());
    let mut object = decoded
        .map(|d| d.object)
        .unwrap_or_else(|e| panic!("{}", e.message));
    if meta::name(&object).is_empty() {
        meta::set(&mut object, "name", "a");
    }
    if kind.is_namespaced() {
        meta::set(&mut object, "namespace", "n");
    }
    meta::set(&mut object, "resourceVersion", "1");
    (kind.strategy.default)(&mut object);
    object
}

#[track_caller]
fn check(kind: &Kind, body: Value, expected: &[&str]) {
    let mut object = object(kind, body);
    kind.prepare_create(&mut object);
    let errors = kind.validate_create(&object);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, expected);
}

#[track_caller]
fn check_update(kind: &Kind, old: Value, new: Value, expected: &[&str]) {
    let (old, mut new) = (object(kind, old), object(kind, new));
    kind.prepare_update(&mut new, &old);
    let errors = kind.validate_update(&new, &old);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, expected);
}
