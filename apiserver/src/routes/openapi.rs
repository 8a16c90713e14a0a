//! OpenAPI documents: made once, then the same bytes for everyone, for as long as the process runs.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use knarr_api::openapi;
use serde_json::Value;

use crate::{discovery::Fixed, request::Query, respond};

/// What kubectl asks for by the first name is answered by the second.
const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

static V2: LazyLock<Fixed> = LazyLock::new(|| Fixed::new(&openapi::v2_document()));
static V2_AS_PROTOBUF: LazyLock<Fixed> = LazyLock::new(|| Fixed::of(openapi::v2_protobuf().into()));
static V3: LazyLock<V3Documents> = LazyLock::new(V3Documents::new);

struct V3Documents {
    index: Fixed,
    by_path: BTreeMap<String, Fixed>,
}

impl V3Documents {
    fn new() -> Self {
        let mut index = openapi::v3_index();
        let mut by_path = BTreeMap::new();
        let paths = index.get_mut("paths").and_then(Value::as_object_mut);
        for (path, entry) in paths.into_iter().flatten() {
            let (group, version) = group_version(path);
            let Some(document) = openapi::v3_document(group, version) else {
                continue;
            };
            let document = Fixed::new(&document);
            entry["serverRelativeURL"] =
                format!("/openapi/v3/{path}?hash={}", document.hash()).into();
            by_path.insert(path.clone(), document);
        }
        V3Documents {
            index: Fixed::new(&index),
            by_path,
        }
    }
}

/// `api/v1` or `apis/apps/v1` as group and version.
fn group_version(path: &str) -> (&str, &str) {
    let below = path.strip_prefix("apis/");
    match below.and_then(|below| below.split_once('/')) {
        Some(parts) => parts,
        None => ("", path.rsplit('/').next().unwrap_or_default()),
    }
}

/// Answers below `/openapi/`.
pub(super) fn serve(path: &[&str], query: &Query, headers: &HeaderMap) -> Response {
    match path {
        // Kubernetes leaves it to Go to guess the type of its index.
        ["v3"] => V3.index.respond(headers, "text/plain; charset=utf-8"),
        ["v3", below @ ..] => {
            let below = below.join("/");
            match (V3.by_path.get(&below), query.text("hash")) {
                (None, _) => respond::empty(StatusCode::NOT_FOUND),
                (Some(_), _) if !accepts_json(headers) => not_acceptable(),
                (Some(document), None) => document.respond(headers, "application/json"),
                (Some(document), Some(hash)) if hash == document.hash() => {
                    cacheable(document.respond(headers, "application/json"))
                }
                (Some(document), Some(_)) => moved(&below, document.hash()),
            }
        }
        ["v2"] if accepts_json(headers) => V2.respond(headers, "application/json"),
        ["v2"] if accepts_v2_protobuf(headers) => V2_AS_PROTOBUF.respond(headers, V2_PROTOBUF),
        ["v2"] => not_acceptable(),
        _ => respond::no_such_page(),
    }
}

fn not_acceptable() -> Response {
    respond::empty(StatusCode::NOT_ACCEPTABLE)
}

fn accepts_json(headers: &HeaderMap) -> bool {
    accept(headers).is_none_or(|accept| accept.contains("json") || accept.contains("*/*"))
}

fn accepts_v2_protobuf(headers: &HeaderMap) -> bool {
    accept(headers)
        .is_some_and(|accept| accept.contains(V2_PROTOBUF_ASKED) || accept.contains(V2_PROTOBUF))
}

fn accept(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ACCEPT)?.to_str().ok()
}

/// To where the document is as it is now.
fn moved(path: &str, hash: &str) -> Response {
    let mut response = respond::text(StatusCode::MOVED_PERMANENTLY, "");
    let location = format!("/openapi/v3/{path}?hash={hash}");
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The URL names the content's hash, so it never changes.
fn cacheable(mut response: Response) -> Response {
    let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, forever);
    response
}
