//! The agent's HTTPS server on the kubelet's paths: logs, exec, attach. Believes only clients of the cluster's CA.

mod attach;
mod channel;
mod exec;
mod logs;
mod query;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::agent::ServingIdentity;
use crate::host::Host;
use crate::paths::Paths;
use crate::pod::sandbox::{self, Record};
use crate::protocol::{STATE, State};

/// What keeps the server from starting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("listening on port {0}")]
    Listen(u16, #[source] io::Error),
    #[error("reading the serving certificate")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("using the serving certificate")]
    Tls(#[from] rustls::Error),
    #[error("using the client authority")]
    Authority(#[from] rustls::server::VerifierBuilderError),
}

/// An answer that is not what was asked for: a status and a sentence, as the kubelet gives.
pub(crate) type Refusal = (StatusCode, String);

/// Listens and serves until dropped.
pub(crate) async fn serve(
    host: Arc<Host>,
    identity: ServingIdentity,
    port: u16,
) -> Result<(), Error> {
    let acceptor = acceptor(&identity)?;
    let listener = listen(port)
        .await
        .map_err(|error| Error::Listen(port, error))?;
    let router = router(host);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(serve_connection(stream, acceptor.clone(), router.clone()));
    }
}

async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
        }
        other => other,
    }
}

async fn serve_connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = TowerToHyperService::new(router);
    let builder = Builder::new(TokioExecutor::new());
    let served = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
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
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    // WebSockets need HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn router(host: Arc<Host>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route(
            "/containerLogs/{namespace}/{pod}/{container}",
            get(logs::answer),
        )
        .route("/exec/{namespace}/{pod}/{container}", get(exec::answer))
        .route("/attach/{namespace}/{pod}/{container}", get(attach::answer))
        .with_state(host)
}

/// The path parameters of every stream.
pub(crate) type Address = axum::extract::Path<(String, String, String)>;

/// A pod on this node, with what its init last said.
struct Found {
    record: Record,
    state: State,
}

fn find(paths: &Paths, namespace: &str, pod: &str) -> Result<Found, Refusal> {
    let records = sandbox::records(paths).into_iter();
    let record = records
        .filter(|record| record.namespace == namespace && record.name == pod)
        .max_by_key(|record| record.started_ns);
    let Some(record) = record else {
        return Err((
            StatusCode::NOT_FOUND,
            format!("pod \"{pod}_{namespace}\" not found"),
        ));
    };
    let text = std::fs::read(paths.pod(&record.uid).join(STATE)).unwrap_or_default();
    let state = serde_json::from_slice(&text).unwrap_or_default();
    Ok(Found { record, state })
}

fn not_running(container: &str, pod: &str) -> Refusal {
    let message = format!("container {container:?} in pod {pod:?} is not running");
    (StatusCode::BAD_REQUEST, message)
}
