//! Which objects of a listing or a watch a client sees: namespace, name, labels, fields.

use std::sync::Arc;

use knarr_api::{
    kind::Kind,
    selector::{self, Fields, Labels},
    status::Status,
};

use super::{object, token::Place};
use crate::{
    request::{RequestInfo, options::ListOptions},
    storage::{Listing, Stored},
};

/// Everything that narrows down a collection.
#[derive(Clone)]
pub(crate) struct Selection {
    kind: &'static Kind,
    /// Empty for all.
    namespace: String,
    /// Set where one object is all that can match.
    name: Option<String>,
    labels: Labels,
    fields: Fields,
    fields_beyond_name: FieldsBeyondName,
}

/// Whether the field selector needs the parsed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldsBeyondName {
    None,
    Some,
}

impl Selection {
    pub(crate) fn new(
        kind: &'static Kind,
        info: &RequestInfo,
        options: &ListOptions,
    ) -> Result<Self, Status> {
        let labels = selector::labels(&options.label_selector)?;
        let fields = selector::fields(kind, &options.field_selector)?;
        let name = fields.required("metadata.name").map(str::to_owned);
        if !info.name.is_empty() && !fields.is_everything() && name.as_ref() != Some(&info.name) {
            let text = "fieldSelector metadata.name doesn't match requested name";
            return Err(Status::bad_request(text));
        }
        let only_name = name.as_ref().map(|name| format!("metadata.name={name}"));
        let fields_beyond_name =
            if fields.is_everything() || only_name.as_ref() == Some(&options.field_selector) {
                FieldsBeyondName::None
            } else {
                FieldsBeyondName::Some
            };
        let path_name = Some(info.name.clone()).filter(|name| !name.is_empty());
        let namespace = if kind.is_namespaced() {
            info.namespace.clone()
        } else {
            String::new()
        };
        Ok(Selection {
            kind,
            namespace,
            name: path_name.or(name),
            labels,
            fields,
            fields_beyond_name,
        })
    }

    /// Whether nothing but the namespace narrows the collection.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything() && self.name.is_none()
    }

    /// Empty for all.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn matches(&self, stored: &Stored) -> bool {
        self.in_place(stored) && self.has_properties(stored)
    }

    fn in_place(&self, stored: &Stored) -> bool {
        let key = &stored.key;
        let named = self.name.as_ref().is_none_or(|name| *name == key.name);
        named && (self.namespace.is_empty() || self.namespace == key.namespace)
    }

    fn has_properties(&self, stored: &Stored) -> bool {
        if !self.labels.is_everything() && !self.labels.matches_by(|key| stored.labels.get(key)) {
            return false;
        }
        match self.fields_beyond_name {
            FieldsBeyondName::None => true,
            FieldsBeyondName::Some => self.fields.matches(self.kind, &object(self.kind, stored)),
        }
    }

    /// What is selected of a listing, from `place` on.
    pub(super) fn choose(&self, listing: &Listing, place: Option<Place>) -> Vec<Arc<Stored>> {
        let from = |stored: &Stored| {
            place.as_ref().is_none_or(|place| {
                let Place { namespace, name } = place;
                (&stored.key.namespace, &stored.key.name) >= (namespace, name)
            })
        };
        let objects = listing.objects.iter();
        objects
            .filter(|stored| from(stored) && self.matches(stored))
            .cloned()
            .collect()
    }
}
