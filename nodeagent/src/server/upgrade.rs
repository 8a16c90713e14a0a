//! The two ways a client may ask for a stream: a WebSocket, or SPDY/3.1 on the bare connection as older clients do.

use axum::extract::FromRequestParts;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::Refusal;

/// What the kubelet takes at once.
const MESSAGE_BYTES_MAX: usize = 32 << 20;
const SPDY: &str = "SPDY/3.1";
/// Names the protocols inside SPDY, as `Sec-WebSocket-Protocol` does those inside a WebSocket.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// A request for a stream, of either sort.
pub(super) enum Upgrade {
    WebSocket(Result<WebSocketUpgrade, WebSocketUpgradeRejection>),
    Spdy { on: OnUpgrade, offered: Vec<String> },
}

/// What is spoken in the stream, one list for each way to ask.
pub(super) struct Protocols<'a> {
    pub(super) web_socket: &'a [&'static str],
    pub(super) spdy: &'a [&'static str],
}

/// The connection once it has changed its protocol.
pub(super) enum Socket {
    WebSocket(Box<WebSocket>),
    Spdy(TokioIo<Upgraded>),
}

/// A request whose protocol is settled.
pub(super) struct Agreed {
    upgrade: Settled,
    pub(super) protocol: String,
}

enum Settled {
    WebSocket(WebSocketUpgrade),
    Spdy(OnUpgrade),
}

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let asked = parts.headers.get(header::UPGRADE);
        let is_spdy =
            asked.is_some_and(|asked| asked.as_bytes().eq_ignore_ascii_case(SPDY.as_bytes()));
        if is_spdy && let Some(on) = parts.extensions.remove::<OnUpgrade>() {
            let offered = offered(&parts.headers);
            return Ok(Upgrade::Spdy { on, offered });
        }
        let upgrade = <WebSocketUpgrade as FromRequestParts<S>>::from_request_parts(parts, state);
        Ok(Upgrade::WebSocket(upgrade.await))
    }
}

/// The client's protocols, best first, in one header or several.
fn offered(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(STREAM_PROTOCOL).into_iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let words = lines.flat_map(|line| line.split(','));
    words.map(|word| word.trim().to_owned()).collect()
}

impl Upgrade {
    /// Settles on the client's best protocol that is spoken here.
    pub(super) fn agree(self, spoken: &Protocols<'_>) -> Result<Agreed, Refusal> {
        match self {
            Upgrade::WebSocket(upgrade) => agree_on_web_socket(upgrade, spoken.web_socket),
            Upgrade::Spdy { on, offered } => {
                let is_spoken = |protocol: &&String| spoken.spdy.contains(&protocol.as_str());
                match offered.iter().find(is_spoken) {
                    Some(protocol) => Ok(Agreed {
                        upgrade: Settled::Spdy(on),
                        protocol: protocol.clone(),
                    }),
                    None => Err((
                        StatusCode::FORBIDDEN,
                        format!(
                            "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {:?}",
                            spoken.spdy
                        ),
                    )),
                }
            }
        }
    }
}

fn agree_on_web_socket(
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    spoken: &[&'static str],
) -> Result<Agreed, Refusal> {
    let upgrade = upgrade.map_err(|rejection| {
        let message = format!(
            "only WebSocket and {SPDY} are spoken here: {}",
            rejection.body_text()
        );
        (StatusCode::BAD_REQUEST, message)
    })?;
    let upgrade = upgrade
        .protocols(spoken.iter().copied())
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX);
    let protocol = upgrade.selected_protocol();
    let protocol = protocol.and_then(|protocol| protocol.to_str().ok());
    match protocol.map(str::to_owned) {
        Some(protocol) => Ok(Agreed {
            upgrade: Settled::WebSocket(upgrade),
            protocol,
        }),
        None => Err((
            StatusCode::BAD_REQUEST,
            format!(
                "one of these subprotocols is required: {}",
                spoken.join(", ")
            ),
        )),
    }
}

impl Agreed {
    /// Answers the request, and serves the connection afterwards.
    pub(super) fn on_upgrade<F>(self, serve: impl FnOnce(Socket) -> F + Send + 'static) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Agreed { upgrade, protocol } = self;
        match upgrade {
            Settled::WebSocket(upgrade) => upgrade
                .on_upgrade(async move |socket| serve(Socket::WebSocket(Box::new(socket))).await),
            Settled::Spdy(on) => {
                tokio::spawn(async move {
                    // A client that is gone before the first byte needs no service.
                    if let Ok(upgraded) = on.await {
                        serve(Socket::Spdy(TokioIo::new(upgraded))).await;
                    }
                });
                switching(&protocol)
            }
        }
    }
}

fn switching(protocol: &str) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
    if let Ok(protocol) = HeaderValue::from_str(protocol) {
        headers.insert(STREAM_PROTOCOL, protocol);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_come_in_one_header_or_several() {
        let mut headers = HeaderMap::new();
        for line in ["v5.channel.k8s.io, v4.channel.k8s.io", "v3.channel.k8s.io"] {
            headers.append(STREAM_PROTOCOL, HeaderValue::from_static(line));
        }
        let expected = [
            "v5.channel.k8s.io",
            "v4.channel.k8s.io",
            "v3.channel.k8s.io",
        ];
        assert_eq!(offered(&headers), expected);
    }
}
