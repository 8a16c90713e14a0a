//! From an object and its new state to the stored one: for PUT, every patch, and the parts of an object.

use std::sync::Arc;

use knarr_api::{
    apply,
    field::{Error, Path},
    kinds::{endpoints::ENDPOINTS, namespace, pod::update as pod, service::SERVICE},
    meta,
    status::Status,
};
use serde_json::Value;

use super::{
    Part, Writer, Written, admission, allocation, commit, identity, refuse_invalid, restriction,
};
use crate::{
    State, read,
    request::options::DryRun,
    respond,
    storage::{CommitError, Expect, Key, Stored, Write},
};

/// What a caller makes of the object that is there, or of there being none.
pub(crate) enum Proposal {
    /// managedFields are still to be brought up to date.
    Untracked(Value),
    Tracked(Value),
}

/// How one attempt ended.
enum Attempt {
    Done(Written),
    /// Another write came first.
    Lost,
}

impl Writer<'_> {
    /// Replaces an object, or creates it where its kind allows.
    pub(super) async fn put(&mut self, name: &str, object: Value) -> Result<Written, Status> {
        let kind = self.kind;
        self.replace(name, move |old| {
            let Some(old) = old else {
                check_uid(kind, &object, &Value::Null)?;
                if !kind.strategy.create_on_update {
                    return Err(Status::not_found(kind, meta::name(&object)));
                }
                return Ok(Proposal::Untracked(object.clone()));
            };
            check_uid(kind, &object, old)?;
            Ok(Proposal::Untracked(object.clone()))
        })
        .await
    }

    /// Asks `propose` for the new state until it is stored or refused.
    pub(crate) async fn replace(
        &mut self,
        name: &str,
        mut propose: impl FnMut(Option<&Value>) -> Result<Proposal, Status>,
    ) -> Result<Written, Status> {
        let key = Key::new(self.kind.stored(), self.namespace, name);
        for _ in 0..commit::ATTEMPTS_MAX {
            let warnings = self.warnings.len();
            let attempt = match self.state.store.get(&key) {
                None => self.create_proposed(propose(None)?).await?,
                Some(stored) => {
                    let old = read::whole(self.kind, &stored);
                    let proposal = propose(Some(&old))?;
                    self.try_update(&key, &stored, old, proposal).await?
                }
            };
            match attempt {
                Attempt::Done(written) => return Ok(written),
                Attempt::Lost => self.warnings.truncate(warnings),
            }
        }
        Err(CommitError::Stale(key).status())
    }

    async fn create_proposed(&mut self, proposal: Proposal) -> Result<Attempt, Status> {
        let outcome = match proposal {
            Proposal::Untracked(object) => self.create_named(object).await,
            Proposal::Tracked(object) => self.create_tracked(object).await,
        };
        match outcome {
            Err(status) if status.reason == "AlreadyExists" => Ok(Attempt::Lost),
            outcome => outcome.map(Attempt::Done),
        }
    }

    async fn try_update(
        &mut self,
        key: &Key,
        stored: &Arc<Stored>,
        old: Value,
        proposal: Proposal,
    ) -> Result<Attempt, Status> {
        let kind = self.kind;
        let mut new = match proposal {
            Proposal::Tracked(new) => new,
            Proposal::Untracked(mut new) => {
                identity::drop_duplicate_owners(&mut new, &mut self.warnings);
                self.track(Some(&old), &mut new);
                new
            }
        };
        if self.part == Part::Object {
            admission::readmit(kind, &mut new, &old);
        }
        self.check_version(key, &mut new, &old)?;
        restriction::check_update(self.user, kind, &new, &old)?;
        self.state
            .authorizer
            .check_grant(self.user, kind, &new, Some(&old))?;
        let claims = match self.part {
            Part::Object => allocation::for_update(self.state, kind, &mut new, &old, self.dry_run)?,
            Part::Status | Part::Finalizers | Part::Scale | Part::Resize => Vec::new(),
        };
        self.prepare(&mut new, &old);
        refuse_invalid(kind, &new, &self.problems(&new, &old))?;
        self.warnings.extend(match self.part {
            Part::Status => (kind.strategy.status_warnings)(&new, &old),
            Part::Object | Part::Finalizers | Part::Scale | Part::Resize => {
                (kind.strategy.warnings)(&new, Some(&old))
            }
        });
        if is_last_obstacle_gone(&new, &old) {
            return self.remove(key, stored, new).await;
        }
        apply::settle_times(&old, &mut new);
        if new == old {
            return Ok(Attempt::Done(Written::Updated(stored.clone())));
        }
        if self.dry_run == DryRun::All {
            let object = commit::with_revision(new, stored);
            return Ok(Attempt::Done(Written::UpdatedDry(object)));
        }
        let put = Write::Put {
            key: key.clone(),
            expect: Expect::Revision(stored.revision),
            object: commit::stored_form(kind, new),
        };
        let writes = std::iter::once(put).chain(claims).collect();
        match commit::commit(self.state, writes).await {
            Ok(stored) => Ok(Attempt::Done(Written::Updated(stored))),
            Err(
                CommitError::Stale(_)
                | CommitError::Missing(_)
                | CommitError::Claimed(_)
                | CommitError::Exists(_),
            ) => Ok(Attempt::Lost),
            Err(error) => Err(error.status()),
        }
    }

    /// A resourceVersion that is not the stored one is a conflict; none means any, where the kind allows.
    fn check_version(&self, key: &Key, new: &mut Value, old: &Value) -> Result<(), Status> {
        let current = meta::resource_version(old);
        let given = meta::resource_version(new);
        identity::parse_version(given).map_err(respond::unclassified)?;
        match given {
            "" | "0" if self.kind.strategy.unconditional_update => {
                meta::set(new, "resourceVersion", current);
                Ok(())
            }
            "" | "0" => {
                let path = Path::new("metadata").child("resourceVersion");
                let error = Error::invalid(&path, 0, "must be specified for an update");
                // Kubernetes names the resource here, where other errors of fields name the kind.
                let resource = self.kind.group_resource();
                Err(Status::invalid_kind(&resource, &key.name, &[error]))
            }
            given if given == current => Ok(()),
            _ => Err(CommitError::Stale(Key {
                kind: self.kind,
                ..key.clone()
            })
            .status()),
        }
    }

    fn prepare(&self, new: &mut Value, old: &Value) {
        match self.part {
            Part::Object | Part::Scale => self.kind.prepare_update(new, old),
            Part::Resize => pod::prepare_resize(new, old),
            Part::Status => self.kind.prepare_status(new, old),
            Part::Finalizers => {
                let finalizers = new["spec"]["finalizers"].take();
                *new = keep_all_but_metadata(new.take(), old);
                if finalizers.is_null() {
                    if let Some(spec) = new["spec"].as_object_mut() {
                        spec.remove("finalizers");
                    }
                } else {
                    new["spec"]["finalizers"] = finalizers;
                }
                meta::keep_server_fields(new, old);
            }
        }
    }

    fn problems(&self, new: &Value, old: &Value) -> Vec<Error> {
        match self.part {
            Part::Object | Part::Scale => self.kind.validate_update(new, old),
            Part::Resize => pod::validate_resize(new, old),
            Part::Status => self.kind.validate_status(new, old),
            Part::Finalizers => namespace::validate_finalize(new, old),
        }
    }

    /// Finishes a deletion that only waited for this update.
    async fn remove(&self, key: &Key, stored: &Arc<Stored>, new: Value) -> Result<Attempt, Status> {
        let object = commit::with_revision(new, stored);
        if self.dry_run == DryRun::All {
            return Ok(Attempt::Done(Written::UpdatedDry(object)));
        }
        match finish_deletion(self.state, key, stored).await {
            Ok(_) => Ok(Attempt::Done(Written::Removed(object))),
            Err(CommitError::Stale(_) | CommitError::Missing(_)) => Ok(Attempt::Lost),
            Err(error) => Err(error.status()),
        }
    }
}

/// Takes an object out of the store with all it held, and the Endpoints of a Service with it.
pub(crate) async fn finish_deletion(
    state: &State,
    key: &Key,
    stored: &Stored,
) -> Result<Arc<Stored>, CommitError> {
    let delete = Write::Delete {
        key: key.clone(),
        expect: Expect::Revision(stored.revision),
    };
    let released = allocation::releases(state, key.kind, &stored.object());
    let writes = std::iter::once(delete).chain(released).collect();
    let removed = commit::commit(state, writes).await?;
    if std::ptr::eq(key.kind, &SERVICE) {
        let endpoints = Write::Delete {
            key: Key::new(&ENDPOINTS, key.namespace.as_str(), key.name.as_str()),
            expect: Expect::Any,
        };
        match state.store.commit(vec![endpoints]).await {
            Ok(_) | Err(CommitError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

/// Metadata from `new`, everything else from `old`.
fn keep_all_but_metadata(mut new: Value, old: &Value) -> Value {
    let mut kept = old.clone();
    kept["metadata"] = new["metadata"].take();
    kept
}

/// A deleted object goes when its last finalizer does, unless its grace period is still running.
fn is_last_obstacle_gone(new: &Value, old: &Value) -> bool {
    let grace = old["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let spec_finalizers = new.pointer("/spec/finalizers").and_then(Value::as_array);
    meta::deletion_timestamp(old).is_some()
        && meta::finalizers(new).is_empty()
        && spec_finalizers.is_none_or(Vec::is_empty)
        && grace.unwrap_or(0) == 0
}

/// A uid in the body is a precondition, which no object that is missing meets.
pub(crate) fn check_uid(
    kind: &knarr_api::kind::Kind,
    new: &Value,
    old: &Value,
) -> Result<(), Status> {
    let (given, current) = (meta::uid(new), meta::uid(old));
    if given.is_empty() || given == current {
        return Ok(());
    }
    let name = meta::name(new);
    let place = [registry_folder(kind), meta::namespace(new), name];
    let place: Vec<&str> = place.into_iter().filter(|part| !part.is_empty()).collect();
    let detail = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{}, ResourceVersion: 0, \
         AdditionalErrorMsg: Precondition failed: UID in precondition: {given}, UID in object meta: {current}",
        place.join("/")
    );
    Err(Status::conflict(kind, name, &detail))
}

/// Where Kubernetes keeps objects of a kind in etcd, as its errors say.
fn registry_folder(kind: &knarr_api::kind::Kind) -> &'static str {
    match kind.plural {
        "services" => "services/specs",
        "endpoints" => "services/endpoints",
        "nodes" => "minions",
        plural => plural,
    }
}
