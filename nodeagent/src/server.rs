//! The agent's HTTPS server on the kubelet's paths: logs, exec, attach, port-forward. Serves the API server and administrators only.

mod access;
mod attach;
mod backlog;
mod channel;
mod exec;
mod logs;
mod port_forward;
mod query;
mod upgrade;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::any;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

pub(crate) use channel::word as channel_frame;

use crate::host::Host;
use crate::paths::Paths;
use crate::pod::sandbox::{self, Record};
use crate::protocol::{Run, STATE, State};
use knarr_client::Identity;

const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// A client that has not sent its request's headers by then is cut off.
const HEADER_TIME_MAX: Duration = Duration::from_secs(15);
/// Pause after a failed accept, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What keeps the server from starting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("listening on port {0}")]
    Listen(u16, #[source] io::Error),
    #[error("reading the client authority")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("using the serving certificate")]
    Tls(#[from] rustls::Error),
    #[error("using the client authority")]
    Authority(#[from] rustls::server::VerifierBuilderError),
}

/// An answer that is not what was asked for: a status and a sentence, as the kubelet gives.
pub(crate) type Refusal = (StatusCode, String);

/// A server that listens and does not serve yet.
pub(crate) struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    port: u16,
}

/// How the agent's server shows itself and whom it believes.
#[derive(Debug, Clone)]
pub struct ServingIdentity {
    /// May be replaced while the agent runs.
    pub shown: Arc<Identity>,
    /// Clients need a certificate of this authority, as PEM.
    pub client_ca: String,
}

/// Listens on `port`, or on any other if that one is taken.
pub(crate) async fn listen(identity: &ServingIdentity, port: u16) -> Result<Server, Error> {
    let acceptor = acceptor(identity)?;
    let listener = match bind(port).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => bind(0).await,
        other => other,
    };
    let listener = listener.map_err(|error| Error::Listen(port, error))?;
    let port = listener
        .local_addr()
        .map_err(|error| Error::Listen(port, error))?
        .port();
    Ok(Server {
        listener,
        acceptor,
        port,
    })
}

impl Server {
    /// The port that was to be had.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Serves until dropped.
    pub(crate) async fn serve(self, host: Arc<Host>) {
        let (router, refusal) = (router(host), refusal());
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (router, refusal) = (router.clone(), refusal.clone());
                    let acceptor = self.acceptor.clone();
                    tokio::spawn(serve_connection(stream, acceptor, router, refusal));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection to the agent");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A kernel without IPv6 has no wildcard for both families.
async fn bind(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
        }
        other => other,
    }
}

async fn serve_connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    refusal: Router,
) {
    // A connection without it works, only slower.
    let _ = stream.set_nodelay(true);
    let accepted = tokio::time::timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await;
    let Ok(Ok(stream)) = accepted else {
        return;
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let is_let_in = certificates
        .and_then(<[_]>::first)
        .is_some_and(|certificate| access::is_let_in(certificate));
    let service = TowerToHyperService::new(if is_let_in { router } else { refusal });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the agent");
    }
}

fn acceptor(identity: &ServingIdentity) -> Result<TlsAcceptor, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(identity.client_ca.as_bytes()) {
        roots.add(certificate?)?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity.shown.clone());
    // WebSockets need HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn router(host: Arc<Host>) -> Router {
    Router::new()
        .route("/healthz", any(async || "ok"))
        .route(
            "/containerLogs/{namespace}/{pod}/{container}",
            any(logs::answer),
        )
        .route("/exec/{namespace}/{pod}/{container}", any(exec::answer))
        .route("/attach/{namespace}/{pod}/{container}", any(attach::answer))
        .route("/portForward/{namespace}/{pod}", any(port_forward::answer))
        .with_state(host)
}

fn refusal() -> Router {
    Router::new().fallback(async || (StatusCode::FORBIDDEN, "Forbidden"))
}

/// The path parameters of every stream of a container.
pub(crate) type Address = axum::extract::Path<(String, String, String)>;

/// A pod on this node, with what its init last said.
struct Found {
    record: Record,
    state: State,
}

impl Found {
    fn running(&self, container: &str) -> Result<&Run, Refusal> {
        let history = self.state.containers.get(container);
        history
            .map(|history| &history.current)
            .filter(|run| run.ended.is_none())
            .ok_or_else(|| {
                let message = format!("container not found ({container:?})");
                (StatusCode::INTERNAL_SERVER_ERROR, message)
            })
    }
}

fn find(paths: &Paths, namespace: &str, pod: &str) -> Result<Found, Refusal> {
    let records = sandbox::records(paths).into_iter();
    let record = records
        .filter(|record| record.namespace == namespace && record.name == pod)
        .max_by_key(|record| record.started_ns)
        .ok_or_else(|| (StatusCode::NOT_FOUND, "pod does not exist".to_owned()))?;
    let state = state(paths, &record.uid);
    Ok(Found { record, state })
}

fn state(paths: &Paths, pod_uid: &str) -> State {
    let text = std::fs::read(paths.pod(pod_uid).join(STATE)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}
