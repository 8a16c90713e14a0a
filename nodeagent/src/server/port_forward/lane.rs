//! One forwarded connection: bytes between a socket in the pod and the client's part of the WebSocket.

use axum::extract::ws::{Message, WebSocket};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::super::backlog::{self, Measured, Room};
use super::target::Target;
use crate::spdy::frame::Frame;
use crate::spdy::{End, StreamId};

const READ_BYTES: usize = 32 * 1024;
/// What waits for the client, and what waits for the pod, all connections of a client together.
const WAITING_BYTES_MAX: u32 = 1 << 20;

/// What a client sends into a connection; dropping the sender breaks it off.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    Data(Bytes),
    End,
}

impl Measured for Input {
    fn size(&self) -> usize {
        match self {
            Self::Data(bytes) => bytes.len(),
            Self::End => 0,
        }
    }
}

/// The way to a connection.
pub(super) type Sender = backlog::Sender<Input>;
pub(super) type Receiver = backlog::Receiver<Input>;
/// The way to the client.
pub(super) type Outbound = backlog::Sender<Bytes>;

/// How a connection's bytes are marked as its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Spdy { data: StreamId, error: StreamId },
    Channels { data: u8, error: u8 },
}

impl Lane {
    fn data(self, payload: Bytes) -> Bytes {
        match self {
            Self::Spdy { data, .. } => spdy(data, payload, End::Open),
            Self::Channels { data, .. } => channel(data, &payload),
        }
    }

    fn failure(self, text: &str) -> Bytes {
        match self {
            Self::Spdy { error, .. } => {
                spdy(error, Bytes::copy_from_slice(text.as_bytes()), End::Open)
            }
            Self::Channels { error, .. } => channel(error, text.as_bytes()),
        }
    }

    /// Channels know no end but the WebSocket's.
    fn end(self) -> Bytes {
        match self {
            Self::Spdy { data, error } => {
                let mut out = BytesMut::new();
                for stream in [data, error] {
                    out.put(spdy(stream, Bytes::new(), End::Finished));
                }
                out.freeze()
            }
            Self::Channels { .. } => Bytes::new(),
        }
    }
}

fn spdy(stream: StreamId, payload: Bytes, end: End) -> Bytes {
    Frame::Data {
        stream,
        payload,
        end,
    }
    .to_bytes()
}

/// A channel's number, then its bytes.
pub(super) fn channel(number: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + 1);
    frame.put_u8(number);
    frame.put_slice(payload);
    frame.freeze()
}

/// Room for what waits on the ways into a client's connections.
pub(super) fn room() -> Room {
    Room::new(WAITING_BYTES_MAX)
}

/// A way to the client; the future carries what is sent there, and closes when all senders are gone.
pub(super) fn outbound(
    mut sink: SplitSink<WebSocket, Message>,
) -> (Outbound, impl Future<Output = ()> + Send + 'static) {
    let (outbound, mut frames) = room().queue::<Bytes>();
    let carry = async move {
        while let Some(frame) = frames.recv().await {
            if sink.send(Message::Binary(frame.value)).await.is_err() {
                return;
            }
        }
        let _ = sink.send(crate::server::channel::closing()).await;
    };
    (outbound, carry)
}

/// The same on a connection of the client's own.
pub(super) fn bare_outbound(
    mut writer: WriteHalf<TokioIo<Upgraded>>,
) -> (Outbound, impl Future<Output = ()> + Send + 'static) {
    let (outbound, mut frames) = room().queue::<Bytes>();
    let carry = async move {
        while let Some(frame) = frames.recv().await {
            if writer.write_all(&frame.value).await.is_err() {
                return;
            }
        }
        let _ = writer.shutdown().await;
    };
    (outbound, carry)
}

/// Carries one connection from its beginning to its end.
pub(super) async fn run(
    lane: Lane,
    target: Target,
    port: u16,
    input: Receiver,
    outbound: Outbound,
) {
    let outcome = match target.connect(port).await {
        Ok(stream) => copy(lane, stream, input, &outbound).await,
        Err(failure) => Err(failure),
    };
    // A client that is gone needs no last words.
    if let Err(failure) = outcome {
        let _ = outbound.send(lane.failure(&failure)).await;
    }
    let end = lane.end();
    if !end.is_empty() {
        let _ = outbound.send(end).await;
    }
}

async fn copy(
    lane: Lane,
    stream: TcpStream,
    input: Receiver,
    outbound: &Outbound,
) -> Result<(), String> {
    let (reader, writer) = stream.into_split();
    tokio::select! {
        result = to_client(lane, reader, outbound) => result,
        () = to_pod(writer, input) => Ok(()),
    }
}

async fn to_client(
    lane: Lane,
    mut reader: OwnedReadHalf,
    outbound: &Outbound,
) -> Result<(), String> {
    loop {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        match reader.read_buf(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(format!("reading from the pod: {error}")),
        }
        if outbound.send(lane.data(buffer.freeze())).await.is_err() {
            return Ok(());
        }
    }
}

/// Ends only when the client breaks off: after its last byte the pod may still answer.
async fn to_pod(mut writer: OwnedWriteHalf, mut input: Receiver) {
    let mut is_open = true;
    while let Some(next) = input.recv().await {
        if !is_open {
            continue;
        }
        let written = match &next.value {
            Input::Data(bytes) => writer.write_all(bytes).await.is_ok(),
            Input::End => writer.shutdown().await.is_ok_and(|()| false),
        };
        is_open = written;
    }
}
