//! Paths that are about the server and not about objects.

use axum::{extract::Request, response::Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;

use super::{health, metrics, openapi};
use crate::{State, discovery, respond};

const PATHS: &[&str] = &[
    "/.well-known/openid-configuration",
    "/api",
    "/api/v1",
    "/apis",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/openid/v1/jwks",
    "/readyz",
    "/version",
];

pub(super) fn serve(state: &State, path: &str, request: &Request) -> Response {
    let segments: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && is_served(path) {
        return respond::failure(&respond::method_not_allowed());
    }
    let query = request.uri().query().unwrap_or_default();
    match segments.as_slice() {
        [""] => json_response(&json!({"paths": PATHS})),
        ["version"] => json_response(&discovery::version()),
        [".well-known", "openid-configuration"] => {
            json_response(&state.authenticator.accounts.openid_configuration())
        }
        ["openid", "v1", "jwks"] => json_response(&state.authenticator.accounts.keys()),
        ["metrics"] => metrics::serve(state),
        ["openapi", rest @ ..] => openapi::serve(rest, request.headers()),
        [kind @ ("healthz" | "livez" | "readyz"), rest @ ..] => {
            health::serve(state, kind, rest, query)
        }
        _ => respond::no_such_page(),
    }
}

fn is_served(path: &str) -> bool {
    let served = PATHS.iter().filter_map(|served| served.strip_prefix('/'));
    path.is_empty() || served.into_iter().any(|served| path.starts_with(served))
}

fn json_response(value: &serde_json::Value) -> Response {
    let text = serde_json::to_vec_pretty(value).unwrap_or_default();
    respond::typed(StatusCode::OK, "application/json", Bytes::from(text))
}
