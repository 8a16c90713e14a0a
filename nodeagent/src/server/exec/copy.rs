//! The loop between a process and its client: bytes both ways, each way as fast as its receiver takes them.

use std::time::Duration;

use bytes::{Buf, Bytes};

use super::streams::{Input as Stdin, Output, Streams};
use crate::pod::link;
use crate::server::channel::{Channel, Input, Receiver, Sender};

/// How long output may pause after the process has ended: its children can hold the pipe for ever.
const DRAIN_PAUSE_MAX: Duration = Duration::from_millis(200);
/// While a process does not take its input nothing is read from the client, so its absence shows only in writing to it.
const ASK_EVERY: Duration = Duration::from_secs(5);
const OUTPUT_BYTES: usize = 32 * 1024;
/// The exit code of a process whose init is gone.
const KILLED: i32 = 137;

struct Copy<'a> {
    sender: &'a mut Sender,
    streams: Streams,
    /// Input that the process has not taken yet.
    unwritten: Bytes,
}

/// Copies until the process has ended and returns its exit code; `None` when the client left first.
pub(super) async fn run(
    sender: &mut Sender,
    mut receiver: Receiver,
    streams: Streams,
    mut reader: link::Reader,
) -> Option<i32> {
    let ended = reader.ended();
    tokio::pin!(ended);
    let mut copy = Copy {
        sender,
        streams,
        unwritten: Bytes::new(),
    };
    let (mut out_buffer, mut err_buffer) = (vec![0; OUTPUT_BYTES], vec![0; OUTPUT_BYTES]);
    let code = loop {
        let is_stuck = !copy.unwritten.is_empty();
        let Streams {
            stdin,
            stdout,
            stderr,
            ..
        } = &mut copy.streams;
        tokio::select! {
            length = read(stdout, &mut out_buffer) => {
                copy.show(Channel::Stdout, out_buffer.get(..length)?).await?;
            }
            length = read(stderr, &mut err_buffer) => {
                copy.show(Channel::Stderr, err_buffer.get(..length)?).await?;
            }
            result = &mut ended => break result.unwrap_or(KILLED),
            written = write(stdin, &copy.unwritten), if is_stuck => match written {
                Some(length) => copy.unwritten.advance(length),
                None => copy.drop_stdin(),
            },
            input = receiver.next(), if !is_stuck => copy.take(input)?,
            () = tokio::time::sleep(ASK_EVERY), if is_stuck => copy.sender.ping().await.ok()?,
        }
    };
    copy.drain(&mut out_buffer, &mut err_buffer).await?;
    Some(code)
}

impl Copy<'_> {
    /// Sends on what the process left in its pipes.
    async fn drain(&mut self, out_buffer: &mut [u8], err_buffer: &mut [u8]) -> Option<()> {
        loop {
            let Streams { stdout, stderr, .. } = &mut self.streams;
            if stdout.is_none() && stderr.is_none() {
                return Some(());
            }
            tokio::select! {
                // On a busy machine the pause is over before this task looks again: what is there goes first.
                biased;
                length = read(stdout, out_buffer) => {
                    self.show(Channel::Stdout, out_buffer.get(..length)?).await?;
                }
                length = read(stderr, err_buffer) => {
                    self.show(Channel::Stderr, err_buffer.get(..length)?).await?;
                }
                () = tokio::time::sleep(DRAIN_PAUSE_MAX) => return Some(()),
            }
        }
    }

    /// Sends output on; none is the end of its stream.
    async fn show(&mut self, channel: Channel, bytes: &[u8]) -> Option<()> {
        if !bytes.is_empty() {
            return self.sender.send(channel, bytes).await.ok();
        }
        match channel {
            Channel::Stderr => self.streams.stderr = None,
            _ => self.streams.stdout = None,
        }
        Some(())
    }

    /// Takes what the client sent; `None` when it is gone.
    fn take(&mut self, input: Input) -> Option<()> {
        match input {
            Input::Stdin(bytes) if self.streams.stdin.is_some() => self.unwritten = bytes,
            Input::Stdin(_) => {}
            Input::StdinEnd => self.drop_stdin(),
            Input::Resize { width, height } => self.streams.resize(width, height),
            Input::End => return None,
        }
        Some(())
    }

    fn drop_stdin(&mut self) {
        self.streams.stdin = None;
        self.unwritten = Bytes::new();
    }
}

async fn read(stream: &mut Option<Output>, buffer: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(buffer).await,
        None => std::future::pending().await,
    }
}

/// How much the process took; `None` when it takes no more.
async fn write(stdin: &mut Option<Stdin>, bytes: &[u8]) -> Option<usize> {
    stdin.as_mut()?.write(bytes).await.ok()
}
