//! `/portForward`: connections into a pod's netns, many over one WebSocket. Speaks both protocols that clients have.

mod channels;
mod lane;
mod target;
mod tunnel;

use std::sync::Arc;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{RawQuery, State as Shared, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::Response;

use super::query::Query;
use super::{Refusal, channel, find, upgraded};
use crate::host::Host;
use target::Target;

/// A whole SPDY session in binary frames, as kubectl speaks it.
const SPDY: &str = "SPDY/3.1+portforward.k8s.io";

/// Answers a request to forward ports.
pub(super) async fn answer(
    Shared(host): Shared<Arc<Host>>,
    axum::extract::Path((namespace, pod)): axum::extract::Path<(String, String)>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let found = find(&host.paths, &namespace, &pod)?;
    let is_running = |state: &crate::protocol::State| {
        let mut histories = state.containers.values();
        histories.any(|history| history.current.ended.is_none())
    };
    if !is_running(&found.state) {
        let message = format!("unable to forward port because pod {pod:?} is not running");
        return Err((StatusCode::INTERNAL_SERVER_ERROR, message));
    }
    let target = Target::new(&host.paths, &found.record);
    let query = Query::parse(query.as_deref());
    let [v5, v4] = channel::PROTOCOLS;
    let (upgrade, protocol) = upgraded(upgrade, [SPDY, v5, v4])?;
    if protocol == SPDY {
        return Ok(upgrade.on_upgrade(async move |socket| tunnel::run(socket, target).await));
    }
    let ports = channels::ports(&query).map_err(|text| (StatusCode::BAD_REQUEST, text))?;
    Ok(upgrade.on_upgrade(async move |socket| channels::run(socket, target, ports).await))
}
