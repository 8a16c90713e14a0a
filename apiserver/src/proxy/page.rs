//! Answers of backends as the proxy subresource shows them: redirects and links stay behind the proxy, CORS rules do not pass it.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::html::{Rewriter, moved};

/// A page of a backend must not open this server to other origins.
const CORS_HEADERS: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// Asks for pages uncompressed, so that their links can be read, and says where the client sees them.
pub(crate) fn want_plain_page(headers: &mut HeaderMap, uri: &str) {
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains("text/html"));
    if headers.get(header::ACCEPT).is_some_and(accepts) {
        headers.remove(header::ACCEPT_ENCODING);
    }
    if let Ok(uri) = HeaderValue::from_str(uri) {
        headers.insert("x-forwarded-uri", uri);
    }
}

/// Keeps what an answer leads to behind the proxy, which is at `prefix`.
pub(crate) fn keep_inside(mut response: Response, prefix: &str) -> Response {
    let headers = response.headers_mut();
    for name in CORS_HEADERS {
        headers.remove(name);
    }
    let location = headers.get(header::LOCATION);
    if let Some(location) = location.and_then(|location| location.to_str().ok()) {
        let location = moved(location, prefix).and_then(|l| HeaderValue::from_str(&l).ok());
        if let Some(location) = location {
            headers.insert(header::LOCATION, location);
        }
        return response;
    }
    if !is_plain_page(headers) {
        return response;
    }
    headers.remove(header::CONTENT_LENGTH);
    let rewriter = Rewriter::new(prefix);
    response.map(|body| rewritten(body, rewriter))
}

fn is_plain_page(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().trim().to_ascii_lowercase()
    };
    let content_type = text(header::CONTENT_TYPE);
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let encoding = text(header::CONTENT_ENCODING);
    media_type == "text/html" && (encoding.is_empty() || encoding == "identity")
}

/// The body with its links moved, as it comes.
fn rewritten(body: Body, rewriter: Rewriter) -> Body {
    let pieces = body.into_data_stream();
    let pieces = stream::unfold(Some((pieces, rewriter)), async |state| {
        let (mut pieces, mut rewriter) = state?;
        match pieces.next().await {
            Some(Ok(piece)) => {
                let piece = Bytes::from(rewriter.feed(&piece));
                Some((Ok(piece), Some((pieces, rewriter))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Ok(Bytes::from(rewriter.finish())), None)),
        }
    });
    Body::from_stream(pieces)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn check(
        headers: &[(HeaderName, &str)],
        body: &str,
        location: Option<&str>,
        expected: &str,
    ) {
        let mut response = Response::new(Body::from(body.to_owned()));
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a header");
            response.headers_mut().insert(name, value);
        }
        let response = keep_inside(response, "/p/proxy");
        let found = response.headers().get(header::LOCATION).cloned();
        assert_eq!(
            found.as_ref().map(HeaderValue::as_bytes),
            location.map(str::as_bytes)
        );
        assert!(
            !response
                .headers()
                .contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
        );
        let bytes = response
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }

    #[tokio::test]
    async fn redirects_and_links_stay_behind_the_proxy() {
        let page = "<a href='/x'>";
        let html = (header::CONTENT_TYPE, "text/html; charset=utf-8");
        let cors = (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        check(&[html.clone(), cors], page, None, "<a href='/p/proxy/x'>").await;
        check(&[(header::CONTENT_TYPE, "text/plain")], page, None, page).await;
        check(
            &[html.clone(), (header::CONTENT_ENCODING, "gzip")],
            page,
            None,
            page,
        )
        .await;
        let to = |location| (header::LOCATION, location);
        check(&[to("/y?z")], "", Some("/p/proxy/y?z"), "").await;
        check(&[to("/p/proxy/y")], "", Some("/p/proxy/y"), "").await;
        check(&[to("https://other/")], "", Some("https://other/"), "").await;
        check(&[html, to("y")], page, Some("y"), page).await;
    }
}
