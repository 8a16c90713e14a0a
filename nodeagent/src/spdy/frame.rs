//! SPDY/3.1 frames to bytes and back. Knows no order of frames and no compression.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A stream's number: odd when the client opened it.
pub(crate) type StreamId = u32;

const HEAD_BYTES: usize = 8;
/// Longer frames are refused; clients of Kubernetes send 32 KiB at a time.
const FRAME_BYTES_MAX: usize = 4 << 20;
const CONTROL_BIT: u32 = 1 << 31;
const VERSION: u32 = 3;
const FLAG_FIN: u8 = 1;

/// Whether a frame is its sender's last on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Open,
    Finished,
}

/// Why a stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResetStatus {
    ProtocolError = 1,
    RefusedStream = 3,
    FlowControlError = 7,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    SynStream {
        stream: StreamId,
        block: Bytes,
        end: End,
    },
    SynReply {
        stream: StreamId,
        block: Bytes,
        end: End,
    },
    Reset {
        stream: StreamId,
        status: u32,
    },
    /// Flags and number of a setting in one word, then its value.
    Settings {
        entries: Vec<(u32, u32)>,
    },
    Ping(u32),
    GoAway {
        stream_last: StreamId,
        status: u32,
    },
    Headers {
        stream: StreamId,
        block: Bytes,
        end: End,
    },
    WindowUpdate {
        stream: StreamId,
        delta: u32,
    },
    Data {
        stream: StreamId,
        payload: Bytes,
        end: End,
    },
    /// A control frame of a type that SPDY/3.1 does not know; to be passed over.
    Unknown {
        kind: u16,
    },
}

/// Bytes that are no frame.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("SPDY version {0} is not spoken")]
    Version(u32),
    #[error("a frame of type {0} is too short")]
    TooShort(u16),
}

/// Takes the first whole frame off `buffer`, if there is one.
pub(crate) fn take(buffer: &mut BytesMut) -> Result<Option<Frame>, Error> {
    let Some(mut head) = buffer.get(..HEAD_BYTES) else {
        return Ok(None);
    };
    let (word, flags_and_length) = (head.get_u32(), head.get_u32());
    let length = (flags_and_length & 0x00ff_ffff) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(Error::TooLong(length));
    }
    let is_control = word & CONTROL_BIT != 0;
    let version = (word & !CONTROL_BIT) >> 16;
    if is_control && version != VERSION {
        return Err(Error::Version(version));
    }
    if buffer.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    buffer.advance(HEAD_BYTES);
    let payload = buffer.split_to(length).freeze();
    let end = match (flags_and_length >> 24) as u8 & FLAG_FIN {
        0 => End::Open,
        _ => End::Finished,
    };
    if is_control {
        return control((word & 0xffff) as u16, end, payload).map(Some);
    }
    Ok(Some(Frame::Data {
        stream: word,
        payload,
        end,
    }))
}

fn control(kind: u16, end: End, mut payload: Bytes) -> Result<Frame, Error> {
    let mut word = || payload.try_get_u32().map_err(|_| Error::TooShort(kind));
    let stream = |word: u32| word & !CONTROL_BIT;
    Ok(match kind {
        1 => {
            let (stream, _associated) = (stream(word()?), word()?);
            let _priority = payload.try_get_u16().map_err(|_| Error::TooShort(kind))?;
            Frame::SynStream {
                stream,
                block: payload,
                end,
            }
        }
        2 => Frame::SynReply {
            stream: stream(word()?),
            block: payload,
            end,
        },
        3 => Frame::Reset {
            stream: stream(word()?),
            status: word()?,
        },
        4 => {
            let count = word()?;
            let entries = (0..count).map(|_| Ok((word()?, word()?)));
            Frame::Settings {
                entries: entries.collect::<Result<_, Error>>()?,
            }
        }
        6 => Frame::Ping(word()?),
        7 => Frame::GoAway {
            stream_last: stream(word()?),
            status: word()?,
        },
        8 => Frame::Headers {
            stream: stream(word()?),
            block: payload,
            end,
        },
        9 => Frame::WindowUpdate {
            stream: stream(word()?),
            delta: word()?,
        },
        _ => Frame::Unknown { kind },
    })
}

impl Frame {
    /// Appends the frame's bytes to `out`.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let (kind, words, rest, end) = match self {
            Self::Data {
                stream,
                payload,
                end,
            } => {
                put_head(out, *stream, *end, payload.len());
                return out.put_slice(payload);
            }
            // No associated stream, and the highest priority, take six bytes more.
            Self::SynStream { stream, block, end } => {
                put_head(out, control_word(1), *end, block.len() + 10);
                out.put_u32(*stream);
                out.put_bytes(0, 6);
                return out.put_slice(block);
            }
            Self::SynReply { stream, block, end } => (2, vec![*stream], block.clone(), *end),
            Self::Reset { stream, status } => (3, vec![*stream, *status], Bytes::new(), End::Open),
            Self::Settings { entries } => {
                let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
                let pairs = entries.iter().flat_map(|(key, value)| [*key, *value]);
                let words = std::iter::once(count).chain(pairs).collect();
                (4, words, Bytes::new(), End::Open)
            }
            Self::Ping(id) => (6, vec![*id], Bytes::new(), End::Open),
            Self::GoAway {
                stream_last,
                status,
            } => (7, vec![*stream_last, *status], Bytes::new(), End::Open),
            Self::Headers { stream, block, end } => (8, vec![*stream], block.clone(), *end),
            Self::WindowUpdate { stream, delta } => {
                (9, vec![*stream, *delta], Bytes::new(), End::Open)
            }
            Self::Unknown { kind } => (*kind, Vec::new(), Bytes::new(), End::Open),
        };
        put_head(out, control_word(kind), end, words.len() * 4 + rest.len());
        words.into_iter().for_each(|word| out.put_u32(word));
        out.put_slice(&rest);
    }

    /// The frame's bytes alone.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }
}

fn control_word(kind: u16) -> u32 {
    CONTROL_BIT | VERSION << 16 | u32::from(kind)
}

fn put_head(out: &mut BytesMut, word: u32, end: End, length: usize) {
    let flags = match end {
        End::Open => 0,
        End::Finished => u32::from(FLAG_FIN) << 24,
    };
    out.put_u32(word);
    out.put_u32(flags | u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff);
}
