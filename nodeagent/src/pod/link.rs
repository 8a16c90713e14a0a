//! The agent's connections to a pod's init: one that watches and commands, one more for each exec or attach.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::protocol::{self, Event, Exec, Frame, FrameKind, Request, SOCKET};

/// What can go wrong on a connection to an init.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("talking to the pod's init")]
    Io(#[from] std::io::Error),
    #[error("the pod's init broke the protocol")]
    Protocol(#[from] protocol::Error),
    #[error("{0}")]
    Refused(String),
    #[error("the pod's init is gone")]
    Gone,
}

/// The reading half.
pub(crate) struct Reader {
    half: OwnedReadHalf,
    buffer: Vec<u8>,
}

/// The writing half.
pub(crate) struct Writer {
    half: OwnedWriteHalf,
}

/// Connects to the init of the pod in `directory`.
pub(crate) async fn connect(directory: &Path) -> Result<(Reader, Writer), Error> {
    let stream = UnixStream::connect(directory.join(SOCKET)).await?;
    let (read, write) = stream.into_split();
    Ok((
        Reader {
            half: read,
            buffer: Vec::new(),
        },
        Writer { half: write },
    ))
}

impl Reader {
    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Result<Frame, Error> {
        loop {
            if let Some(frame) = protocol::take_frame(&mut self.buffer)? {
                return Ok(frame);
            }
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return Err(Error::Gone);
            }
        }
    }

    /// The next event, passing over output.
    pub(crate) async fn event(&mut self) -> Result<Event, Error> {
        loop {
            let frame = self.frame().await?;
            if frame.kind == FrameKind::Message {
                return Ok(protocol::decode(&frame.payload)?);
            }
        }
    }

    /// Waits until the init has begun what was asked.
    pub(crate) async fn started(&mut self) -> Result<(), Error> {
        loop {
            match self.event().await? {
                Event::ExecStarted => return Ok(()),
                Event::Refused { reason } => return Err(Error::Refused(reason)),
                Event::Welcome { .. } | Event::State(_) | Event::ExecEnded { .. } => {}
            }
        }
    }

    /// Waits until the process has ended and returns its exit code.
    pub(crate) async fn ended(&mut self) -> Result<i32, Error> {
        loop {
            if let Event::ExecEnded { code, .. } = self.event().await? {
                return Ok(code);
            }
        }
    }
}

impl Writer {
    /// Sends a request.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<(), Error> {
        Ok(self.half.write_all(&protocol::message(request)).await?)
    }

    /// Sends bytes to the attached container's stdin; no bytes close it.
    pub(crate) async fn send_stdin(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut frame = Vec::new();
        let kind = if bytes.is_empty() {
            FrameKind::StdinEnd
        } else {
            FrameKind::Stdin
        };
        protocol::write_frame(&mut frame, kind, bytes);
        Ok(self.half.write_all(&frame).await?)
    }

    /// Sends an exec together with the process's stdin, stdout and stderr.
    pub(crate) async fn send_exec(&mut self, exec: Exec, files: [OwnedFd; 3]) -> Result<(), Error> {
        let message = protocol::message(&Request::Exec(Box::new(exec)));
        let numbers = files.each_ref().map(AsRawFd::as_raw_fd);
        let stream: &UnixStream = self.half.as_ref();
        let sent = loop {
            stream.writable().await?;
            let attempt = stream.try_io(Interest::WRITABLE, || {
                let slices = [IoSlice::new(&message)];
                let control = [ControlMessage::ScmRights(&numbers)];
                let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
                Ok(sendmsg::<()>(
                    stream.as_raw_fd(),
                    &slices,
                    &control,
                    flags,
                    None,
                )?)
            });
            match attempt {
                Ok(sent) => break sent,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        };
        let rest = message.get(sent..).unwrap_or_default();
        Ok(self.half.write_all(rest).await?)
    }
}

/// Runs a process in a container with no input, and returns its exit code and the beginning of its output.
pub(crate) async fn run(directory: &Path, exec: Exec) -> Result<(i32, String), Error> {
    const OUTPUT_BYTES_MAX: u64 = 10 * 1024;
    let (output, output_end) =
        tokio::net::unix::pipe::pipe().map(|(sender, receiver)| (receiver, sender))?;
    let output_end = output_end.into_blocking_fd()?;
    let null = std::fs::File::open("/dev/null")?;
    let (mut reader, mut writer) = connect(directory).await?;
    let files = [null.into(), output_end.try_clone()?, output_end];
    writer.send_exec(exec, files).await?;
    reader.started().await?;
    let code = reader.ended().await?;
    let mut text = Vec::new();
    let mut buffer = vec![0; OUTPUT_BYTES_MAX as usize];
    // The process may have left children that hold the pipe, so only what is there is taken.
    while let Ok(length @ 1..) = output.try_read(&mut buffer) {
        text.extend_from_slice(&buffer[..length]);
        if text.len() as u64 >= OUTPUT_BYTES_MAX {
            break;
        }
    }
    Ok((code, String::from_utf8_lossy(&text).into_owned()))
}
