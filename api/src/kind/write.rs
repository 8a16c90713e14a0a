//! What happens to any object on its way into the store: the rules of all kinds around those of its own.

use serde_json::Value;

use super::{FinalizerNames, Generation, Kind, MetadataCheck};
use crate::{field, meta, names};

impl Kind {
    /// Readies a decoded and defaulted object for [`Kind::validate_create`].
    pub fn prepare_create(&self, object: &mut Value) {
        (self.strategy.prepare_create)(object);
        // Kinds without generations keep what a client makes up.
        if self.strategy.generation != Generation::None {
            meta::set(object, "generation", 1);
        }
    }

    /// Everything that is wrong with a new object, in Kubernetes' order.
    pub fn validate_create(&self, object: &Value) -> Vec<field::Error> {
        let mut errors = self.validate_metadata(object);
        errors.extend((self.strategy.validate_create)(object));
        errors
    }

    /// Restores what a client may not change; raises the generation where something of weight changed.
    pub fn prepare_update(&self, new: &mut Value, old: &Value) {
        meta::keep_server_fields(new, old);
        // A change of content counts even if all of it is dropped.
        let counts = self.strategy.generation == Generation::Content;
        let changed = counts && self.changes_generation(new, old);
        (self.strategy.prepare_update)(new, old);
        if changed || self.changes_generation(new, old) {
            meta::set(new, "generation", meta::generation(old) + 1);
        }
    }

    /// Everything that is wrong with an update; Kubernetes checks metadata more than once and lists its errors as often.
    pub fn validate_update(&self, new: &Value, old: &Value) -> Vec<field::Error> {
        let mut errors = self.validate_metadata_update(new, old);
        for check in self.strategy.metadata_checks {
            errors.extend(match check {
                MetadataCheck::Create => self.validate_metadata(new),
                MetadataCheck::Update => meta::validate_update(new, old),
            });
        }
        errors.extend((self.strategy.validate_update)(new, old));
        errors
    }

    /// As [`Kind::prepare_update`] for writes through `/status`.
    pub fn prepare_status(&self, new: &mut Value, old: &Value) {
        meta::keep_server_fields(new, old);
        (self.strategy.prepare_status)(new, old);
    }

    /// As [`Kind::validate_update`] for writes through `/status`.
    pub fn validate_status(&self, new: &Value, old: &Value) -> Vec<field::Error> {
        let mut errors = self.validate_metadata_update(new, old);
        errors.extend(meta::validate_update(new, old));
        errors.extend((self.strategy.validate_status)(new, old));
        errors
    }

    /// What is wrong with the metadata of a new object, or of the new state of one.
    pub fn validate_metadata(&self, object: &Value) -> Vec<field::Error> {
        let mut errors = meta::validate(object, self.scope, self.strategy.validate_name);
        if self.strategy.finalizer_names == FinalizerNames::StandardOrPrefixed {
            errors.extend(meta::validate_finalizer_prefixes(object));
        }
        errors
    }

    /// What the update of any kind of object must keep, for subresources that are written in ways of their own.
    pub fn validate_metadata_update(&self, new: &Value, old: &Value) -> Vec<field::Error> {
        let mut errors = meta::validate(new, self.scope, names::path_segment);
        errors.extend(meta::validate_update(new, old));
        errors
    }

    fn changes_generation(&self, new: &Value, old: &Value) -> bool {
        let content = |object: &Value| {
            let mut content = object.clone();
            if let Some(fields) = content.as_object_mut() {
                fields.retain(|field, _| field != "metadata" && field != "status");
            }
            content
        };
        match self.strategy.generation {
            Generation::None => false,
            Generation::Spec => new["spec"] != old["spec"],
            Generation::SpecAndAnnotations => {
                new["spec"] != old["spec"] || meta::annotations(new) != meta::annotations(old)
            }
            Generation::Content => {
                content(new) != content(old) || meta::labels(new) != meta::labels(old)
            }
        }
    }
}
