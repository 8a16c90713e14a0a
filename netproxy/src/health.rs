//! The proxy's own HTTP: `/healthz` and its kin, metrics, and one server per health-check node port.
//!
//! Tells what others found out.

mod proxy;
pub(crate) mod pulse;
mod service;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    census,
    connections::Connections,
    events::{Happening, Recorder, Regarding},
    metrics::Metrics,
    state::Published,
};
use pulse::Pulse;

/// kube-proxy's health port.
const HEALTH_PORT: u16 = 10_256;
/// kube-proxy's metrics port, on loopback only.
const METRICS_PORT: u16 = 10_249;
/// A port that somebody else has may be free later.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the sync reports and others tell.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    pub(crate) pulse: Pulse,
    pub(crate) metrics: Metrics,
}

/// What the answers rest on.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) states: watch::Receiver<Arc<Published>>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) census: census::Asker,
}

/// Serves until shutdown.
pub(crate) async fn run(
    watched: Watched,
    node_name: String,
    recorder: Recorder,
    shutdown: CancellationToken,
) {
    let trouble = |what: &str| Trouble {
        regarding: Regarding::Node,
        reason: "FailedToStartProxierHealthcheck",
        message: format!("failed to start proxy {what}"),
    };
    let metrics = Router::new()
        .route("/healthz", get(proxy::healthz))
        .route("/metrics", get(metrics))
        .route("/proxyMode", get(|| async { "nftables" }))
        .with_state(watched.clone());
    let health = proxy::router().with_state(watched.clone());
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, METRICS_PORT));
    let stop = || shutdown.clone();
    tokio::join!(
        serve(
            any(HEALTH_PORT),
            health,
            trouble("healthz"),
            recorder.clone(),
            stop()
        ),
        serve(local, metrics, trouble("metrics"), recorder.clone(), stop()),
        service::run(watched, &node_name, recorder, stop()),
    );
}

/// Every address of both families.
fn any(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)
}

/// What is said of a port that cannot be had.
struct Trouble {
    regarding: Regarding,
    reason: &'static str,
    message: String,
}

/// Serves until `stop`, as soon as the port can be had.
async fn serve(
    address: SocketAddr,
    router: Router,
    trouble: Trouble,
    recorder: Recorder,
    stop: CancellationToken,
) {
    let mut untold = Some(trouble);
    let listener = loop {
        let error = match listen(address).await {
            Ok(listener) => break listener,
            Err(error) => error,
        };
        if let Some(trouble) = untold.take() {
            let Trouble {
                regarding,
                reason,
                message,
            } = trouble;
            let message = format!("{message}: {error}");
            recorder.record(Happening {
                regarding,
                reason,
                message,
            });
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY_INTERVAL) => {}
        }
    };
    let serving = axum::serve(listener, router);
    tokio::select! {
        () = stop.cancelled() => {}
        ended = serving => if let Err(error) = ended {
            tracing::warn!("{address}: {error}");
        },
    }
}

/// A host without IPv6 is served over IPv4.
async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], address.port()))).await
        }
        result => result,
    }
}

async fn metrics(State(watched): State<Watched>) -> impl IntoResponse {
    let census = watched.census.ask().await;
    let connections = match &census {
        Some(census) => Connections::count(census.owners.clone()).await,
        None => Connections::default(),
    };
    let text = watched.vitals.metrics.text(census.as_ref(), connections);
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text)
}
