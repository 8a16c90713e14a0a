//! `autoscaling/v1` Scale: the replicas of a Deployment, ReplicaSet or StatefulSet, and nothing else of it.

use http::StatusCode;
use knarr_api::{
    decode::Target,
    field::{Error, Path},
    kinds::Kind,
    meta, selector,
    status::{Details, Status},
};
use serde_json::{Value, json};

use crate::{
    read,
    request::{Verb, body, options::WriteOptions},
    respond::Reply,
    routes::Call,
    write::{Part, Patch, Proposal, Writer},
};

const SCALE: Target<'_> = Target {
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
};

pub(super) async fn serve(call: &mut Call, kind: &'static Kind) -> Result<Reply, Status> {
    if call.verb == Verb::Get {
        let stored = read::stored(call, kind)?;
        return Ok(Reply::ok(scale_of(&read::object(kind, &stored))));
    }
    let bytes = call.read_body().await?;
    let name = call.info.name.clone();
    let (change, options) = if call.verb == Verb::Patch {
        let (patch, options) = Patch::read(call, &bytes)?;
        (Change::Patch(patch), options)
    } else {
        let options = WriteOptions::for_update(&call.query)?;
        let new = body::value(SCALE, call.content_type(), &bytes)?;
        (Change::Put(new), options)
    };
    let mut writer = Writer::new(call, kind, Part::Scale, &options);
    let written = writer
        .replace(&name, |old| {
            let old = old.ok_or_else(|| Status::not_found(kind, &name))?;
            let scale = change.applied_to(kind, scale_of(old), &name)?;
            Ok(Proposal::Untracked(scaled(old, &scale)))
        })
        .await?;
    Ok(Reply::ok(scale_of(&written.object(kind))).with_code(StatusCode::OK))
}

/// What a client wants of a Scale.
enum Change {
    Put(Value),
    Patch(Patch),
}

impl Change {
    fn applied_to(&self, kind: &Kind, mut scale: Value, name: &str) -> Result<Value, Status> {
        match self {
            Change::Put(new) => scale = new.clone(),
            Change::Patch(patch) => patch.apply(kind, &mut scale)?,
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
        let status = Status::invalid_kind("Scale.autoscaling", name, &[error]);
        let details = status.details.clone().unwrap_or_default();
        Err(status.with_details(Details {
            group: "autoscaling".into(),
            kind: "Scale".into(),
            ..details
        }))
    }
}

/// The object with the replicas of a Scale.
fn scaled(old: &Value, scale: &Value) -> Value {
    let mut new = old.clone();
    new["spec"]["replicas"] = scale["spec"]["replicas"].as_i64().unwrap_or(0).into();
    let version = meta::resource_version(scale);
    if !version.is_empty() {
        new["metadata"]["resourceVersion"] = version.into();
    }
    new
}

fn scale_of(object: &Value) -> Value {
    let mut metadata = json!({});
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        if !object["metadata"][field].is_null() {
            metadata[field] = object["metadata"][field].clone();
        }
    }
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(0);
    let spec = if wanted == 0 {
        json!({})
    } else {
        json!({"replicas": wanted})
    };
    let mut status = json!({"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)});
    let selector = selector::from_label_selector(&object["spec"]["selector"]);
    if let Ok(selector) = selector {
        status["selector"] = selector.to_string().into();
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    })
}
