//! `/healthz` and `/livez` of the proxy, with kube-proxy's answers.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use serde::Serialize;

use super::{Watched, pulse};
use crate::metrics::Probe;

/// A time before any update, as Go writes its zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    status: BTreeMap<&'static str, FamilyStatus>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyStatus {
    last_updated: String,
    healthy: bool,
}

pub(super) fn router() -> Router<Watched> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/livez", get(livez))
}

/// Says no as well when the node is about to go, so that load balancers look for another.
pub(super) async fn healthz(State(watched): State<Watched>) -> Response {
    let eligible = watched.states.borrow().node_eligible;
    let answer = body(&watched, Some(eligible));
    respond(&watched, Probe::Healthz, &answer)
}

async fn livez(State(watched): State<Watched>) -> Response {
    let answer = body(&watched, None);
    respond(&watched, Probe::Livez, &answer)
}

fn body(watched: &Watched, node_eligible: Option<bool>) -> Body {
    let health = watched.vitals.pulse.health(Instant::now());
    let good = health.state == pulse::State::Good;
    let updated = health.updated_at.map_or_else(|| NEVER.to_owned(), text);
    let now = text(SystemTime::now());
    let healthy = good && node_eligible != Some(false);
    let of_family = FamilyStatus {
        last_updated: updated.clone(),
        healthy: good,
    };
    Body {
        // Whoever is healthy is up to date, even if nothing has changed for long.
        last_updated: if healthy { now.clone() } else { updated },
        current_time: now,
        node_eligible,
        healthy,
        status: [("IPv4", of_family.clone()), ("IPv6", of_family)].into(),
    }
}

fn text(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| NEVER.to_owned(), |time| time.to_string())
}

fn respond(watched: &Watched, probe: Probe, body: &Body) -> Response {
    let status = if body.healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    watched.vitals.metrics.probed(probe, status.as_u16());
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    match serde_json::to_string(body) {
        Ok(text) => (status, headers, text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
