//! `/portForward`: connections into a pod's netns, many over one WebSocket or SPDY session. Speaks all protocols that clients have.

mod channels;
mod lane;
mod target;
mod tunnel;

use std::sync::Arc;

use axum::extract::{RawQuery, State as Shared};
use axum::http::StatusCode;
use axum::response::Response;

use super::query::Query;
use super::upgrade::{Protocols, Socket, Upgrade};
use super::{Refusal, find};
use crate::host::Host;
use target::Target;

/// A whole SPDY session in binary frames, as kubectl speaks it.
const SPDY: &str = "SPDY/3.1+portforward.k8s.io";
const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const PROTOCOLS: Protocols<'static> = Protocols {
    web_socket: &[SPDY, V5, V4],
    spdy: &["portforward.k8s.io"],
};

/// Answers a request to forward ports.
pub(super) async fn answer(
    Shared(host): Shared<Arc<Host>>,
    axum::extract::Path((namespace, pod)): axum::extract::Path<(String, String)>,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
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
    let upgrade = upgrade.agree(&PROTOCOLS)?;
    let ports = match upgrade.protocol.as_str() {
        V5 | V4 => channels::ports(&query).map_err(|text| (StatusCode::BAD_REQUEST, text))?,
        _ => Vec::new(),
    };
    Ok(upgrade.on_upgrade(async move |socket| match socket {
        Socket::Spdy(connection) => tunnel::run_bare(connection, target).await,
        Socket::WebSocket(socket) if ports.is_empty() => tunnel::run(*socket, target).await,
        Socket::WebSocket(socket) => channels::run(*socket, target, ports).await,
    }))
}
