//! Questions about who one is and what one may do. Each is answered and forgotten.

use http::StatusCode;
use knarr_api::{decode::Target, status::Status};
use serde_json::{Value, json};

use super::binding;
use crate::{
    User,
    discovery::Virtual,
    request::{Verb, body},
    respond::{self, Reply},
    routes::Call,
    write,
};

/// POST to a kind that is never stored.
pub(crate) async fn review(call: &mut Call, review: &Virtual) -> Result<Reply, Status> {
    if call.verb != Verb::Create || !call.info.name.is_empty() {
        return Err(respond::method_not_allowed());
    }
    if review.kind == "Binding" {
        return Box::pin(binding::serve(call)).await;
    }
    let bytes = call.read_body().await?;
    let target = Target {
        group: review.group,
        version: review.version,
        kind: review.kind,
    };
    let mut document = body::value(target, call.content_type(), &bytes)?;
    if !document.is_object() {
        return Err(Status::bad_request("the body is not an object"));
    }
    document["apiVersion"] = format!("{}/{}", review.group, review.version).into();
    document["kind"] = review.kind.into();
    if !document["metadata"].is_object() {
        document["metadata"] = json!({});
    }
    document["metadata"]["creationTimestamp"] = Value::Null;
    document["status"] = match review.kind {
        "SelfSubjectReview" => {
            document["metadata"]["creationTimestamp"] = write::now().into();
            json!({"userInfo": user_info(&call.user)})
        }
        _ => return Err(respond::no_such_resource()),
    };
    Ok(Reply::ok(document).with_code(StatusCode::CREATED))
}

fn user_info(user: &User) -> Value {
    let User { name, uid, groups } = user;
    let mut info = json!({"username": name, "groups": groups});
    if !uid.is_empty() {
        info["uid"] = uid.as_str().into();
    }
    info
}
