//! `autoscaling/v1` Scale: the replicas of a Deployment, ReplicaSet or StatefulSet, and nothing else of it.

use knarr_api::{
    field::{Error, Path},
    kind::Kind,
    kinds::scale::{self, SCALE},
    meta,
    status::Status,
};
use serde_json::Value;

use crate::{
    call::Call,
    read::{self, Shown},
    request::{Verb, body, options::WriteOptions},
    respond::{self, Reply},
    write::{Part, Patch, Proposal, Writer},
};

pub(super) async fn serve(call: &mut Call, kind: &'static Kind) -> Result<Reply, Status> {
    if call.verb == Verb::Get {
        let stored = read::stored(call, kind)?;
        return reply(call, scale_of(kind, &read::object(kind, &stored))?);
    }
    let bytes = call.read_body().await?;
    let name = call.info.name.clone();
    let (change, options) = if call.verb == Verb::Patch {
        let (patch, options) = Patch::read(call, &bytes)?;
        (Change::Patch(patch), options)
    } else {
        let options = WriteOptions::for_update(&call.query)?;
        let new = body::value((&SCALE).into(), call.content_type(), &bytes)?;
        (Change::Put(new), options)
    };
    let mut writer = Writer::new(call, kind, Part::Scale, &options);
    let written = writer
        .replace(&name, |old| {
            let old = old.ok_or_else(|| Status::not_found(kind, &name))?;
            let scale = change.applied_to(scale_of(kind, old)?, &name)?;
            Ok(Proposal::Untracked(scaled(kind, old, &scale)))
        })
        .await?;
    reply(call, scale_of(kind, &written.object(kind))?)
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
    fn applied_to(&self, mut scale: Value, name: &str) -> Result<Value, Status> {
        match self {
            Change::Put(new) => scale = new.clone(),
            Change::Patch(patch) => patch.apply(&SCALE, &mut scale)?,
        }
        let replicas = &scale["spec"]["replicas"];
        let path = Path::new("spec").child("replicas");
        let error = match replicas.as_i64() {
            Some(count) if count < 0 => {
                Error::invalid(&path, count, "must be greater than or equal to 0")
            }
            None if !replicas.is_null() => {
                Error::type_invalid(&path, replicas.clone(), "must be an integer")
            }
            _ => return Ok(scale),
        };
        Err(Status::invalid_kind("Scale.autoscaling", name, &[error]))
    }
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
