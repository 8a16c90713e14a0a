//! Create, update and patch: one path for every kind, driven by its registry row.
//!
//! The order is Kubernetes': decode, default, admit, allocate, prepare, validate, store. An allocation that fails is reported
//! alone, before validation; what was allocated is committed together with the object or not at all.

mod admission;
mod allocation;
mod commit;
mod create;
mod identity;
mod metadata;
mod patch;
mod restriction;
mod tracking;
mod update;

use http::StatusCode;
use knarr_api::{kind::Kind, status::Status};
use serde_json::Value;

pub(crate) use commit::{Changed, Written, mutate};
pub(crate) use identity::{check_name, check_namespace};
pub(crate) use patch::{Patch, patch};
pub(crate) use update::{Proposal, check_uid, finish_deletion};

use crate::{
    State, User,
    call::Call,
    read,
    request::{
        body,
        options::{DryRun, WriteOptions},
    },
    respond::Reply,
};

/// The part of an object that a request may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but what other parts own.
    Object,
    Status,
    /// A namespace's `spec.finalizers`.
    Finalizers,
    /// `spec.replicas`, through a Scale; the rest of the object comes from the store.
    Scale,
    /// A pod's resources.
    Resize,
}

impl Part {
    /// The subresource's name, empty for the object itself.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Object => "",
            Part::Status => "status",
            Part::Finalizers => "finalize",
            Part::Scale => "scale",
            Part::Resize => "resize",
        }
    }
}

/// What every step of a write needs.
pub(crate) struct Writer<'a> {
    pub(crate) state: &'a State,
    pub(crate) user: &'a User,
    pub(crate) kind: &'static Kind,
    /// Empty for cluster-scoped kinds.
    pub(crate) namespace: &'a str,
    pub(crate) part: Part,
    pub(crate) dry_run: DryRun,
    /// Who owns the fields that change.
    pub(crate) manager: &'a str,
    pub(crate) warnings: Vec<String>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        call: &'a Call,
        kind: &'static Kind,
        part: Part,
        options: &'a WriteOptions,
    ) -> Self {
        let namespace = if kind.is_namespaced() {
            call.info.namespace.as_str()
        } else {
            ""
        };
        let manager = options.field_manager.as_deref();
        Writer {
            state: &call.state,
            user: &call.user,
            kind,
            namespace,
            part,
            dry_run: options.dry_run,
            manager: manager.unwrap_or_else(|| call.user_agent_name()),
            warnings: Vec::new(),
        }
    }
}

/// POST to a collection.
pub(crate) async fn create(call: &mut Call, kind: &'static Kind) -> Result<Reply, Status> {
    call.check_writable_place(kind)?;
    let bytes = call.read_body().await?;
    let options = WriteOptions::for_create(&call.query)?;
    let mut object = decode(call, kind, &bytes, &options)?;
    let mut writer = Writer::new(call, kind, Part::Object, &options);
    check_namespace(&mut object, writer.namespace)?;
    let outcome = writer.create(object).await;
    let warnings = writer.warnings;
    finish(call, kind, warnings, outcome)
}

/// PUT to an object or a part of it.
pub(crate) async fn put(call: &mut Call, kind: &'static Kind, part: Part) -> Result<Reply, Status> {
    call.check_writable_place(kind)?;
    let bytes = call.read_body().await?;
    let options = WriteOptions::for_update(&call.query)?;
    let mut object = decode(call, kind, &bytes, &options)?;
    let name = call.info.name.clone();
    let mut writer = Writer::new(call, kind, part, &options);
    check_namespace(&mut object, writer.namespace)?;
    check_name(&object, &name)?;
    let outcome = writer.put(&name, object).await;
    let warnings = writer.warnings;
    finish(call, kind, warnings, outcome)
}

/// The object in a body, defaulted.
fn decode(
    call: &mut Call,
    kind: &Kind,
    bytes: &[u8],
    options: &WriteOptions,
) -> Result<Value, Status> {
    let validation = options.field_validation;
    let (mut object, warnings) = body::object(kind, call.content_type(), bytes, validation)?;
    for warning in warnings {
        call.warn(warning);
    }
    (kind.strategy.default)(&mut object);
    Ok(object)
}

/// Answers with what was written, and passes the warnings on.
fn finish(
    call: &mut Call,
    kind: &'static Kind,
    warnings: Vec<String>,
    outcome: Result<Written, Status>,
) -> Result<Reply, Status> {
    for warning in warnings {
        call.warn(warning);
    }
    match outcome? {
        Written::Created(stored) => read::reply(call, kind, &stored, StatusCode::CREATED),
        Written::Updated(stored) => read::reply(call, kind, &stored, StatusCode::OK),
        Written::CreatedDry(object) => read::shown(call, kind, object, StatusCode::CREATED),
        Written::UpdatedDry(object) | Written::Removed(object) => {
            read::shown(call, kind, object, StatusCode::OK)
        }
    }
}

/// 422 with everything that is wrong, if anything is.
fn refuse_invalid(
    kind: &'static Kind,
    object: &Value,
    errors: &[knarr_api::field::Error],
) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    let name = knarr_api::meta::name(object);
    // Objects shown in two versions have one validation, which names the stored kind.
    Err(Status::invalid(kind.stored(), name, errors))
}
