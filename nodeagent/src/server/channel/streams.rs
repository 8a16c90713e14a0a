//! Exec and attach over SPDY/3.1 as clients without WebSockets have them: one stream a channel, named in its headers.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Deserializer, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::{Channel, Gone, Input, Wants, resize};
use crate::spdy::frame::{Frame, ResetStatus};
use crate::spdy::{End, Event, Headers, Session, StreamId};

/// What a client may take to open its streams, as in Kubernetes.
const OPENING_TIME_MAX: Duration = Duration::from_secs(30);
const FRAMES_WAITING_MAX: usize = 16;
/// Input that may come before the last stream is open.
const WAITING_BYTES_MAX: usize = 1 << 20;
const READ_BYTES: usize = 32 << 10;
/// A size that grows beyond this is none.
const RESIZE_BYTES_MAX: usize = 1 << 10;
/// A ping of the server's has an even number.
const PING: u32 = 2;

/// Each channel's stream, once it is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Streams {
    stdin: Option<StreamId>,
    stdout: Option<StreamId>,
    stderr: Option<StreamId>,
    error: Option<StreamId>,
    resize: Option<StreamId>,
}

pub(in super::super) struct Sender {
    streams: Streams,
    frames: mpsc::Sender<Bytes>,
}

pub(in super::super) struct Receiver {
    session: Session,
    reader: ReadHalf<TokioIo<Upgraded>>,
    /// Where answers to what is read go.
    frames: mpsc::Sender<Bytes>,
    streams: Streams,
    /// Read, and not yet asked for.
    waiting: VecDeque<Input>,
    size: BytesMut,
}

/// Waits until the client has opened a stream for everything it wants.
pub(super) async fn open(
    connection: TokioIo<Upgraded>,
    wants: Wants,
) -> Result<(Sender, Receiver), Gone> {
    let (reader, writer) = tokio::io::split(connection);
    let (frames, outgoing) = mpsc::channel(FRAMES_WAITING_MAX);
    tokio::spawn(carry(writer, outgoing));
    let mut receiver = Receiver {
        session: Session::new().map_err(|_| Gone)?,
        reader,
        frames: frames.clone(),
        streams: Streams::default(),
        waiting: VecDeque::new(),
        size: BytesMut::new(),
    };
    let opened = async {
        while !receiver.streams.are_enough(wants) {
            receiver.read().await?;
            if receiver.waiting_bytes() > WAITING_BYTES_MAX {
                return Err(Gone);
            }
        }
        Ok(())
    };
    match tokio::time::timeout(OPENING_TIME_MAX, opened).await {
        Ok(opened) => opened?,
        Err(_) => return Err(Gone),
    }
    let streams = receiver.streams;
    Ok((Sender { streams, frames }, receiver))
}

/// Writes frames until nobody can send any more.
async fn carry(mut writer: WriteHalf<TokioIo<Upgraded>>, mut frames: mpsc::Receiver<Bytes>) {
    while let Some(frame) = frames.recv().await {
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
    // A client that is gone needs no end.
    let _ = writer.shutdown().await;
}

impl Streams {
    /// The place of the stream that these headers open, if it is none that is open.
    fn place(&mut self, headers: &Headers) -> Option<&mut Option<StreamId>> {
        let (_, kind) = headers.iter().find(|(name, _)| name == "streamtype")?;
        let place = match kind.as_str() {
            "stdin" => &mut self.stdin,
            "stdout" => &mut self.stdout,
            "stderr" => &mut self.stderr,
            "error" => &mut self.error,
            "resize" => &mut self.resize,
            _ => return None,
        };
        place.is_none().then_some(place)
    }

    fn are_enough(&self, wants: Wants) -> bool {
        let is_there = |wanted: bool, stream: Option<StreamId>| !wanted || stream.is_some();
        self.error.is_some()
            && is_there(wants.stdin, self.stdin)
            && is_there(wants.stdout, self.stdout)
            // A terminal has one way out.
            && is_there(wants.stderr && !wants.tty, self.stderr)
            && is_there(wants.tty, self.resize)
    }

    fn of(&self, channel: Channel) -> Option<StreamId> {
        match channel {
            Channel::Stdin => self.stdin,
            Channel::Stdout => self.stdout,
            Channel::Stderr => self.stderr,
            Channel::Error => self.error,
            Channel::Resize => self.resize,
            Channel::Close => None,
        }
    }
}

impl Sender {
    pub(super) async fn send(&mut self, channel: Channel, data: &[u8]) -> Result<(), Gone> {
        let Some(stream) = self.streams.of(channel) else {
            return Ok(());
        };
        let payload = Bytes::copy_from_slice(data);
        let end = End::Open;
        self.send_frame(&Frame::Data {
            stream,
            payload,
            end,
        })
        .await
    }

    pub(super) async fn ping(&mut self) -> Result<(), Gone> {
        self.send_frame(&Frame::Ping(PING)).await
    }

    /// Ends every stream.
    pub(super) async fn close(self) {
        let all = [
            Channel::Stdout,
            Channel::Stderr,
            Channel::Error,
            Channel::Stdin,
            Channel::Resize,
        ];
        for stream in all
            .into_iter()
            .filter_map(|channel| self.streams.of(channel))
        {
            let (payload, end) = (Bytes::new(), End::Finished);
            let frame = Frame::Data {
                stream,
                payload,
                end,
            };
            if self.send_frame(&frame).await.is_err() {
                return;
            }
        }
    }

    async fn send_frame(&self, frame: &Frame) -> Result<(), Gone> {
        self.frames.send(frame.to_bytes()).await.map_err(|_| Gone)
    }
}

impl Receiver {
    fn waiting_bytes(&self) -> usize {
        let bytes = self.waiting.iter().map(|input| match input {
            Input::Stdin(bytes) => bytes.len() + size_of::<Input>(),
            Input::StdinEnd | Input::Resize { .. } | Input::End => size_of::<Input>(),
        });
        bytes.sum()
    }

    pub(super) async fn next(&mut self) -> Input {
        loop {
            if let Some(input) = self.waiting.pop_front() {
                return input;
            }
            if self.read().await.is_err() {
                return Input::End;
            }
        }
    }

    /// Reads once. Dropping the future loses nothing: what is read is taken in without waiting.
    async fn read(&mut self) -> Result<(), Gone> {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        let length = self.reader.read_buf(&mut buffer).await;
        if length.is_err() || buffer.is_empty() {
            return Err(Gone);
        }
        let events = self.session.receive(&buffer).map_err(|_| Gone)?;
        for event in events {
            self.take(event)?;
        }
        let answers = self.session.take_outgoing();
        if answers.is_empty() {
            return Ok(());
        }
        match self.frames.try_send(answers) {
            // A client that floods us with what needs an answer and reads none is none of ours.
            Err(_) => Err(Gone),
            Ok(()) => Ok(()),
        }
    }

    fn take(&mut self, event: Event) -> Result<(), Gone> {
        match event {
            Event::Opened {
                stream, headers, ..
            } => match self.streams.place(&headers) {
                Some(place) => {
                    *place = Some(stream);
                    self.session.reply(stream).map_err(|_| Gone)?;
                }
                None => self.session.reset(stream, ResetStatus::RefusedStream),
            },
            Event::Data {
                stream,
                payload,
                end,
            } if self.streams.stdin == Some(stream) => {
                if !payload.is_empty() {
                    self.waiting.push_back(Input::Stdin(payload));
                }
                if end == End::Finished {
                    self.waiting.push_back(Input::StdinEnd);
                }
            }
            Event::Data {
                stream, payload, ..
            } if self.streams.resize == Some(stream) => self.take_size(&payload),
            Event::Reset(stream) if self.streams.stdin == Some(stream) => {
                self.waiting.push_back(Input::StdinEnd);
            }
            Event::Data { .. } | Event::Reset(_) => {}
        }
        Ok(())
    }

    /// Sizes come one after another, cut anywhere.
    fn take_size(&mut self, payload: &[u8]) {
        self.size.extend_from_slice(payload);
        let mut sizes = Deserializer::from_slice(&self.size).into_iter::<Value>();
        let mut read = 0;
        while let Some(Ok(size)) = sizes.next() {
            read = sizes.byte_offset();
            self.waiting.extend(resize(&size));
        }
        let _taken = self.size.split_to(read);
        if self.size.len() > RESIZE_BYTES_MAX {
            self.size.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_for_every_channel_that_is_wanted() {
        let opened = |kinds: &[&str]| {
            let mut streams = Streams::default();
            for (number, kind) in (1..).step_by(2).zip(kinds) {
                let headers = vec![("streamtype".to_owned(), (*kind).to_owned())];
                if let Some(place) = streams.place(&headers) {
                    *place = Some(number);
                }
            }
            streams
        };
        let wants = |stdin, tty| Wants {
            stdin,
            stdout: true,
            stderr: true,
            tty,
        };
        let check = |kinds: &[&str], wants: Wants, expected: bool| {
            assert_eq!(opened(kinds).are_enough(wants), expected, "{kinds:?}");
        };
        check(&["error", "stdout", "stderr"], wants(false, false), true);
        check(&["error", "stdout", "stderr"], wants(true, false), false);
        check(
            &["error", "stdin", "stdout", "resize"],
            wants(true, true),
            true,
        );
        check(&["stdin", "stdout", "stderr"], wants(true, false), false);
        assert_eq!(opened(&["error", "error", "x"]).error, Some(1));
    }
}
