//! Finds what answers a request for objects: a kind of the registry, a subresource, or a review.

use std::{sync::Arc, time::Instant};

use axum::{extract::Request, response::Response};
use http::Method;
use knarr_api::{kind::Kind, kinds, status::Status};

use crate::{
    State, User,
    call::Call,
    delete, discovery,
    inflight::Load,
    negotiate::Encoding,
    read,
    request::{Query, RequestInfo, Verb, body, query::percent_decode},
    respond::{self, Reply},
    subresources, watch, write,
};

pub(super) async fn resource(
    state: Arc<State>,
    user: User,
    info: RequestInfo,
    query: Query,
    request: Request,
) -> Response {
    let started = Instant::now();
    let (parts, content) = request.into_parts();
    let verb = info.verb(&parts.method, &query);
    let load = Load::of(&info, verb);
    let _seat = match super::take_seat(&state, &user, load, &parts.extensions) {
        Ok(seat) => seat,
        Err(refusal) => {
            body::drain(content).await;
            return *refusal;
        }
    };
    let mut call = Call {
        state,
        user,
        verb,
        info,
        query,
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        extensions: parts.extensions,
        body: content,
        warnings: Vec::new(),
        large_body: None,
    };
    let outcome = Box::pin(answer(&mut call)).await;
    body::drain(std::mem::take(&mut call.body)).await;
    let encoding = match &outcome {
        Ok(_) => call.accepted().map(|accepted| accepted.encoding),
        Err(_) => Ok(call.encoding_of_statuses()),
    };
    let encoding = encoding.unwrap_or(Encoding::Json);
    let response = respond::render(outcome, encoding, &call.warnings);
    let Call { verb, info, .. } = &call;
    super::metrics::observe(*verb, info, response.status(), started.elapsed());
    response
}

async fn answer(call: &mut Call) -> Result<Reply, Status> {
    if let Err(status) = super::guard::check(call) {
        let encoding = call.encoding_of_statuses();
        return Ok(Reply::raw(respond::refusal(encoding, &status)));
    }
    if percent_decode(call.uri.path()).starts_with("//") {
        return Ok(Reply::raw(respond::no_such_page()));
    }
    let RequestInfo {
        group,
        version,
        resource,
        ..
    } = &call.info;
    if !discovery::is_group(group) {
        return Ok(Reply::raw(respond::no_such_page()));
    }
    if let Some(review) = discovery::virtual_kind(group, version, resource) {
        return subresources::review(call, review).await;
    }
    let kind =
        kinds::by_resource(group, version, resource).ok_or_else(respond::no_such_resource)?;
    check_place(kind, &call.info)?;
    if let Some(text) = kind.deprecation {
        call.warn(text);
    }
    if call.method == Method::HEAD && call.info.subresource != "proxy" {
        return Err(respond::method_not_allowed());
    }
    if !call.info.subresource.is_empty() {
        return Box::pin(subresources::serve(call, kind)).await;
    }
    let needs_name = matches!(call.verb, Verb::Update | Verb::Patch);
    let fits = call.verb != Verb::Create || call.info.name.is_empty();
    let fits = fits && (!needs_name || !call.info.name.is_empty());
    if !fits || !kind.verbs.contains(&call.verb.name()) {
        return Err(respond::method_not_allowed());
    }
    call.accepted()?;
    match call.verb {
        Verb::Get => read::get(call, kind),
        Verb::List => read::list(call, kind),
        Verb::Watch => watch::open(call, kind).await,
        Verb::Create => write::create(call, kind).await,
        Verb::Update => write::put(call, kind, write::Part::Object).await,
        Verb::Patch => write::patch(call, kind, write::Part::Object).await,
        Verb::Delete => delete::object(call, kind).await,
        Verb::DeleteCollection => delete::collection(call, kind).await,
        Verb::Unnamed => Err(respond::method_not_allowed()),
    }
}

/// Objects are found in their scope only; writes to all namespaces at once do not exist.
fn check_place(kind: &Kind, info: &RequestInfo) -> Result<(), Status> {
    let inside_namespace = !info.namespace.is_empty() && info.resource != "namespaces";
    match (kind.is_namespaced(), inside_namespace) {
        (true, false) if !info.name.is_empty() => Err(respond::no_such_resource()),
        (false, true) => Err(respond::no_such_resource()),
        _ => Ok(()),
    }
}
