//! Connections: accepting, TLS, HTTP/1.1 and h2, who is on the other end, and an orderly end.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, body::Body, response::IntoResponse};
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use knarr_api::status::Status;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{
    State,
    auth::{User, certificate_user},
};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that has not sent its request's headers by then is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
const HEADER_BYTES_MAX: usize = 128 << 10;
const STREAMS_MAX: u32 = 250;
/// How long requests under way may take to finish at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after a failed accept, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Silence after which the kernel asks whether a peer is still there.
const KEEPALIVE_SECONDS: u32 = 60;

/// What a connection needs to be served.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub acceptor: TlsAcceptor,
    pub state: Arc<State>,
    pub router: Router,
}

/// Serves until `shutdown`, then lets requests under way finish.
pub(crate) async fn serve(endpoint: Endpoint, listener: TcpListener, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(endpoint.clone(), stream, shutdown.clone());
                connections.spawn(connection);
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    let _ = timeout(DRAIN_TIMEOUT * 2, connections.wait()).await;
}

async fn connection(endpoint: Endpoint, stream: TcpStream, shutdown: CancellationToken) {
    prepare(&stream);
    let accepted = timeout(HANDSHAKE_TIMEOUT, endpoint.acceptor.accept(stream)).await;
    let Ok(Ok(stream)) = accepted else {
        return;
    };
    let peer = peer(&stream).map(Arc::new);
    let service = service_fn(move |request| answer(endpoint.clone(), peer.clone(), request));
    let builder = http_builder();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // How a connection ends is the client's business.
        _ = connection.as_mut() => return,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(DRAIN_TIMEOUT, connection).await;
}

fn prepare(stream: &TcpStream) {
    // Without these a connection works, only slower to answer and to notice a lost peer.
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE_SECONDS);
}

fn http_builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32);
    builder
}

/// The user that the client's certificate names; TLS has checked that it is one of ours.
fn peer(stream: &TlsStream<TcpStream>) -> Option<User> {
    let (_, session) = stream.get_ref();
    certificate_user(session.peer_certificates()?.first()?)
}

async fn answer(
    endpoint: Endpoint,
    peer: Option<Arc<User>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path();
    let user = endpoint
        .state
        .authenticator
        .user(path, peer.as_deref(), request.headers());
    let Ok(user) = user else {
        return Ok(refusal(&Status::unauthorized()));
    };
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(user);
    endpoint.router.oneshot(request).await
}

/// A Status as a whole answer.
pub(crate) fn refusal(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(status).unwrap_or_default();
    let mut response = (code, body).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests;
