//! The protocols of exec and attach: `v5.channel.k8s.io` and its elder `v4`.
//!
//! In a WebSocket, one byte of channel, then data; over SPDY a stream for each channel.

mod streams;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};

use super::query::Query;
use super::upgrade::{Protocols, Socket};

/// The protocols spoken, best first.
pub(super) const PROTOCOLS: Protocols<'static> = Protocols {
    web_socket: &["v5.channel.k8s.io", "v4.channel.k8s.io"],
    spdy: &["v4.channel.k8s.io"],
};

/// The streams a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct Wants {
    pub(in crate::server) stdin: bool,
    pub(in crate::server) stdout: bool,
    pub(in crate::server) stderr: bool,
    /// A terminal, which stands for all three.
    pub(in crate::server) tty: bool,
}

impl Wants {
    /// The kubelet's names for them, or the API's.
    pub(in crate::server) fn of(query: &Query) -> Self {
        let says = |name: &str, api_name: &str| query.says(name) || query.says(api_name);
        Self {
            stdin: says("input", "stdin"),
            stdout: says("output", "stdout"),
            stderr: says("error", "stderr"),
            tty: query.says("tty"),
        }
    }
}

/// Where a frame belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    Error = 3,
    Resize = 4,
    /// v5: the payload names the channel that ends.
    Close = 255,
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    Stdin(Bytes),
    StdinEnd,
    Resize {
        width: u16,
        height: u16,
    },
    /// The client is gone.
    End,
}

/// The sending half.
pub(super) enum Sender {
    WebSocket(SplitSink<WebSocket, Message>),
    Spdy(streams::Sender),
}

/// The receiving half.
pub(super) enum Receiver {
    WebSocket(SplitStream<WebSocket>),
    Spdy(Box<streams::Receiver>),
}

/// The client is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// Splits a socket into its halves; a SPDY client has to open a stream for each channel first.
pub(super) async fn split(socket: Socket, wants: Wants) -> Result<(Sender, Receiver), Gone> {
    match socket {
        Socket::WebSocket(socket) => {
            let (sink, stream) = (*socket).split();
            Ok((Sender::WebSocket(sink), Receiver::WebSocket(stream)))
        }
        Socket::Spdy(connection) => {
            let (sender, receiver) = streams::open(connection, wants).await?;
            Ok((Sender::Spdy(sender), Receiver::Spdy(Box::new(receiver))))
        }
    }
}

impl Sender {
    /// Sends data on a channel.
    pub(super) async fn send(&mut self, channel: Channel, data: &[u8]) -> Result<(), Gone> {
        match self {
            Sender::WebSocket(sink) => {
                let mut frame = Vec::with_capacity(data.len() + 1);
                frame.push(channel as u8);
                frame.extend_from_slice(data);
                let sent = sink.send(Message::Binary(frame.into())).await;
                sent.map_err(|_| Gone)
            }
            Sender::Spdy(sender) => sender.send(channel, data).await,
        }
    }

    /// Says how it ended, and closes.
    pub(super) async fn finish(mut self, status: &Value) {
        let text = status.to_string();
        if self.send(Channel::Error, text.as_bytes()).await.is_err() {
            return;
        }
        match self {
            Sender::WebSocket(mut sink) => {
                let _ = sink.send(closing()).await;
            }
            Sender::Spdy(sender) => sender.close().await,
        }
    }

    /// Asks whether the client is still there.
    pub(super) async fn ping(&mut self) -> Result<(), Gone> {
        match self {
            Sender::WebSocket(sink) => {
                let sent = sink.send(Message::Ping(Bytes::new())).await;
                sent.map_err(|_| Gone)
            }
            Sender::Spdy(sender) => sender.ping().await,
        }
    }
}

/// The end that clients take for a good one.
pub(super) fn closing() -> Message {
    Message::Close(Some(CloseFrame {
        code: close_code::NORMAL,
        reason: Utf8Bytes::from_static(""),
    }))
}

impl Receiver {
    /// The next thing the client wants; pings are answered below us.
    pub(super) async fn next(&mut self) -> Input {
        let stream = match self {
            Receiver::WebSocket(stream) => stream,
            Receiver::Spdy(receiver) => return receiver.next().await,
        };
        loop {
            match stream.next().await {
                Some(Ok(message)) => {
                    if let Some(input) = meaning(message) {
                        return input;
                    }
                }
                Some(Err(_)) | None => return Input::End,
            }
        }
    }
}

fn meaning(message: Message) -> Option<Input> {
    match message {
        Message::Binary(frame) => read(&frame),
        // Python's client sends what it was given as text in text frames.
        Message::Text(frame) => read(&frame.into()),
        Message::Close(_) => Some(Input::End),
        Message::Ping(_) | Message::Pong(_) => None,
    }
}

fn read(frame: &Bytes) -> Option<Input> {
    let (channel, data) = frame.split_first()?;
    if *channel == Channel::Stdin as u8 {
        // Elder clients end stdin by closing; an empty frame only opens the channel.
        return (!data.is_empty()).then(|| Input::Stdin(frame.slice(1..)));
    }
    if *channel == Channel::Close as u8 {
        return (data == [Channel::Stdin as u8]).then_some(Input::StdinEnd);
    }
    if *channel == Channel::Resize as u8 {
        return resize(&serde_json::from_slice(data).ok()?);
    }
    None
}

/// A new size of the terminal.
fn resize(size: &Value) -> Option<Input> {
    let side = |key: &str| u16::try_from(size.get(key)?.as_u64()?).ok();
    Some(Input::Resize {
        width: side("Width")?,
        height: side("Height")?,
    })
}

/// What a frame asks for, in a word.
pub(crate) fn word(frame: &Bytes) -> Option<&'static str> {
    Some(match read(frame)? {
        Input::Stdin(_) => "stdin",
        Input::StdinEnd => "the end of stdin",
        Input::Resize { .. } => "resize",
        Input::End => "the end",
    })
}

/// The status of a process that ended with this exit code.
pub(super) fn exit_status(code: i32) -> Value {
    if code == 0 {
        return json!({ "metadata": {}, "status": "Success" });
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with exit code {code}"),
        "reason": "NonZeroExitCode",
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    })
}

/// The status of a process that could not be started.
pub(super) fn failure(message: &str) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frame: &'static [u8], expected: Option<Input>) {
        assert_eq!(read(&Bytes::from_static(frame)), expected, "{frame:?}");
    }

    #[test]
    fn text_frames_are_read_like_binary_ones() {
        let expected = Some(Input::Stdin(Bytes::from_static(b"hi")));
        assert_eq!(meaning(Message::Text("\0hi".into())), expected);
        assert_eq!(
            meaning(Message::Binary(Bytes::from_static(b"\0hi"))),
            expected
        );
        assert_eq!(meaning(Message::Ping(Bytes::new())), None);
        assert_eq!(meaning(Message::Close(None)), Some(Input::End));
    }

    #[test]
    fn frames_are_read_by_channel() {
        check(b"\0hi", Some(Input::Stdin(Bytes::from_static(b"hi"))));
        check(b"\0", None);
        check(b"\xff\0", Some(Input::StdinEnd));
        check(b"\xff\x01", None);
        check(
            b"\x04{\"Width\":80,\"Height\":24}",
            Some(Input::Resize {
                width: 80,
                height: 24,
            }),
        );
        check(b"\x04{\"Width\":-1}", None);
        check(b"\x09x", None);
        check(b"", None);
    }
}
