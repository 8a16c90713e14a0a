//! What hangs below an object: its status, its scale, and requests that are really about something else.

mod binding;
mod eviction;
mod log;
mod relay;
mod reviews;
mod scale;
mod stream;
mod token;

use http::StatusCode;
use knarr_api::{decode::Target, kind::Kind, status::Status};
use serde_json::Value;

pub(crate) use reviews::review;

use crate::{
    call::Call,
    read,
    request::{Verb, body, options::WriteOptions},
    respond::{self, Reply},
    write::{self, Part},
};

/// Answers a request below an object.
pub(crate) async fn serve(call: &mut Call, kind: &'static Kind) -> Result<Reply, Status> {
    let name = call.info.subresource.clone();
    let row = kind.subresources.iter().find(|row| row.name == name);
    let row = row.ok_or_else(respond::no_such_resource)?;
    let verb = match call.verb {
        Verb::DeleteCollection => Verb::Delete.name(),
        verb => verb.name(),
    };
    if !row.verbs.contains(&verb) && row.name != "proxy" {
        return Err(respond::method_not_allowed());
    }
    match name.as_str() {
        "status" => part(call, kind, Part::Status).await,
        "finalize" => part(call, kind, Part::Finalizers).await,
        "resize" => part(call, kind, Part::Resize).await,
        "scale" => scale::serve(call, kind).await,
        "binding" => binding::serve(call).await,
        "eviction" => eviction::serve(call, kind).await,
        "attach" | "exec" | "log" | "portforward" => stream::serve(call, kind).await,
        "token" => token::serve(call, kind).await,
        "proxy" => relay::serve(call, kind).await,
        _ => Err(respond::no_such_resource()),
    }
}

/// A part that looks like the whole object.
async fn part(call: &mut Call, kind: &'static Kind, part: Part) -> Result<Reply, Status> {
    call.accepted()?;
    match call.verb {
        Verb::Get => read::get(call, kind),
        Verb::Update => write::put(call, kind, part).await,
        Verb::Patch => write::patch(call, kind, part).await,
        _ => Err(respond::method_not_allowed()),
    }
}

/// Success with nothing to show.
fn created() -> Reply {
    Reply::status(Status::created()).with_code(StatusCode::CREATED)
}

/// The posted body of a request below an object, of a type that need not be in the registry, with its namespace completed.
async fn posted(call: &mut Call, target: Target<'_>) -> Result<(Value, WriteOptions), Status> {
    let bytes = call.read_body().await?;
    let options = WriteOptions::for_create(&call.query)?;
    let validation = options.field_validation;
    let (mut object, warnings) = body::checked(target, call.content_type(), &bytes, validation)?;
    for warning in warnings {
        call.warn(warning);
    }
    write::check_namespace(&mut object, &call.info.namespace)?;
    Ok((object, options))
}
