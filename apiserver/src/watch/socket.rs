//! A watch over a WebSocket, as browsers open it: one text message for each event. What the client says is passed over.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        FromRequestParts,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    },
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, Request, header};
use knarr_api::status::Status;
use tokio::time::timeout;

use super::feed::Feed;
use crate::{call::Call, serve::Exchange};

/// A client has nothing to say here.
const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// How long a client may read nothing.
const UNREAD_MAX: Duration = Duration::from_secs(60);

/// Whether a client wants a WebSocket.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let names = |name: header::HeaderName, wanted: &str| {
        let values = headers.get_all(name).into_iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        let mut words = texts.flat_map(|text| text.split(',').map(str::trim));
        words.any(|word| word.eq_ignore_ascii_case(wanted))
    };
    names(header::CONNECTION, "upgrade") && names(header::UPGRADE, "websocket")
}

/// Changes the protocol, and tells the feed's events from there on.
pub(super) async fn open(call: &mut Call, feed: Feed) -> Result<Response, Status> {
    let exchange = call.extensions.remove::<Arc<Exchange>>();
    let mut request = Request::new(());
    *request.method_mut() = call.method.clone();
    *request.headers_mut() = call.headers.clone();
    *request.extensions_mut() = std::mem::take(&mut call.extensions);
    let (mut parts, ()) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|rejection| Status::bad_request(rejection.body_text()))?;
    let offered = parts.headers.get(header::SEC_WEBSOCKET_PROTOCOL);
    let offered = offered.and_then(|value| value.to_str().ok());
    let response = upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .protocols(offered.map(|protocol| protocol.trim().to_owned()))
        .on_upgrade(async |socket| {
            tell(socket, feed).await;
            drop(exchange);
        });
    Ok(response)
}

/// Sends events until there are no more, or the client is gone or reads nothing.
async fn tell(mut socket: WebSocket, mut feed: Feed) {
    loop {
        let lines = tokio::select! {
            lines = feed.next() => lines,
            said = socket.recv() => match said {
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
        };
        let Some(lines) = lines else {
            break;
        };
        for line in events(&lines) {
            let sent = timeout(UNREAD_MAX, socket.send(Message::text(line))).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    }
    let close = CloseFrame {
        code: close_code::NORMAL,
        reason: "".into(),
    };
    // Whoever is gone by now has all there was to tell.
    let _ = timeout(UNREAD_MAX, socket.send(Message::Close(Some(close)))).await;
}

/// The events of some lines, each with the end of its line.
fn events(lines: &Bytes) -> impl Iterator<Item = String> {
    let lines = lines.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_browser_asks_by_two_headers() {
        let check = |connection: &'static str, upgrade: &'static str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONNECTION, HeaderValue::from_static(connection));
            headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
            assert_eq!(is_wanted(&headers), expected, "{connection} {upgrade}");
        };
        check("Upgrade", "websocket", true);
        check("keep-alive, upgrade", "WebSocket", true);
        check("keep-alive", "websocket", false);
        check("Upgrade", "SPDY/3.1", false);
    }

    #[test]
    fn each_event_is_a_message() {
        let lines = Bytes::from_static(b"{\"a\":1}\n{\"b\":2}\n");
        let events: Vec<String> = events(&lines).collect();
        assert_eq!(events, ["{\"a\":1}\n", "{\"b\":2}\n"]);
    }
}
