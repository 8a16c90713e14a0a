//! Deletion: at once, after a grace period, or when the last finalizer goes. Dependents are the garbage collector's business.

mod collection;
mod finalizers;
mod mark;

use std::sync::Arc;

use http::StatusCode;
use knarr_api::{
    decode::Target,
    kind::Kind,
    meta,
    status::{Details, Status},
};
use serde_json::Value;

pub(crate) use collection::collection;

use crate::{
    State,
    call::Call,
    read,
    request::{
        body,
        options::{DeleteOptions, DryRun, Preconditions},
    },
    respond::Reply,
    storage::{CommitError, Expect, Key, Stored, Write},
    write,
};

use mark::Step;

/// How a deletion ended.
#[derive(Debug)]
pub(crate) enum Deleted {
    /// The object is gone; this was its last state.
    Gone(Arc<Stored>),
    /// It stays until a grace period or a finalizer is over.
    Marked(Arc<Stored>),
    /// Nothing happened; the object as it would have been.
    Dry(Value),
}

/// DELETE of one object.
pub(crate) async fn object(call: &mut Call, kind: &'static Kind) -> Result<Reply, Status> {
    call.check_writable_place(kind)?;
    let options = options(call).await?;
    if let Some(text) = finalizers::orphaning_warning(kind, &options) {
        call.warn(text);
    }
    let key = read::key(call, kind);
    match delete(&call.state, kind, &key, &options).await? {
        Deleted::Gone(stored) => gone(call, kind, &stored, StatusCode::OK),
        Deleted::Marked(stored) => {
            // Kubernetes answers 202 only to the old way of asking for foreground deletion.
            let accepted = options.orphan_dependents == Some(false);
            let code = if accepted {
                StatusCode::ACCEPTED
            } else {
                StatusCode::OK
            };
            read::reply(call, kind, &stored, code)
        }
        Deleted::Dry(object) if kind.strategy.returns_deleted_object => {
            read::shown(call, kind, object, StatusCode::OK)
        }
        Deleted::Dry(object) => Ok(Reply::status(success(kind, &key.name, meta::uid(&object)))),
    }
}

/// Options from the body if there is one, else from the query.
pub(crate) async fn options(call: &mut Call) -> Result<DeleteOptions, Status> {
    let bytes = call.read_body().await?;
    if bytes.is_empty() {
        return DeleteOptions::from_query(&call.query);
    }
    let target = Target {
        group: "",
        version: "v1",
        kind: "DeleteOptions",
    };
    let body = body::value(target, call.content_type(), &bytes);
    DeleteOptions::from_body(&body.map_err(without_type)?)
}

/// Of options that cannot be decoded Kubernetes says why, and not what they were read as.
fn without_type(mut status: Status) -> Status {
    let cause = status
        .message
        .split_once(" cannot be handled as a DeleteOptions: ");
    if let Some((_, cause)) = cause {
        status.message = cause.to_owned();
    }
    status
}

fn gone(
    call: &Call,
    kind: &'static Kind,
    stored: &Stored,
    code: StatusCode,
) -> Result<Reply, Status> {
    if kind.strategy.returns_deleted_object {
        return read::reply(call, kind, stored, code);
    }
    Ok(Reply::status(success(kind, &stored.key.name, &stored.uid)))
}

fn success(kind: &Kind, name: &str, uid: &str) -> Status {
    Status::success(Details {
        name: name.into(),
        group: kind.group.into(),
        kind: kind.plural.into(),
        uid: uid.into(),
        ..Details::default()
    })
}

/// How often a deletion that lost a race is tried again.
const ATTEMPTS_MAX: usize = 100;

/// Deletes an object, or sets out to.
pub(crate) async fn delete(
    state: &State,
    kind: &'static Kind,
    key: &Key,
    options: &DeleteOptions,
) -> Result<Deleted, Status> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(stored) = state.store.get(key) else {
            return Err(Status::not_found(kind, &key.name));
        };
        match attempt(state, kind, key, &stored, options).await? {
            Some(deleted) => return Ok(deleted),
            None => tokio::task::yield_now().await,
        }
    }
    Err(CommitError::Stale(key.clone()).status())
}

/// `None` if another write came first.
async fn attempt(
    state: &State,
    kind: &'static Kind,
    key: &Key,
    stored: &Arc<Stored>,
    options: &DeleteOptions,
) -> Result<Option<Deleted>, Status> {
    let mut object = stored.object();
    check_protected(kind, &key.name)?;
    check_preconditions(kind, &object, options)?;
    let step = mark::step(kind, &mut object, options);
    if options.dry_run == DryRun::All {
        return Ok(Some(Deleted::Dry(object)));
    }
    match step {
        Step::Pending => Ok(Some(Deleted::Marked(stored.clone()))),
        Step::Remove => {
            raced(write::finish_deletion(state, key, stored).await).map(|s| s.map(Deleted::Gone))
        }
        Step::Mark => raced(put(state, key, stored, object).await).map(|s| s.map(Deleted::Marked)),
        Step::MarkAndRemove => {
            let Some(marked) = raced(put(state, key, stored, object).await)? else {
                return Ok(None);
            };
            // Whoever removes the object between the two writes has done what was asked.
            let removed = match write::finish_deletion(state, key, &marked).await {
                Err(CommitError::Missing(_)) => Ok(marked),
                outcome => outcome,
            };
            raced(removed).map(|s| s.map(Deleted::Gone))
        }
    }
}

/// A write that lost a race is no error, but to be run again.
fn raced(outcome: Result<Arc<Stored>, CommitError>) -> Result<Option<Arc<Stored>>, Status> {
    match outcome {
        Ok(stored) => Ok(Some(stored)),
        Err(CommitError::Stale(_) | CommitError::Missing(_)) => Ok(None),
        Err(error) => Err(error.status()),
    }
}

async fn put(
    state: &State,
    key: &Key,
    stored: &Stored,
    object: Value,
) -> Result<Arc<Stored>, CommitError> {
    let put = Write::Put {
        key: key.clone(),
        expect: Expect::Revision(stored.revision),
        object,
    };
    first(state.store.commit(vec![put]).await)
}

fn first(stored: Result<Vec<Arc<Stored>>, CommitError>) -> Result<Arc<Stored>, CommitError> {
    let mut stored = stored?;
    if stored.is_empty() {
        return Err(CommitError::Closed);
    }
    Ok(stored.swap_remove(0))
}

/// The namespaces that Kubernetes itself lives in stay.
fn check_protected(kind: &Kind, name: &str) -> Result<(), Status> {
    let protected = ["default", "kube-system", "kube-public"];
    if kind.group.is_empty() && kind.kind == "Namespace" && protected.contains(&name) {
        return Err(Status::forbidden(
            kind,
            name,
            "this namespace may not be deleted",
        ));
    }
    Ok(())
}

/// Namespaces are deleted by code of their own, which has words of its own.
fn check_preconditions_of_namespace(
    kind: &Kind,
    object: &Value,
    wanted: &Preconditions,
) -> Result<(), Status> {
    let checks = [
        ("UID", &wanted.uid, meta::uid(object)),
        (
            "ResourceVersion",
            &wanted.resource_version,
            meta::resource_version(object),
        ),
    ];
    for (what, wanted, found) in checks {
        let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) else {
            continue;
        };
        let detail = format!(
            "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
        );
        return Err(Status::conflict(kind, meta::name(object), &detail));
    }
    Ok(())
}

/// 409 for an object that is not the one the client meant.
pub(crate) fn check_preconditions(
    kind: &Kind,
    object: &Value,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let DeleteOptions { preconditions, .. } = options;
    if kind.has_subresource("finalize") {
        return check_preconditions_of_namespace(kind, object, preconditions);
    }
    let detail = match (&preconditions.uid, &preconditions.resource_version) {
        (Some(wanted), _) if wanted != meta::uid(object) => format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({}). \
             The object might have been deleted and then recreated",
            meta::uid(object)
        ),
        (_, Some(wanted)) if wanted != meta::resource_version(object) => format!(
            "the ResourceVersion in the precondition ({wanted}) does not match \
             the ResourceVersion in record ({}). The object might have been modified",
            meta::resource_version(object)
        ),
        _ => return Ok(()),
    };
    let name = meta::name(object);
    // Kubernetes names the kind here, where other conflicts name the resource.
    let resource = kind.group_kind();
    let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {detail}");
    Err(
        Status::failure(409, "Conflict", message).with_details(Details {
            name: name.into(),
            group: kind.group.into(),
            kind: kind.kind.into(),
            ..Details::default()
        }),
    )
}
