//! One connection of the agent to an init: frames and descriptors in, frames out, never blocking.

use std::io::{IoSliceMut, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::protocol::{self, Event, Frame, FrameKind};

/// A reader this far behind is dropped, so that it cannot fill the init's memory.
const UNSENT_BYTES_MAX: usize = 4 << 20;
/// A reader this far behind holds back whom it is attached to.
const BEHIND_BYTES: usize = 256 << 10;
/// What is read of one connection before others have their turn.
const CHUNKS_AT_ONCE: usize = 16;

pub(super) struct Connection {
    pub(super) stream: UnixStream,
    pub(super) watches: bool,
    pub(super) attached: Option<String>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    files: Vec<OwnedFd>,
}

/// Whether a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    Closed,
}

impl Connection {
    pub(super) fn accept(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        let mut connection = Self {
            stream,
            watches: false,
            attached: None,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            files: Vec::new(),
        };
        connection.send(&Event::Welcome {
            version: protocol::VERSION,
        });
        Ok(connection)
    }

    pub(super) fn wants_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    pub(super) fn is_attached_to(&self, container: &str) -> bool {
        self.attached.as_deref() == Some(container)
    }

    pub(super) fn is_behind(&self) -> bool {
        self.outgoing.len() > BEHIND_BYTES
    }

    /// Queues an event.
    pub(super) fn send(&mut self, event: &Event) {
        self.outgoing.extend_from_slice(&protocol::message(event));
    }

    /// Queues a chunk of output.
    pub(super) fn send_bytes(&mut self, kind: FrameKind, bytes: &[u8]) {
        protocol::write_frame(&mut self.outgoing, kind, bytes);
    }

    /// Sends what the peer takes.
    pub(super) fn flush(&mut self) -> Life {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(0) => return Life::Closed,
                Ok(sent) => drop(self.outgoing.drain(..sent)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Life::Closed,
            }
        }
        if self.outgoing.is_empty() {
            self.outgoing = Vec::new();
        }
        match self.outgoing.len() > UNSENT_BYTES_MAX {
            true => Life::Closed,
            false => Life::Open,
        }
    }

    /// Takes what arrived; descriptors wait for the message that names them.
    pub(super) fn receive(&mut self) -> (Vec<Frame>, Life) {
        let mut life = Life::Open;
        for _ in 0..CHUNKS_AT_ONCE {
            match self.receive_once() {
                Ok(0) => {
                    life = Life::Closed;
                    break;
                }
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => break,
                Err(_) => {
                    life = Life::Closed;
                    break;
                }
            }
        }
        let mut frames = Vec::new();
        loop {
            match protocol::take_frame(&mut self.incoming) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, Life::Closed),
            }
        }
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        (frames, life)
    }

    /// The three descriptors that came with an exec.
    pub(super) fn take_files(&mut self) -> Option<[OwnedFd; 3]> {
        std::mem::take(&mut self.files).try_into().ok()
    }

    fn receive_once(&mut self) -> nix::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let mut control = nix::cmsg_space!([i32; 3]);
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<()>(
            self.stream.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            flags,
        )?;
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                // SAFETY: the kernel just installed these descriptors for us alone.
                let owned = numbers
                    .into_iter()
                    .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
                self.files.extend(owned);
            }
        }
        let length = message.bytes;
        self.incoming.extend_from_slice(&buffer[..length]);
        Ok(length)
    }
}
