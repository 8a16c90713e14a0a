//! One request passed on and its answer passed back, upgrades included.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use hyper::{client::conn::http1, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::Backend;
use crate::{call::Call, serve::Exchange};

/// Headers that belong to one connection and are not passed on.
const HOP_HEADERS: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Whom a request is passed on to, and for what.
pub(crate) struct Upstream {
    pub(crate) backend: Backend,
    pub(crate) method: Method,
    pub(crate) path_and_query: String,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("dial tcp {0}: {1}")]
    Connect(std::net::SocketAddr, #[source] std::io::Error),
    #[error("{0}")]
    Exchange(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] http::Error),
}

/// Sends the call's headers and body on; an answer that switches protocols is followed by bytes both ways.
pub(crate) async fn forward(call: &mut Call, upstream: Upstream) -> Result<Response, Error> {
    let address = upstream.backend.address();
    let stream = upstream.backend.connect().await;
    let stream = stream.map_err(|error| Error::Connect(address, error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // What goes wrong from here on, both ends see by themselves.
        let _ = connection.with_upgrades().await;
    });
    let mut request = Request::builder()
        .method(upstream.method)
        .uri(upstream.path_and_query)
        .body(std::mem::take(&mut call.body))?;
    *request.headers_mut() = passed_on(&call.headers, address);
    let mut response = sender.send_request(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let mut response = response.map(Body::new);
        for name in HOP_HEADERS {
            response.headers_mut().remove(name);
        }
        return Ok(response);
    }
    let theirs = hyper::upgrade::on(&mut response);
    let ours = call.extensions.remove::<OnUpgrade>();
    let exchange = call.extensions.remove::<Arc<Exchange>>();
    if let Some(ours) = ours {
        tokio::spawn(async move {
            tunnel(ours, theirs).await;
            drop(exchange);
        });
    }
    Ok(response.map(|_| Body::empty()))
}

/// Copies until either end is done; how it ends is theirs to know.
async fn tunnel(ours: OnUpgrade, theirs: OnUpgrade) {
    let (Ok(ours), Ok(theirs)) = (ours.await, theirs.await) else {
        return;
    };
    let _ = copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
}

/// The client's headers without those that are between it and this server.
fn passed_on(headers: &HeaderMap, address: std::net::SocketAddr) -> HeaderMap {
    let mut passed: HeaderMap = headers.clone();
    let upgrade = headers.get(header::UPGRADE).cloned();
    for name in HOP_HEADERS {
        passed.remove(name);
    }
    // The credentials were for this server.
    passed.remove(header::AUTHORIZATION);
    if let Some(upgrade) = upgrade {
        passed.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        passed.insert(header::UPGRADE, upgrade);
    }
    if let Ok(host) = HeaderValue::from_str(&address.to_string()) {
        passed.insert(header::HOST, host);
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_here_and_upgrades_go_on() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert("x-own", HeaderValue::from_static("kept"));
        let passed = passed_on(&headers, ([127, 0, 0, 1], 80).into());
        assert_eq!(passed.get(header::AUTHORIZATION), None);
        assert_eq!(passed[header::UPGRADE], "websocket");
        assert_eq!(passed[header::HOST], "127.0.0.1:80");
        assert_eq!(passed["x-own"], "kept");
    }
}
