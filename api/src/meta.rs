//! Object metadata: reading it, writing it, and making up names.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

mod validate;

pub use validate::{
    IMMUTABLE, complaints, immutable, validate_field_manager, validate_finalizer_prefix,
    validate_label_key, validate_labels, validate_update,
};
pub(crate) use validate::{validate, validate_finalizer_prefixes};

use crate::value::{fields_mut, items, put, str_of, texts};

/// Where objects of a kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// The characters of generated names: no vowels, nothing easily confused.
pub const GENERATED_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const GENERATED_SUFFIX_LENGTH: usize = 5;
const GENERATED_NAME_LENGTH_MAX: usize = 63;

pub fn name(object: &Value) -> &str {
    text(object, "name")
}

pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}

pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

pub fn creation_timestamp(object: &Value) -> &str {
    text(object, "creationTimestamp")
}

pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    object["metadata"]["deletionTimestamp"].as_str()
}

pub fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or(0)
}

pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    object["metadata"]["labels"].as_object()
}

pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    object["metadata"]["annotations"].as_object()
}

/// The value of one annotation, empty when there is none.
pub fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["annotations"][key]
        .as_str()
        .unwrap_or_default()
}

pub fn finalizers(object: &Value) -> Vec<&str> {
    texts(&object["metadata"]["finalizers"])
}

pub fn owner_references(object: &Value) -> &[Value] {
    items(&object["metadata"]["ownerReferences"])
}

/// What chance adds to a generated name.
pub type Random = [u8; GENERATED_SUFFIX_LENGTH];

/// Appends five characters chosen by `random`, as the API server does for `generateName`.
pub fn generated_name(base: &str, random: Random) -> String {
    let mut end = base
        .len()
        .min(GENERATED_NAME_LENGTH_MAX - GENERATED_SUFFIX_LENGTH);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let alphabet = GENERATED_ALPHABET;
    let suffix = random.map(|byte| char::from(alphabet[usize::from(byte) % alphabet.len()]));
    base[..end].chars().chain(suffix).collect()
}

/// Takes back from `old` what no update may change or leave out: uid, times, generation.
pub fn keep_server_fields(new: &mut Value, old: &Value) {
    let before = &old["metadata"];
    keep(new, before, "generation");
    if uid(new).is_empty() {
        keep(new, before, "uid");
    }
    for field in ["creationTimestamp", "deletionTimestamp"] {
        if !before[field].is_null() {
            keep(new, before, field);
        }
    }
    if new["metadata"]["deletionGracePeriodSeconds"].is_null() {
        keep(new, before, "deletionGracePeriodSeconds");
    }
}

/// Takes back all metadata that users write, for kinds whose `/status` may not change it.
pub fn restore_for_status(new: &mut Value, old: &Value) {
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        keep(new, &old["metadata"], field);
    }
}

/// Sets one metadata field, or removes it where the value is null.
pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    put(fields_mut(object, "metadata"), field, value.into());
}

fn keep(new: &mut Value, before: &Value, field: &str) {
    set(new, field, before[field].clone());
}

/// Labels as plain texts, for selectors and messages.
pub fn label_texts(object: &Value) -> BTreeMap<&str, &str> {
    labels(object)
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), str_of(value)))
        .collect()
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    str_of(&object["metadata"][field])
}

#[cfg(test)]
mod tests;
