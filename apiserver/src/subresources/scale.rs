//! `autoscaling/v1` Scale: the replicas of a Deployment, ReplicaSet or StatefulSet, and nothing else of it.

use knarr_api::{
    apply,
    field::{Error, Path},
    kind::Kind,
    kinds::scale::{self, SCALE},
    meta,
    status::{Details, Status},
};
use serde_json::Value;

use crate::{
    call::Call,
    read::{self, Shown},
    request::{Verb, body, options::WriteOptions},
    respond::{self, Reply},
    write::{self, Part, Patch, Proposal, Writer},
};

pub(super) async fn serve(call: &mut Call, kind: &'static Kind) -> Result<Reply, Status> {
    if call.verb == Verb::Get {
        let stored = read::stored(call, kind)?;
        return reply(call, scale_of(kind, &read::object(kind, &stored))?);
    }
    let bytes = call.read_body().await?;
    let name = call.info.name.clone();
    let mut warnings = Vec::new();
    let (change, options) = if call.verb == Verb::Patch {
        let (patch, options) = Patch::read(call, &bytes)?;
        (Change::Patch(patch), options)
    } else {
        let options = WriteOptions::for_update(&call.query)?;
        let validation = options.field_validation;
        let (mut new, problems) =
            body::checked((&SCALE).into(), call.content_type(), &bytes, validation)?;
        write::check_namespace(&mut new, &call.info.namespace)?;
        write::check_name(&new, &name)?;
        warnings = problems;
        (Change::Put(new), options)
    };
    let mut writer = Writer::new(call, kind, Part::Scale, &options);
    let applier = writer.without_warnings();
    let written = writer
        .replace(&name, |old| {
            let old = old.ok_or_else(|| Status::not_found(kind, &name))?;
            let mut scale = scale_of(kind, old)?;
            if let Change::Patch(patch) = &change
                && patch.is_apply()
            {
                apply::show_managers(old, &mut scale);
                let scale = applier.applied_over(&SCALE, &scale, patch)?;
                check(kind, old, &scale)?;
                let mut new = scaled(kind, old, &scale);
                apply::take_managers(kind, &mut new, &scale);
                return Ok(Proposal::Tracked(new));
            }
            let scale = change.applied_to(kind, old, &scale, &mut warnings)?;
            check(kind, old, &scale)?;
            Ok(Proposal::Untracked(scaled(kind, old, &scale)))
        })
        .await;
    for warning in warnings {
        call.warn(warning);
    }
    reply(call, scale_of(kind, &written?.object(kind))?)
}

/// A Scale in the form the client asked for.
fn reply(call: &Call, scale: Value) -> Result<Reply, Status> {
    Ok(Reply::ok(Shown::new(call, &SCALE)?.single(scale)))
}

fn scale_of(kind: &Kind, object: &Value) -> Result<Value, Status> {
    scale::of(kind, object).ok_or_else(respond::no_such_resource)
}

/// What a client wants of a Scale.
enum Change {
    Put(Value),
    Patch(Patch),
}

impl Change {
    fn applied_to(
        &self,
        kind: &'static Kind,
        old: &Value,
        scale: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        match self {
            Change::Put(new) => {
                write::check_uid(kind, new, old)?;
                Ok(new.clone())
            }
            Change::Patch(patch) => {
                let mut scale = patch.outcome(&SCALE, scale, warnings)?;
                write::check_namespace(&mut scale, meta::namespace(old))?;
                write::check_name(&scale, meta::name(old))?;
                Ok(scale)
            }
        }
    }
}

/// Refuses a Scale that asks for the impossible, or is another object's.
fn check(kind: &Kind, old: &Value, scale: &Value) -> Result<(), Status> {
    let name = meta::name(old);
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let path = Path::new("spec").child("replicas");
        let error = Error::invalid(&path, replicas, "must be greater than or equal to 0");
        return Err(Status::invalid_kind("Scale.autoscaling", name, &[error]));
    }
    let (given, uid) = (meta::uid(scale), meta::uid(old));
    if !given.is_empty() && given != uid {
        return Err(another(kind, name, given, uid));
    }
    Ok(())
}

/// 409 for a Scale of another object.
fn another(kind: &Kind, name: &str, given: &str, uid: &str) -> Status {
    let resource = format!("{}/scale", kind.plural);
    let message = format!(
        "Operation cannot be fulfilled on {resource}.{} \"{name}\": \
         Precondition failed: UID in precondition: {given}, UID in object meta: {uid}",
        kind.group
    );
    Status::failure(409, "Conflict", message).with_details(Details {
        name: name.into(),
        group: kind.group.into(),
        kind: resource,
        ..Details::default()
    })
}

/// The object with the replicas of a Scale.
fn scaled(kind: &Kind, old: &Value, scale: &Value) -> Value {
    let mut new = old.clone();
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    scale::set(kind, &mut new, replicas);
    let version = meta::resource_version(scale);
    if !version.is_empty() {
        new["metadata"]["resourceVersion"] = version.into();
    }
    new
}
