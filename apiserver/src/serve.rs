//! Connections: accepting, TLS, HTTP/1.1 and h2, who is on the other end, and an orderly end.

mod connection;
mod exchange;
mod limits;
mod screen;

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, response::IntoResponse};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE},
};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use knarr_api::status::Status;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use self::{
    connection::{Connection, Connections},
    exchange::Answer,
    screen::Unfit,
};
pub(crate) use self::{exchange::Exchange, limits::Limits};
use crate::{
    State,
    auth::{certificate_user, move_token},
    pki::Pki,
    respond,
    user::User,
};

/// How long requests under way may take to finish at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after a failed accept, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Silence after which the kernel asks whether a peer is still there.
const KEEPALIVE_SECONDS: u32 = 60;
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// What a connection needs to be served.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub acceptor: TlsAcceptor,
    pub state: Arc<State>,
    pub router: Router,
    pub limits: Limits,
}

/// Serves until `shutdown`, then lets requests under way finish.
pub(crate) async fn serve(endpoint: Endpoint, listener: TcpListener, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let connections = Connections::new(endpoint.limits, endpoint.state.freed.clone());
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let Some(connection) = connections.open() else {
                    tracing::warn!("a connection is refused: there are too many");
                    continue;
                };
                let served = served(endpoint.clone(), connection, stream, shutdown.clone());
                tasks.spawn(served);
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    let _ = timeout(DRAIN_TIMEOUT * 2, tasks.wait()).await;
}

async fn served(
    endpoint: Endpoint,
    connection: Arc<Connection>,
    stream: TcpStream,
    shutdown: CancellationToken,
) {
    prepare(&stream);
    let accepted = tokio::select! {
        accepted = timeout(endpoint.limits.handshake, endpoint.acceptor.accept(stream)) => accepted,
        () = connection.evicted.cancelled() => return,
    };
    let Ok(Ok(stream)) = accepted else {
        return;
    };
    let limits = endpoint.limits;
    let peer = peer(&endpoint.state.pki, &stream).map(Arc::new);
    let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let of_requests = connection.clone();
    let service = service_fn(move |request| {
        let exchange = Exchange::begin(&of_requests);
        answer(endpoint.clone(), peer.clone(), exchange, request)
    });
    let ending = async {
        tokio::select! {
            () = connection.outlived(&limits) => {}
            () = connection.evicted.cancelled() => {}
            () = shutdown.cancelled() => {}
        }
    };
    let stream = TokioIo::new(stream);
    if speaks_http2 {
        let http = http2_builder().serve_connection(stream, service);
        drive(http, http2::Connection::graceful_shutdown, ending).await;
    } else {
        let http = http1_builder().serve_connection(stream, service);
        let http = http.with_upgrades();
        drive(
            http,
            http1::UpgradeableConnection::graceful_shutdown,
            ending,
        )
        .await;
    }
}

/// Serves until the client is done or `ending` says so; then what is under way gets a moment to finish.
async fn drive<C: Future>(http: C, finish: fn(Pin<&mut C>), ending: impl Future<Output = ()>) {
    let mut http = std::pin::pin!(http);
    tokio::select! {
        // How a connection ends is the client's business.
        _ = http.as_mut() => return,
        () = ending => finish(http.as_mut()),
    }
    let _ = timeout(DRAIN_TIMEOUT, http).await;
}

fn prepare(stream: &TcpStream) {
    // Without these a connection works, only slower to answer and to notice a lost peer.
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE_SECONDS);
}

/// How long a client may be silent is the connection's to know, whatever it speaks.
fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(limits::HEAD_LINES_MAX)
        .max_buf_size(limits::HEAD_BYTES_MAX);
    builder
}

fn http2_builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS_MAX)
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(limits::SEND_BUFFER_BYTES)
        .max_header_list_size(limits::HEAD_BYTES_MAX as u32);
    builder
}

/// The user that the client's certificate names, if it is one of ours; TLS has checked that the client has its key.
fn peer(pki: &Pki, stream: &TlsStream<TcpStream>) -> Option<User> {
    let (_, session) = stream.get_ref();
    let certificates = session.peer_certificates()?;
    pki.admits(certificates)
        .then(|| certificate_user(certificates.first()?))?
}

async fn answer(
    endpoint: Endpoint,
    peer: Option<Arc<User>>,
    exchange: Arc<Exchange>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let (parts, body) = request.into_parts();
    let audit_id = audit_id(&parts.headers);
    let mut response = match screen::check(&parts) {
        Ok(()) => {
            let mut request = Request::from_parts(parts, Body::new(body));
            request.extensions_mut().insert(exchange.clone());
            routed(endpoint, peer, request).await
        }
        Err(unfit) => turned_away(&unfit),
    };
    let headers = response.headers_mut();
    headers.entry(AUDIT_ID).or_insert(audit_id);
    Ok(response.map(|body| Answer { body, exchange }))
}

/// The name that the client gives its request, or one for it.
fn audit_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(AUDIT_ID).filter(|value| !value.is_empty());
    given.cloned().unwrap_or_else(|| {
        let drawn = uuid::Uuid::new_v4().to_string();
        HeaderValue::from_str(&drawn).unwrap_or(HeaderValue::from_static(""))
    })
}

async fn routed(
    endpoint: Endpoint,
    peer: Option<Arc<User>>,
    mut request: Request<Body>,
) -> Response<Body> {
    move_token(request.headers_mut());
    let path = request.uri().path();
    let user = endpoint
        .state
        .authenticator
        .user(path, peer.as_deref(), request.headers());
    let Ok(user) = user else {
        return refusal(&Status::unauthorized());
    };
    request.extensions_mut().insert(user);
    let Ok(response) = endpoint.router.oneshot(request).await;
    response
}

/// As Go's server says it, which ends the connection too.
fn turned_away(unfit: &Unfit) -> Response<Body> {
    let Unfit { code, why } = unfit;
    let text = match *why {
        "" => code.to_string(),
        why => format!("{code}: {why}"),
    };
    let mut response = respond::text(*code, text);
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
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
