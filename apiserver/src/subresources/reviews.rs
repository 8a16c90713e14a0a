//! Questions about who one is and what one may do. Each is answered and forgotten.

mod validation;

use http::StatusCode;
use knarr_api::{
    decode::Target,
    status::Status,
    value::{str_of, texts},
};
use serde_json::{Value, json};

use super::binding;
use crate::{
    State, User,
    accounts::Bearer,
    authorize::{Action, Decision},
    call::Call,
    clock,
    discovery::Virtual,
    request::Verb,
    respond::{self, Reply},
};

/// POST to a kind that is never stored.
pub(crate) async fn review(call: &mut Call, review: &Virtual) -> Result<Reply, Status> {
    if !call.info.name.is_empty() {
        return Err(respond::no_such_resource());
    }
    if call.verb != Verb::Create {
        return Err(respond::method_not_allowed());
    }
    if review.kind == "Binding" {
        return Box::pin(binding::serve(call)).await;
    }
    let target = Target {
        group: review.group,
        version: review.version,
        kind: review.kind,
    };
    let (mut document, _) = super::posted(call, target).await?;
    document["apiVersion"] = format!("{}/{}", review.group, review.version).into();
    document["kind"] = review.kind.into();
    if !document["metadata"].is_object() {
        document["metadata"] = json!({});
    }
    document["status"] = status(call, review, &document)?;
    match review.kind {
        "SelfSubjectReview" => document["metadata"] = json!({"creationTimestamp": clock::now()}),
        // What was asked is not repeated.
        "SelfSubjectRulesReview" => {
            document["metadata"] = json!({});
            document["spec"] = json!({});
        }
        _ => {}
    }
    Ok(Reply::ok(document).with_code(StatusCode::CREATED))
}

fn status(call: &Call, review: &Virtual, document: &Value) -> Result<Value, Status> {
    let state = &call.state;
    let spec = &document["spec"];
    validation::check(review.kind, document)?;
    match review.kind {
        "SelfSubjectReview" => Ok(json!({"userInfo": user_info(&call.user)})),
        "TokenReview" => token(state, spec),
        "SelfSubjectAccessReview" => Ok(access(state, &call.user, spec)),
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            Ok(access(state, &subject(spec), spec))
        }
        "SelfSubjectRulesReview" => match str_of(&spec["namespace"]) {
            "" => Err(Status::bad_request("no namespace on request")),
            namespace => Ok(rules(state, &call.user, namespace)),
        },
        _ => Err(respond::no_such_resource()),
    }
}

fn user_info(user: &User) -> Value {
    let User {
        name,
        uid,
        groups,
        extra,
    } = user;
    let mut info = json!({"username": name, "groups": groups});
    if !extra.is_empty() {
        info["extra"] = json!(extra);
    }
    if !uid.is_empty() {
        info["uid"] = uid.as_str().into();
    }
    info
}

/// Who bears the token that is asked about.
fn token(state: &State, spec: &Value) -> Result<Value, Status> {
    let token = str_of(&spec["token"]);
    if token.is_empty() {
        return Err(Status::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let mut audiences = texts(&spec["audiences"]);
    if audiences.is_empty() {
        audiences.push(state.authenticator.accounts.audience());
    }
    Ok(match state.authenticator.bearer(token, &audiences) {
        Some(Bearer { user, audiences }) => json!({
            "authenticated": true,
            "user": user_info(&user),
            "audiences": audiences,
        }),
        None => json!({"user": {}, "error": "invalid bearer token"}),
    })
}

fn fields_of(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn subject(spec: &Value) -> User {
    User {
        name: str_of(&spec["user"]).to_owned(),
        uid: str_of(&spec["uid"]).to_owned(),
        groups: texts(&spec["groups"])
            .into_iter()
            .map(str::to_owned)
            .collect(),
        extra: fields_of(&spec["extra"])
            .map(|(key, values)| {
                let values = texts(values).into_iter().map(str::to_owned).collect();
                (key.to_ascii_lowercase(), values)
            })
            .collect(),
    }
}

fn access(state: &State, user: &User, spec: &Value) -> Value {
    let resource = &spec["resourceAttributes"];
    let path = &spec["nonResourceAttributes"];
    let action = if path.is_null() {
        Action::Resource {
            verb: str_of(&resource["verb"]),
            group: str_of(&resource["group"]),
            resource: str_of(&resource["resource"]),
            subresource: str_of(&resource["subresource"]),
            namespace: str_of(&resource["namespace"]),
            name: str_of(&resource["name"]),
            field_selector: str_of(&resource["fieldSelector"]["rawSelector"]),
        }
    } else {
        Action::Path {
            verb: str_of(&path["verb"]),
            path: str_of(&path["path"]),
        }
    };
    match state.authorizer.authorize(user, &action) {
        Decision::Allowed => {
            let reason = state.authorizer.reason(user, &action);
            with_reason(json!({"allowed": true}), &reason)
        }
        Decision::Denied { reason } => with_reason(json!({"allowed": false}), &reason),
    }
}

fn with_reason(mut status: Value, reason: &str) -> Value {
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    status
}

/// What the user's roles allow in a namespace; a node agent may do more than its roles say.
fn rules(state: &State, user: &User, namespace: &str) -> Value {
    let (objects, paths) = state.authorizer.rules(user, namespace);
    json!({
        "resourceRules": objects,
        "nonResourceRules": paths,
        "incomplete": user.node_name().is_some(),
    })
}
