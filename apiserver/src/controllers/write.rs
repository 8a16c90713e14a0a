//! Writes a plan asks for, and the one way to perform them: a request to the API.

use std::sync::Arc;

use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::Request;
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};

use super::store::{Key, Object};

/// The field manager that Kubernetes' controllers write as.
pub(super) const FIELD_MANAGER: &str = "kube-controller-manager";

/// One request of a plan. Whatever it depends on is in it, so that performing it makes no choice.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write<K> {
    Create(K),
    Replace(K),
    ReplaceStatus(K),
    Merge {
        key: Key,
        patch: Value,
    },
    MergeStatus {
        key: Key,
        patch: Value,
    },
    /// Removes the object without waiting for anyone to end it.
    Remove {
        key: Key,
        uid: String,
    },
    /// Deletes the object only if it is still the one planned for.
    Delete {
        key: Key,
        uid: String,
        propagation: Propagation,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Propagation {
    /// The kind's own default.
    Default,
    Background,
    Foreground,
    Orphan,
}

impl<K: Object> Write<K> {
    pub(super) fn delete(object: &K) -> Write<K> {
        Write::Delete {
            key: Key::of(object),
            uid: object.uid().unwrap_or_default(),
            propagation: Propagation::Default,
        }
    }

    pub(super) fn remove(object: &K) -> Write<K> {
        Write::Remove {
            key: Key::of(object),
            uid: object.uid().unwrap_or_default(),
        }
    }

    /// A merge patch of an object, refused if the object is another one by then.
    pub(super) fn merge(object: &K, mut patch: Value) -> Write<K> {
        patch["metadata"]["uid"] = json!(object.meta().uid);
        Write::Merge {
            key: Key::of(object),
            patch,
        }
    }
}

/// A request the API server refused or did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {kind} {key}: {}", reason(source))]
pub(super) struct Error {
    verb: &'static str,
    kind: String,
    key: Key,
    pub(super) source: Box<kube::Error>,
}

impl Error {
    pub(super) fn is_conflict(&self) -> bool {
        matches!(&*self.source, kube::Error::Api(status) if status.is_conflict())
    }

    pub(super) fn is_already_exists(&self) -> bool {
        matches!(&*self.source, kube::Error::Api(status) if status.is_already_exists())
    }

    pub(super) fn is_not_found(&self) -> bool {
        matches!(&*self.source, kube::Error::Api(status) if status.is_not_found())
    }

    /// The refusal of a create because the namespace is going away.
    pub(super) fn is_namespace_terminating(&self) -> bool {
        let kube::Error::Api(status) = &*self.source else {
            return false;
        };
        let details = status.details.as_ref();
        details.is_some_and(|details| {
            details
                .causes
                .iter()
                .any(|cause| cause.reason == "NamespaceTerminating")
        })
    }

    /// What the server said, as Kubernetes quotes it in events.
    pub(super) fn message(&self) -> String {
        reason(&self.source)
    }
}

fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Performs `write`, and returns the object unless it is gone.
///
/// Deleting what is gone already succeeds.
pub(super) async fn perform<K: Object>(
    client: &Client,
    write: Write<K>,
) -> Result<Option<Arc<K>>, Error> {
    let (verb, key, request) = match write {
        Write::Create(object) => {
            let key = Key::of(&object);
            let path = resource::<K>(&key.namespace);
            let request = body(&object).and_then(|body| built(path.create(&post(), body)));
            ("create", key, request)
        }
        Write::Replace(object) => {
            let key = Key::of(&object);
            let path = resource::<K>(&key.namespace);
            let request =
                body(&object).and_then(|body| built(path.replace(&key.name, &post(), body)));
            ("update", key, request)
        }
        Write::ReplaceStatus(object) => {
            let key = Key::of(&object);
            let path = resource::<K>(&key.namespace);
            let request = body(&object).and_then(|body| {
                built(path.replace_subresource("status", &key.name, &post(), body))
            });
            ("update the status of", key, request)
        }
        Write::Merge { key, patch } => {
            let path = resource::<K>(&key.namespace);
            let request = built(path.patch(&key.name, &patching(), &Patch::Merge(patch)));
            ("patch", key, request)
        }
        Write::MergeStatus { key, patch } => {
            let path = resource::<K>(&key.namespace);
            let patch = Patch::Merge(patch);
            let request = built(path.patch_subresource("status", &key.name, &patching(), &patch));
            ("patch the status of", key, request)
        }
        Write::Delete {
            key,
            uid,
            propagation,
        } => {
            let params = delete_params(&uid, propagation);
            return delete(client, key, &params).await;
        }
        Write::Remove { key, uid } => {
            let params = delete_params(&uid, Propagation::Default).grace_period(0);
            return delete(client, key, &params).await;
        }
    };
    let answer = match request {
        Ok(request) => knarr_client::request(client, request).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(object) => Ok(Some(Arc::new(object))),
        Err(source) => Err(failure::<K>(verb, key, source)),
    }
}

type Built = Result<http::Request<Vec<u8>>, kube::Error>;

fn body<K: Object>(object: &K) -> Result<Vec<u8>, kube::Error> {
    serde_json::to_vec(object).map_err(kube::Error::SerdeError)
}

fn built(request: Result<http::Request<Vec<u8>>, kube::core::request::Error>) -> Built {
    request.map_err(kube::Error::BuildRequest)
}

/// Performs all writes at once; the first error is returned after every one has been tried.
pub(super) async fn perform_all<K: Object>(
    client: &Client,
    writes: Vec<Write<K>>,
) -> Result<(), Error> {
    let outcomes = writes.into_iter().map(|write| perform(client, write));
    let outcomes = futures_util::future::join_all(outcomes).await;
    outcomes
        .into_iter()
        .try_for_each(|outcome| outcome.map(|_| ()))
}

async fn delete<K: Object>(
    client: &Client,
    key: Key,
    params: &DeleteParams,
) -> Result<Option<Arc<K>>, Error> {
    let request = resource::<K>(&key.namespace).delete(&key.name, params);
    let answer = match request {
        Ok(request) => client.request::<Value>(request).await,
        Err(error) => Err(kube::Error::BuildRequest(error)),
    };
    match answer {
        Ok(answer) => Ok(still_there::<K>(answer).map(Arc::new)),
        Err(source) => {
            let error = failure::<K>("delete", key, source);
            // A conflict means that the object of this uid is gone and its name taken again.
            if error.is_not_found() || error.is_conflict() {
                return Ok(None);
            }
            Err(error)
        }
    }
}

/// The object that a DELETE only marked; `None` when it is gone.
fn still_there<K: Object>(answer: Value) -> Option<K> {
    let marked = &answer["metadata"]["deletionTimestamp"];
    if answer["kind"] == "Status" || marked.is_null() {
        return None;
    }
    let no_finalizers = answer["metadata"]["finalizers"]
        .as_array()
        .is_none_or(Vec::is_empty);
    let grace = answer["metadata"]["deletionGracePeriodSeconds"].as_i64();
    if no_finalizers && grace.unwrap_or(0) == 0 {
        return None;
    }
    serde_json::from_value(answer).ok()
}

pub(super) fn delete_params(uid: &str, propagation: Propagation) -> DeleteParams {
    DeleteParams {
        propagation_policy: match propagation {
            Propagation::Default => None,
            Propagation::Background => Some(PropagationPolicy::Background),
            Propagation::Foreground => Some(PropagationPolicy::Foreground),
            Propagation::Orphan => Some(PropagationPolicy::Orphan),
        },
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

pub(super) fn failure<K: Object>(verb: &'static str, key: Key, source: kube::Error) -> Error {
    Error {
        verb,
        kind: K::kind(&()).into_owned(),
        key,
        source: Box::new(source),
    }
}

/// The collection's path; an empty namespace stands for cluster scope.
pub(super) fn resource<K: Resource<DynamicType = ()>>(namespace: &str) -> Request {
    let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
    Request::new(K::url_path(&(), namespace))
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn patching() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}
