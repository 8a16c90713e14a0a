//! One HTTP server per health-check node port: whether this node has endpoints of its Service.

use std::{collections::BTreeMap, time::Instant};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use knarr_netproxy_plan::HealthCheck;
use tokio_util::sync::CancellationToken;

use super::{Trouble, Watched, any, pulse, serve};
use crate::events::{Recorder, Regarding};

/// kube-proxy's word for a port that somebody else has.
const REASON: &str = "FailedToStartServiceHealthcheck";

/// Serves each port for as long as a Service has it.
pub(super) async fn run(
    mut watched: Watched,
    node_name: &str,
    recorder: Recorder,
    shutdown: CancellationToken,
) {
    let mut serving: BTreeMap<u16, CancellationToken> = BTreeMap::new();
    loop {
        let wanted = watched.states.borrow_and_update().health_checks.clone();
        serving.retain(|port, stop| {
            let keep = wanted.contains_key(port);
            if !keep {
                stop.cancel();
            }
            keep
        });
        for (port, check) in wanted {
            serving.entry(port).or_insert_with(|| {
                let stop = shutdown.child_token();
                let trouble = Trouble {
                    regarding: Regarding::Service(check.service.clone()),
                    reason: REASON,
                    message: format!(
                        "node {node_name} failed to start healthcheck \"{}\" on port {port}",
                        check.service
                    ),
                };
                let router = router(port).with_state(watched.clone());
                tokio::spawn(serve(
                    any(port),
                    router,
                    trouble,
                    recorder.clone(),
                    stop.clone(),
                ));
                stop
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = watched.states.changed() => if changed.is_err() { return },
        }
    }
}

/// Any path and any method.
fn router(port: u16) -> Router<Watched> {
    Router::new().fallback(move |State(watched): State<Watched>| async move {
        let check = watched.states.borrow().health_checks.get(&port).cloned();
        let health = watched.vitals.pulse.health(Instant::now());
        check.map_or_else(
            || StatusCode::NOT_FOUND.into_response(),
            |check| answer(&check, health.state),
        )
    })
}

fn answer(check: &HealthCheck, state: pulse::State) -> Response {
    let HealthCheck {
        service,
        local_endpoint_count: count,
    } = check;
    let healthy = state == pulse::State::Good;
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
