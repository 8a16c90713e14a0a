//! The last step of a write: into the store, and what came of it.

use std::sync::Arc;

use knarr_api::{kind::Kind, meta, status::Status};
use serde_json::Value;

use crate::{
    State, read,
    storage::{CommitError, Expect, Key, Stored, Write},
};

/// How a write ended.
#[derive(Debug)]
pub(crate) enum Written {
    Created(Arc<Stored>),
    Updated(Arc<Stored>),
    /// Would have been created.
    CreatedDry(Value),
    /// Would have been updated.
    UpdatedDry(Value),
    /// The update took the last thing that held up a deletion, and the object is gone.
    Removed(Value),
}

impl Written {
    /// The object as its kind shows it.
    pub(crate) fn object(self, kind: &Kind) -> Value {
        match self {
            Written::Created(stored) | Written::Updated(stored) => read::object(kind, &stored),
            Written::CreatedDry(mut object)
            | Written::UpdatedDry(mut object)
            | Written::Removed(mut object) => {
                read::hide(kind, &mut object);
                object
            }
        }
    }
}

/// How often a write that lost a race is tried again.
pub(super) const ATTEMPTS_MAX: usize = 100;

/// Commits and returns what became of the first object written.
pub(super) async fn commit(state: &State, writes: Vec<Write>) -> Result<Arc<Stored>, CommitError> {
    let mut stored = state.store.commit(writes).await?;
    if stored.is_empty() {
        return Err(CommitError::Closed);
    }
    Ok(stored.swap_remove(0))
}

/// The object as its stored kind keeps it.
pub(super) fn stored_form(kind: &Kind, mut object: Value) -> Value {
    if let Some(view) = &kind.view {
        (view.to_stored)(&mut object);
    }
    object
}

/// Changes a stored object in place, without validation, for what the server itself decides; races are run again.
///
/// `change` returns whether there is anything to write.
pub(crate) async fn mutate(
    state: &State,
    key: &Key,
    mut change: impl FnMut(&mut Value) -> Result<Changed, Status>,
) -> Result<Arc<Stored>, Status> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(stored) = state.store.get(key) else {
            return Err(Status::not_found(key.kind, &key.name));
        };
        let mut object = stored.object();
        match change(&mut object)? {
            Changed::No => return Ok(stored),
            Changed::Yes => {}
        }
        let put = Write::Put {
            key: key.clone(),
            expect: Expect::Revision(stored.revision),
            object,
        };
        match commit(state, vec![put]).await {
            Err(CommitError::Stale(_)) => {}
            Err(CommitError::Missing(_)) => return Err(Status::not_found(key.kind, &key.name)),
            Err(error) => return Err(error.status()),
            Ok(stored) => return Ok(stored),
        }
    }
    Err(CommitError::Stale(key.clone()).status())
}

/// Whether a change changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    No,
    Yes,
}

/// The 409 of a create that found an object, which may be on its way out.
pub(super) fn exists(kind: &Kind, stored: Option<&Stored>, name: &str) -> Status {
    let mut status = Status::already_exists(kind, name);
    let leaving = stored.is_some_and(|s| meta::deletion_timestamp(&s.object()).is_some());
    if leaving {
        status.message = format!("object is being deleted: {}", status.message);
    }
    status
}

/// Gives an object the revision it was read at, for answers that are not stored.
pub(super) fn with_revision(mut object: Value, stored: &Stored) -> Value {
    let revision = stored.revision.to_string();
    meta::set(&mut object, "resourceVersion", revision);
    object
}
