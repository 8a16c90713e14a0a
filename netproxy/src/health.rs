//! The proxy's own HTTP: `/healthz` and its kin, and one server per health-check node port.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use knarr_netproxy_plan::HealthCheck;
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::state::Published;

/// kube-proxy's health port.
const HEALTH_PORT: u16 = 10_256;
/// kube-proxy's metrics port, on loopback only.
const METRICS_PORT: u16 = 10_249;

type States = watch::Receiver<Arc<Published>>;

/// Serves health and metrics, and each health-check node port for as long as a Service has it.
pub(crate) async fn run(mut states: States, shutdown: CancellationToken) {
    let health = Router::new()
        .route("/healthz", get(healthz))
        .route("/livez", get(healthz));
    let metrics = Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .route("/proxyMode", get(|| async { "nftables" }));
    let loopback = IpAddr::from([127, 0, 0, 1]);
    start(
        any(HEALTH_PORT),
        health.with_state(states.clone()),
        shutdown.clone(),
    );
    let local = SocketAddr::new(loopback, METRICS_PORT);
    start(local, metrics.with_state(states.clone()), shutdown.clone());
    let mut checks: BTreeMap<u16, CancellationToken> = BTreeMap::new();
    loop {
        let wanted = states.borrow_and_update().health_checks.clone();
        checks.retain(|port, stop| {
            let keep = wanted.contains_key(port);
            if !keep {
                stop.cancel();
            }
            keep
        });
        for port in wanted.keys() {
            checks.entry(*port).or_insert_with(|| {
                let stop = shutdown.child_token();
                let port = *port;
                let router =
                    Router::new().fallback(move |State(states): State<States>| async move {
                        service_health(port, &states.borrow())
                    });
                start(any(port), router.with_state(states.clone()), stop.clone());
                stop
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = states.changed() => if changed.is_err() { return },
        }
    }
}

/// Every address of both families.
fn any(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)
}

/// A port that somebody else has is a warning: packets flow without it.
fn start(address: SocketAddr, router: Router, stop: CancellationToken) {
    tokio::spawn(async move {
        match listen(address).await {
            Ok(listener) => {
                let serving = axum::serve(listener, router);
                tokio::select! {
                    () = stop.cancelled() => {}
                    ended = serving => if let Err(error) = ended {
                        tracing::warn!("{address}: {error}");
                    },
                }
            }
            Err(error) => tracing::warn!("health checks on {address} are not served: {error}"),
        }
    });
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

async fn healthz(State(states): State<States>) -> Response {
    let state = states.borrow().clone();
    let time = |at: Option<SystemTime>| {
        at.and_then(|at| Timestamp::try_from(at).ok())
            .map(|at| at.to_string())
            .unwrap_or_default()
    };
    let updated = time(state.succeeded_at);
    let family = json!({ "lastUpdated": updated, "healthy": state.healthy });
    let body = json!({
        "lastUpdated": updated,
        "currentTime": time(Some(SystemTime::now())),
        "nodeEligible": true,
        "healthy": state.healthy,
        "status": { "IPv4": family, "IPv6": family },
    });
    let status = if state.healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, body.to_string()).into_response()
}

fn service_health(port: u16, state: &Published) -> Response {
    let Some(HealthCheck {
        service,
        local_endpoint_count: count,
    }) = state.health_checks.get(&port)
    else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let healthy = state.healthy;
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\
         \"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": {healthy}\n}}",
        service.namespace, service.name,
    );
    let status = match (count, healthy) {
        (1.., true) => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("x-content-type-options", "nosniff".to_owned()),
        ("x-load-balancing-endpoint-weight", count.to_string()),
    ];
    (status, headers, body).into_response()
}

async fn metrics(State(states): State<States>) -> Response {
    let state = states.borrow().clone();
    let seconds = |at: Option<SystemTime>| {
        let since = at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        since.map_or(0.0, |since| since.as_secs_f64())
    };
    let took = state.took.as_secs_f64();
    let figures = [
        (
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            seconds(state.succeeded_at),
        ),
        (
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
            seconds(state.at),
        ),
        ("knarr_sync_last_duration_seconds", took),
        (
            "knarr_frontends",
            f64::from(u32::try_from(state.frontend_count).unwrap_or(u32::MAX)),
        ),
    ];
    let lines = figures.map(|(name, value)| format!("# TYPE {name} gauge\n{name} {value}\n"));
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        lines.concat(),
    )
        .into_response()
}
