//! TokenRequest (`serviceaccounts/token`): a signed token for a service account, bound to a pod, a secret or a node.

use http::StatusCode;
use knarr_api::{
    decode::Target,
    field::{Error, Path},
    kind::Kind,
    kinds::{node::NODE, pod::POD, secret::SECRET},
    meta,
    status::{Details, Status},
    value::{str_of, texts},
};
use serde_json::{Value, json};

use crate::{
    State, accounts::Grant, call::Call, clock, read, request::options::DryRun, respond::Reply,
    storage::Key,
};

const TOKEN_REQUEST: Target<'_> = Target {
    group: "authentication.k8s.io",
    version: "v1",
    kind: "TokenRequest",
};
const LIFETIME_DEFAULT_SECONDS: i64 = 60 * 60;
const LIFETIME_MIN_SECONDS: i64 = 10 * 60;
const LIFETIME_MAX_SECONDS: i64 = 1 << 32;

pub(super) async fn serve(call: &mut Call, kind: &'static Kind) -> Result<Reply, Status> {
    let (mut request, options) = super::posted(call, TOKEN_REQUEST).await?;
    check_name(&request, &call.info.name)?;
    let account = read::stored(call, kind)?.object();
    check_uid(&request, &account)?;
    let now = jiff::Timestamp::now();
    complete(&call.state, &mut request, &account);
    let lifetime_seconds = lifetime(&request["spec"]["expirationSeconds"])?;
    let bound_to = bound_object(&call.state, &request, &account)?;
    check_agent(call, kind, bound_to.as_ref())?;
    let node = bound_to
        .as_ref()
        .filter(|(kind, _)| std::ptr::eq(*kind, &POD))
        .and_then(|(_, pod)| node_of(&call.state, pod));
    let audiences: Vec<String> = texts(&request["spec"]["audiences"])
        .into_iter()
        .map(str::to_owned)
        .collect();
    let grant = Grant {
        account: &account,
        bound_to: bound_to.as_ref().map(|(kind, object)| (*kind, object)),
        node: node.as_ref(),
        audiences: &audiences,
        lifetime_seconds,
        now_seconds: now.as_second(),
    };
    let token = match options.dry_run {
        DryRun::All => String::new(),
        DryRun::No => {
            let token = call.state.authenticator.accounts.issue(&grant);
            token.ok_or_else(|| Status::internal("failed to generate token"))?
        }
    };
    let expiry = jiff::Timestamp::from_second(now.as_second() + lifetime_seconds)
        .map_err(Status::internal)?;
    request["status"] = json!({
        "token": token,
        "expirationTimestamp": clock::timestamp(expiry),
    });
    Ok(Reply::ok(request).with_code(StatusCode::CREATED))
}

/// A name in the body must be that of the path.
fn check_name(request: &Value, name: &str) -> Result<(), Status> {
    let given = meta::name(request);
    if given.is_empty() || given == name {
        return Ok(());
    }
    let path = Path::new("metadata").child("name");
    let detail = "must match the service account name if specified";
    let error = Error::invalid(&path, given, detail);
    Err(Status::invalid_kind(
        "TokenRequest.authentication.k8s.io",
        name,
        &[error],
    ))
}

/// A uid in the body must be the account's.
fn check_uid(request: &Value, account: &Value) -> Result<(), Status> {
    let (given, uid) = (meta::uid(request), meta::uid(account));
    if given.is_empty() || given == uid {
        return Ok(());
    }
    let name = meta::name(account);
    Err(another(
        ("TokenRequest", "authentication.k8s.io"),
        name,
        &format!(
            "the UID in the token request ({given}) does not match the UID of the service account ({uid})"
        ),
    ))
}

/// 409 that names a kind, where other conflicts name a resource.
fn another((kind, group): (&str, &str), name: &str, detail: &str) -> Status {
    let dot = if group.is_empty() { "" } else { "." };
    let message =
        format!("Operation cannot be fulfilled on {kind}{dot}{group} \"{name}\": {detail}");
    Status::failure(409, "Conflict", message).with_details(Details {
        name: name.into(),
        group: group.into(),
        kind: kind.into(),
        ..Details::default()
    })
}

/// Fills in what the client left out.
fn complete(state: &State, request: &mut Value, account: &Value) {
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    request["kind"] = "TokenRequest".into();
    request["metadata"] = json!({
        "name": meta::name(account),
        "namespace": meta::namespace(account),
        "uid": meta::uid(account),
        "creationTimestamp": clock::now(),
    });
    if !request["spec"].is_object() {
        request["spec"] = json!({});
    }
    let spec = &mut request["spec"];
    if texts(&spec["audiences"]).is_empty() {
        spec["audiences"] = json!([state.authenticator.accounts.audience()]);
    }
    if spec["expirationSeconds"].is_null() {
        spec["expirationSeconds"] = LIFETIME_DEFAULT_SECONDS.into();
    }
    if spec.get("boundObjectRef").is_none() {
        spec["boundObjectRef"] = Value::Null;
    }
}

fn lifetime(seconds: &Value) -> Result<i64, Status> {
    let seconds = seconds.as_i64().unwrap_or_default();
    let detail = if seconds < LIFETIME_MIN_SECONDS {
        "may not specify a duration less than 10 minutes"
    } else if seconds > LIFETIME_MAX_SECONDS {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(seconds);
    };
    let path = Path::new("spec").child("expirationSeconds");
    let error = Error::invalid(&path, seconds, detail);
    Err(Status::invalid_kind(
        "TokenRequest.authentication.k8s.io",
        "",
        &[error],
    ))
}

/// The object that the token is to be bound to, if it is the one meant.
fn bound_object(
    state: &State,
    request: &Value,
    account: &Value,
) -> Result<Option<(&'static Kind, Value)>, Status> {
    let reference = &request["spec"]["boundObjectRef"];
    if reference.is_null() {
        return Ok(None);
    }
    let version = str_of(&reference["apiVersion"]);
    let (kind, namespace): (&Kind, &str) = match (version, str_of(&reference["kind"])) {
        ("v1", "Pod") => (&POD, meta::namespace(account)),
        ("v1", "Secret") => (&SECRET, meta::namespace(account)),
        ("v1", "Node") => (&NODE, ""),
        (version, kind) => {
            let core = if version.contains('/') { "" } else { "/" };
            let group_version = format!("{core}{version}");
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {group_version}, Kind={kind}"
            )));
        }
    };
    let name = str_of(&reference["name"]);
    let stored = state.store.get(&Key::new(kind, namespace, name));
    let object = stored
        .ok_or_else(|| Status::not_found(kind, name))?
        .object();
    if std::ptr::eq(kind, &POD) && object["spec"]["serviceAccountName"] != meta::name(account) {
        return Err(Status::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            meta::name(account)
        )));
    }
    let uid = str_of(&reference["uid"]);
    if !uid.is_empty() && uid != meta::uid(&object) {
        let detail = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. \
             The object might have been deleted and then recreated"
        );
        return Err(another((kind.kind, kind.group), name, &detail));
    }
    Ok(Some((kind, object)))
}

/// A node agent gets tokens only for the pods bound to its node.
fn check_agent(
    call: &Call,
    kind: &'static Kind,
    bound_to: Option<&(&'static Kind, Value)>,
) -> Result<(), Status> {
    let Some(node) = call.user.node_name() else {
        return Ok(());
    };
    let detail = match bound_to {
        Some((kind, pod)) if std::ptr::eq(*kind, &POD) => {
            if pod["spec"]["nodeName"] == node {
                return Ok(());
            }
            "node requested token bound to a pod scheduled on a different node"
        }
        _ => "node requested token not bound to a pod",
    };
    Err(Status::forbidden(kind, &call.info.name, detail))
}

fn node_of(state: &State, pod: &Value) -> Option<Value> {
    let name = str_of(&pod["spec"]["nodeName"]);
    let stored = state.store.get(&Key::new(&NODE, "", name))?;
    Some(stored.object())
}
