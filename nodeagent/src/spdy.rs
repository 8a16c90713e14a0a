//! The server's side of a SPDY/3.1 session: bytes in, events and bytes out. Moves nothing itself, keeps no time.
//!
//! Flow-control windows are not kept: neither the clients nor the servers of Kubernetes do, so whoever
//! carries the bytes holds the peer back. Both are [spdystream], which sends no WINDOW_UPDATE and no SETTINGS and passes
//! over those it is sent; a client that kept windows would wait for ever after 64 KiB there, too.
//!
//! [spdystream]: https://github.com/moby/spdystream/blob/v0.5.0/connection.go

pub(crate) mod frame;
mod headers;

use bytes::{Bytes, BytesMut};

pub(crate) use frame::{End, StreamId};
use frame::{Frame, ResetStatus};
pub(crate) use headers::Headers;

/// A peer that does not speak SPDY/3.1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Frame(#[from] frame::Error),
    #[error("decoding a header block")]
    Headers(#[from] headers::Error),
}

/// What a peer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Opened {
        stream: StreamId,
        headers: Headers,
        end: End,
    },
    Data {
        stream: StreamId,
        payload: Bytes,
        end: End,
    },
    Reset(StreamId),
}

/// One session.
pub(crate) struct Session {
    incoming: BytesMut,
    outgoing: BytesMut,
    decoder: headers::Decoder,
    encoder: headers::Encoder,
    stream_last: StreamId,
}

impl Session {
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self {
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            decoder: headers::Decoder::new(),
            encoder: headers::Encoder::new()?,
            stream_last: 0,
        })
    }

    /// Takes bytes of the peer, cut anywhere.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Error> {
        self.incoming.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(frame) = frame::take(&mut self.incoming)? {
            events.extend(self.receive_frame(frame)?);
        }
        Ok(events)
    }

    /// The bytes to send, once.
    pub(crate) fn take_outgoing(&mut self) -> Bytes {
        self.outgoing.split().freeze()
    }

    /// Accepts a stream that was opened.
    pub(crate) fn reply(&mut self, stream: StreamId) -> Result<(), Error> {
        let frame = Frame::SynReply {
            stream,
            block: self.encoder.encode(&[])?,
            end: End::Open,
        };
        frame.encode(&mut self.outgoing);
        Ok(())
    }

    /// Ends a stream at once, in both directions.
    pub(crate) fn reset(&mut self, stream: StreamId, status: ResetStatus) {
        let status = status as u32;
        Frame::Reset { stream, status }.encode(&mut self.outgoing);
    }

    fn receive_frame(&mut self, frame: Frame) -> Result<Option<Event>, Error> {
        match frame {
            Frame::SynStream { stream, block, end } => {
                // The block is read even if the stream is refused: the next one continues its compression.
                let headers = self.decoder.decode(&block)?;
                if stream.is_multiple_of(2) || stream <= self.stream_last {
                    self.reset(stream, ResetStatus::ProtocolError);
                    return Ok(None);
                }
                self.stream_last = stream;
                Ok(Some(Event::Opened {
                    stream,
                    headers,
                    end,
                }))
            }
            Frame::Data {
                stream,
                payload,
                end,
            } => Ok(Some(Event::Data {
                stream,
                payload,
                end,
            })),
            Frame::Reset { stream, .. } => Ok(Some(Event::Reset(stream))),
            Frame::Ping(id) => {
                if !id.is_multiple_of(2) {
                    Frame::Ping(id).encode(&mut self.outgoing);
                }
                Ok(None)
            }
            Frame::SynReply { block, .. } | Frame::Headers { block, .. } => {
                self.decoder.decode(&block)?;
                Ok(None)
            }
            Frame::Settings { .. }
            | Frame::GoAway { .. }
            | Frame::WindowUpdate { .. }
            | Frame::Unknown { .. } => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
