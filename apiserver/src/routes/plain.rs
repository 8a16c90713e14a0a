//! Paths that are about the server and not about objects.

use axum::{extract::Request, response::Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{health, metrics, openapi};
use crate::{State, discovery, request::Query, respond};

const PATHS: &[&str] = &[
    "/.well-known/openid-configuration",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/",
    "/openid/v1/jwks",
    "/version",
];

/// A path without its first slash, and what there is to read.
type Document = (&'static str, fn(&State) -> Value);

/// What can be read and nothing else; below it are no resources.
const DOCUMENTS: &[Document] = &[
    ("version", |_| discovery::version()),
    (".well-known/openid-configuration", |state| {
        state.authenticator.accounts.openid_configuration()
    }),
    ("openid/v1/jwks", |state| {
        state.authenticator.accounts.keys()
    }),
];

/// What there is, at `/`.
pub(super) fn index() -> Response {
    let mut paths: Vec<String> = PATHS.iter().map(|&path| path.to_owned()).collect();
    paths.extend(discovery::paths());
    paths.extend(health::paths());
    paths.sort();
    json_response(&json!({"paths": paths}))
}

/// Answers for a path without its first slash.
pub(super) fn serve(state: &State, path: &str, query: &Query, request: &Request) -> Response {
    for (document, write) in DOCUMENTS {
        let below = path.strip_prefix(document);
        let Some(below) = below.filter(|below| below.is_empty() || below.starts_with('/')) else {
            continue;
        };
        return match below.trim_matches('/') {
            "" if *request.method() == Method::GET => json_response(&write(state)),
            "" => respond::failure(&respond::method_not_allowed()),
            _ => respond::failure(&respond::no_such_resource()),
        };
    }
    let segments: Vec<&str> = path.split('/').collect();
    match segments.as_slice() {
        ["metrics"] => metrics::serve(state),
        ["openapi", rest @ ..] => openapi::serve(rest, query, request.headers()),
        [kind @ ("healthz" | "livez" | "readyz"), rest @ ..] => {
            health::serve(state, kind, rest, query)
        }
        ["index.html"] => index(),
        _ => respond::no_such_page(),
    }
}

fn json_response(value: &Value) -> Response {
    let text = serde_json::to_vec_pretty(value).unwrap_or_default();
    respond::typed(StatusCode::OK, "application/json", Bytes::from(text))
}
