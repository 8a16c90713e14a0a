//! Discovery documents, legacy and aggregated, made from the registry alone.

mod aggregated;
mod catalog;
mod legacy;

use std::sync::LazyLock;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) use catalog::{Virtual, virtual_kind};

use crate::{
    negotiate::{self, Encoding},
    request::{Query, Route},
    respond,
};

const AGGREGATED_TYPE: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Bytes that never change while the process runs, and their tag.
pub(crate) struct Fixed {
    bytes: Bytes,
    etag: String,
}

impl Fixed {
    pub(crate) fn new(value: &Value) -> Self {
        Fixed::of(format!("{value}\n").into())
    }

    pub(crate) fn of(bytes: Bytes) -> Self {
        let etag = format!("\"{}\"", digest(&bytes));
        Fixed { bytes, etag }
    }

    pub(crate) fn hash(&self) -> &str {
        self.etag.trim_matches('"')
    }

    /// 304 if the client holds these bytes, else the bytes.
    pub(crate) fn respond(&self, headers: &HeaderMap, content_type: &'static str) -> Response {
        let (code, body) = if self.is_known(headers) {
            (StatusCode::NOT_MODIFIED, Body::empty())
        } else {
            (StatusCode::OK, Body::from(self.bytes.clone()))
        };
        let mut response = Response::new(body);
        *response.status_mut() = code;
        let answer = response.headers_mut();
        answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        answer.insert(header::VARY, HeaderValue::from_static("Accept"));
        answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            answer.insert(header::ETAG, etag);
        }
        response
    }

    /// Whether the client holds these bytes; it may name many documents, and any with an asterisk.
    fn is_known(&self, headers: &HeaderMap) -> bool {
        let held = headers.get_all(header::IF_NONE_MATCH).iter();
        let held = held.filter_map(|value| value.to_str().ok());
        let mut tags = held.flat_map(|value| value.split(',')).map(str::trim);
        tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.etag)
    }
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02X}")).collect()
}

static CORE: LazyLock<Fixed> = LazyLock::new(|| Fixed::new(&aggregated::core()));
static GROUPS: LazyLock<Fixed> = LazyLock::new(|| Fixed::new(&aggregated::groups()));

/// Answers a discovery request; `None` if the route is none.
pub(crate) fn serve(
    route: &Route,
    method: &Method,
    query: &Query,
    headers: &HeaderMap,
) -> Option<Response> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let accept = text(header::ACCEPT);
    // The aggregator answers for groups, and to any method.
    let is_read_only = matches!(route, Route::CoreVersions | Route::Version { .. });
    if is_read_only && *method != Method::GET {
        return Some(respond::failure(&respond::method_not_allowed()));
    }
    let aggregated = negotiate::accepts_aggregated_discovery(accept);
    let document = match route {
        Route::CoreVersions if aggregated => return Some(CORE.respond(headers, AGGREGATED_TYPE)),
        Route::Groups if aggregated => return Some(GROUPS.respond(headers, AGGREGATED_TYPE)),
        Route::CoreVersions => Some(legacy::core_versions(host(headers))),
        Route::Groups => Some(legacy::group_list()),
        Route::Group(group) => legacy::group(group),
        Route::Version { group, version } => legacy::resources(group, version),
        Route::Root | Route::Resource(_) | Route::VerbAlone | Route::Plain(_) => return None,
    };
    let Some(document) = document else {
        return Some(not_found(route));
    };
    let encoding = negotiate::plain(accept)
        .map(|encoding| negotiate::laid_out(encoding, query, text(header::USER_AGENT)));
    Some(match encoding {
        Ok(Encoding::Json) => Fixed::new(&document).respond(headers, "application/json"),
        Ok(encoding) => respond::value_response(StatusCode::OK, &document, encoding),
        Err(status) => respond::failure(&status),
    })
}

/// What is said of a route that leads to nothing; groups that are served have words of their own.
fn not_found(route: &Route) -> Response {
    let (Route::Group(group) | Route::Version { group, .. }) = route else {
        return respond::no_such_page();
    };
    if is_group(group) {
        respond::failure(&respond::no_such_resource())
    } else {
        respond::no_such_page()
    }
}

/// Every discovery document's path, as the index lists them.
pub(crate) fn paths() -> Vec<String> {
    let mut paths = vec![
        "/api".to_owned(),
        "/api/v1".into(),
        "/apis".into(),
        "/apis/".into(),
    ];
    for (group, versions) in catalog::groups() {
        paths.push(format!("/apis/{group}"));
        paths.extend(
            versions
                .iter()
                .map(|version| format!("/apis/{group}/{version}")),
        );
    }
    paths
}

/// Whether anything of a group is served; the core group is the empty one.
pub(crate) fn is_group(group: &str) -> bool {
    group.is_empty() || legacy::group(group).is_some()
}

fn host(headers: &HeaderMap) -> &str {
    let host = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    host.unwrap_or_default()
}

/// `/version`: the Kubernetes release whose behaviour is served, built by knarr.
pub(crate) fn version() -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1",
        "minor": "37",
        "emulationMajor": "1",
        "emulationMinor": "37",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "36",
        "gitVersion": knarr_api::version::VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{architecture}", std::env::consts::OS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_holds_the_document_is_told_so() {
        let fixed = Fixed::new(&json!({"a": 1}));
        let mut headers = HeaderMap::new();
        let first = fixed.respond(&headers, "application/json");
        assert_eq!(first.status(), StatusCode::OK);
        let etag = first.headers()[header::ETAG].clone();
        let etag = etag.to_str().unwrap();
        let mut check = |held: &str, expected: StatusCode| {
            headers.insert(header::IF_NONE_MATCH, held.parse().unwrap());
            let answer = fixed.respond(&headers, "application/json");
            assert_eq!(answer.status(), expected, "{held}");
        };
        check(etag, StatusCode::NOT_MODIFIED);
        check(&format!("\"other\" ,W/{etag}"), StatusCode::NOT_MODIFIED);
        check("*", StatusCode::NOT_MODIFIED);
        check("\"other\"", StatusCode::OK);
        check(etag.trim_matches('"'), StatusCode::OK);
    }

    #[test]
    fn a_group_that_is_not_served_is_not_found() {
        for route in [
            Route::Group("none.example.com".into()),
            Route::Version {
                group: "apps".into(),
                version: "v9".into(),
            },
        ] {
            let query = Query::default();
            let response = serve(&route, &Method::GET, &query, &HeaderMap::new()).unwrap();
            assert_eq!(response.status(), StatusCode::NOT_FOUND);
        }
    }
}
