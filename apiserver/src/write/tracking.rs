//! Ownership of fields: brings managedFields up to date for writes that are no apply.

use knarr_api::{
    apply::{self, Manager},
    kinds::pod::update as pod,
    meta,
};
use serde_json::Value;

use super::{Part, Writer};

use crate::clock;

impl Writer<'_> {
    /// Who writes, and when.
    pub(super) fn with_manager<R>(&self, act: impl FnOnce(&Manager<'_>) -> R) -> R {
        let time = clock::now();
        act(&Manager {
            name: self.manager,
            subresource: self.part.name(),
            time: &time,
        })
    }

    /// Records who owns what changed from `old` to `new`, leaving out what this request cannot change.
    pub(super) fn track(&self, old: Option<&Value>, new: &mut Value) {
        let Some(old) = old else {
            return self.track_new(new);
        };
        let mut tracked = new.clone();
        self.reset_foreign_parts(Some(old), &mut tracked);
        self.with_manager(|manager| {
            apply::track_update(self.kind, Some(old), &mut tracked, manager);
        });
        take_managed_fields(tracked, new);
    }

    /// As [`Writer::track`] of an object that was not there; of other parts only a status can be in its way.
    fn track_new(&self, new: &mut Value) {
        let status = match new.as_object_mut() {
            Some(fields) if self.kind.has_subresource("status") => fields.remove("status"),
            _ => None,
        };
        self.with_manager(|manager| apply::track_update(self.kind, None, new, manager));
        if let Some(status) = status {
            new["status"] = status;
        }
    }

    /// Puts back what another part of the object owns, so that it is no change of this request's.
    pub(super) fn reset_foreign_parts(&self, old: Option<&Value>, new: &mut Value) {
        let Some(fields) = new.as_object_mut() else {
            return;
        };
        match self.part {
            Part::Object if self.kind.has_subresource("status") => {
                match old.and_then(|old| old.get("status")) {
                    Some(status) => fields.insert("status".into(), status.clone()),
                    None => fields.remove("status"),
                };
            }
            Part::Status => {
                let own = ["apiVersion", "kind", "metadata", "status"];
                fields.retain(|name, _| own.contains(&name.as_str()));
                for (name, value) in old.and_then(Value::as_object).into_iter().flatten() {
                    if !own.contains(&name.as_str()) {
                        fields.insert(name.clone(), value.clone());
                    }
                }
            }
            Part::Resize => {
                if let Some(old) = old {
                    pod::prepare_resize(new, old);
                }
            }
            Part::Object | Part::Finalizers | Part::Scale => {}
        }
    }
}

fn take_managed_fields(mut tracked: Value, new: &mut Value) {
    let managed = tracked.pointer_mut("/metadata/managedFields");
    let managed = managed.map(Value::take).unwrap_or_default();
    meta::set(new, "managedFields", managed);
}
