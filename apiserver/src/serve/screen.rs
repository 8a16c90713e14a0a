//! What Go's HTTP server refuses before anybody answers, where the library here lets it pass.

use http::{HeaderMap, Method, StatusCode, Version, header, request::Parts};

use crate::request::query::has_whole_escapes;

/// Why a request is answered by nobody.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    pub(super) code: StatusCode,
    /// Said after the code and its name; may be empty.
    pub(super) why: &'static str,
}

pub(super) fn check(request: &Parts) -> Result<(), Unfit> {
    let Parts {
        method,
        uri,
        version,
        headers,
        ..
    } = request;
    let bad = |why| {
        Err(Unfit {
            code: StatusCode::BAD_REQUEST,
            why,
        })
    };
    if *version == Version::HTTP_11 {
        match headers.get_all(header::HOST).iter().count() {
            0 if *method != Method::CONNECT => return bad("missing required Host header"),
            0 | 1 => {}
            _ => return bad("too many Host headers"),
        }
    }
    let is_no_url = uri.scheme().is_none() && uri.authority().is_some();
    if is_no_url && *method != Method::CONNECT {
        return bad("");
    }
    if !has_whole_escapes(uri.path()) {
        return bad("");
    }
    if expects_more(headers) {
        return Err(Unfit {
            code: StatusCode::EXPECTATION_FAILED,
            why: "",
        });
    }
    Ok(())
}

/// Whether the client waits for something that it will not get.
fn expects_more(headers: &HeaderMap) -> bool {
    let expected = headers.get(header::EXPECT);
    expected.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
