//! Port forwarding as kubectl does it: a SPDY/3.1 session, in a WebSocket or bare, for each connection an error and a data stream.

use std::collections::BTreeMap;
use std::future::ready;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio_util::io::ReaderStream;

use super::super::backlog::{Refused, Room};
use super::lane::{self, Input, Lane, Outbound, Receiver, Sender};
use super::target::Target;
use crate::spdy::frame::ResetStatus;
use crate::spdy::{self, End, Event, Headers, Session, StreamId};

/// More connections at once are refused.
const STREAMS_MAX: usize = 2048;

/// Serves a tunnel in a WebSocket until the client is gone.
pub(super) async fn run(socket: WebSocket, target: Target) {
    let (sink, messages) = socket.split();
    let (outbound, carry) = lane::outbound(sink);
    let pieces = messages.map(|message| match message {
        Ok(Message::Binary(bytes)) => Some(bytes),
        Ok(_) => Some(Bytes::new()),
        Err(_) => None,
    });
    serve(until_none(pieces), outbound, carry, target).await;
}

/// Serves a tunnel on a connection of its own until the client is gone.
pub(super) async fn run_bare(connection: TokioIo<Upgraded>, target: Target) {
    let (reader, writer) = tokio::io::split(connection);
    let (outbound, carry) = lane::bare_outbound(writer);
    let pieces = ReaderStream::new(reader).map(Result::ok);
    serve(until_none(pieces), outbound, carry, target).await;
}

fn until_none(pieces: impl Stream<Item = Option<Bytes>>) -> impl Stream<Item = Bytes> {
    let is_there = |piece: &Option<Bytes>| ready(piece.is_some());
    pieces.take_while(is_there).filter_map(ready)
}

async fn serve(
    pieces: impl Stream<Item = Bytes>,
    outbound: Outbound,
    carry: impl Future<Output = ()>,
    target: Target,
) {
    let mut pieces = std::pin::pin!(pieces);
    let session = match Session::new() {
        Ok(session) => session,
        Err(error) => return tracing::warn!(%error, "port forwarding"),
    };
    let mut tunnel = Tunnel {
        session,
        target,
        outbound,
        room: lane::room(),
        halves: BTreeMap::new(),
        inputs: BTreeMap::new(),
        connections: JoinSet::new(),
    };
    let serve = async {
        while let Some(bytes) = pieces.next().await {
            if let Err(error) = tunnel.receive(&bytes).await {
                tracing::debug!(%error, "port forwarding");
                return;
            }
        }
    };
    tokio::select! {
        () = serve => {}
        () = carry => {}
    }
}

struct Tunnel {
    session: Session,
    target: Target,
    outbound: Outbound,
    room: Room,
    /// By request: connections of which only one stream is open yet.
    halves: BTreeMap<String, Half>,
    /// By data stream.
    inputs: BTreeMap<StreamId, Sender>,
    /// Dropped with the tunnel, and every connection with them.
    connections: JoinSet<()>,
}

#[derive(Default)]
struct Half {
    data: Option<(StreamId, Receiver)>,
    error: Option<StreamId>,
}

/// What the headers of a new stream ask for.
#[derive(Debug, PartialEq, Eq)]
struct Opening {
    is_error: bool,
    port: u16,
    request: String,
}

impl Tunnel {
    async fn receive(&mut self, bytes: &[u8]) -> Result<(), spdy::Error> {
        for event in self.session.receive(bytes)? {
            match event {
                Event::Opened {
                    stream, headers, ..
                } => self.open(stream, &headers)?,
                Event::Data {
                    stream,
                    payload,
                    end,
                } => self.pass_on(stream, payload, end).await,
                Event::Reset(stream) => {
                    self.inputs.remove(&stream);
                }
            }
        }
        let answers = self.session.take_outgoing();
        if !answers.is_empty() {
            // A client that is gone ends the loop by itself.
            let _ = self.outbound.send(answers).await;
        }
        Ok(())
    }

    fn open(&mut self, stream: StreamId, headers: &Headers) -> Result<(), spdy::Error> {
        while self.connections.try_join_next().is_some() {}
        self.inputs.retain(|_, input| !input.is_closed());
        let Some(opening) = opening(stream, headers) else {
            self.session.reset(stream, ResetStatus::ProtocolError);
            return Ok(());
        };
        if self.inputs.len() + self.halves.len() >= STREAMS_MAX {
            self.session.reset(stream, ResetStatus::RefusedStream);
            return Ok(());
        }
        self.session.reply(stream)?;
        let Opening {
            is_error,
            port,
            request,
        } = opening;
        let mut half = self.halves.remove(&request).unwrap_or_default();
        if is_error {
            half.error = Some(stream);
        } else {
            let (input, receiver) = self.room.queue();
            self.inputs.insert(stream, input);
            half.data = Some((stream, receiver));
        }
        match half {
            Half {
                data: Some((data, input)),
                error: Some(error),
            } => {
                let lane = Lane::Spdy { data, error };
                let (target, outbound) = (self.target.clone(), self.outbound.clone());
                self.connections
                    .spawn(lane::run(lane, target, port, input, outbound));
            }
            half => drop(self.halves.insert(request, half)),
        }
        Ok(())
    }

    async fn pass_on(&mut self, stream: StreamId, payload: Bytes, end: End) {
        // Error streams and those that are over take nothing.
        let Some(input) = self.inputs.get(&stream) else {
            return;
        };
        let is_waiting = self
            .halves
            .values()
            .any(|half| half.data.as_ref().is_some_and(|(data, _)| *data == stream));
        let data = (!payload.is_empty()).then_some(Input::Data(payload));
        let end = (end == End::Finished).then_some(Input::End);
        for part in data.into_iter().chain(end) {
            // Nobody reads from a stream whose error stream is missing.
            let taken = if is_waiting {
                input.try_send(part)
            } else {
                input.send(part).await.map_err(|_| Refused::Gone)
            };
            if taken == Err(Refused::Full) {
                self.session.reset(stream, ResetStatus::FlowControlError);
                self.inputs.remove(&stream);
                return;
            }
        }
    }
}

fn opening(stream: StreamId, headers: &Headers) -> Option<Opening> {
    let header = |name: &str| {
        let found = headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    let is_error = match header("streamtype")? {
        "error" => true,
        "data" => false,
        _ => return None,
    };
    // Elder clients number no requests, but open the data stream right after the error stream.
    let request = match header("requestid") {
        Some(request) => request.to_owned(),
        None if is_error => format!("stream {stream}"),
        None => format!("stream {}", stream.checked_sub(2)?),
    };
    let port = header("port")?.parse().ok().filter(|port| *port > 0)?;
    Some(Opening {
        is_error,
        port,
        request,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_say_what_they_are_for() {
        let check = |pairs: &[(&str, &str)], expected: Option<(bool, u16, &str)>| {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let headers: Headers = pairs.iter().map(own).collect();
            let expected = expected.map(|(is_error, port, request)| Opening {
                is_error,
                port,
                request: request.into(),
            });
            assert_eq!(opening(7, &headers), expected, "{pairs:?}");
        };
        let (data, error) = (("streamtype", "data"), ("streamtype", "error"));
        let request = ("requestid", "4");
        check(&[error, ("port", "80"), request], Some((true, 80, "4")));
        check(&[data, ("port", "80"), request], Some((false, 80, "4")));
        check(&[error, ("port", "80")], Some((true, 80, "stream 7")));
        check(&[data, ("port", "80")], Some((false, 80, "stream 5")));
        check(&[data, ("port", "0"), request], None);
        check(&[data, ("port", "65536"), request], None);
        check(&[data, request], None);
        check(&[("streamtype", "x"), ("port", "80"), request], None);
    }
}
