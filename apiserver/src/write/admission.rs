//! Admission that needs to know other objects: namespaces that are missing or on their way out.

use knarr_api::{
    kinds::{Kind, namespace::NAMESPACE},
    meta,
    status::{Cause, Status},
};
use serde_json::Value;

use crate::{State, storage::Key};

/// Nothing is created in a namespace that is missing or terminating.
pub(super) fn admit_create(state: &State, kind: &Kind, object: &Value) -> Result<(), Status> {
    if !kind.is_namespaced() {
        return Ok(());
    }
    let namespace = meta::namespace(object);
    let key = Key::new(&NAMESPACE, "", namespace);
    let Some(stored) = state.store.get(&key) else {
        return Err(Status::not_found(&NAMESPACE, namespace));
    };
    let stored = stored.object();
    if meta::deletion_timestamp(&stored).is_none() && stored["status"]["phase"] != "Terminating" {
        return Ok(());
    }
    let detail = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut status = Status::forbidden(kind, meta::name(object), &detail);
    if let Some(details) = &mut status.details {
        details.causes = vec![Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        }];
    }
    Err(status)
}
