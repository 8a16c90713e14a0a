//! The files between an exec'd process and the agent: pipes, or a terminal.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::openpty;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::pipe;

use super::super::channel::Wants;

/// The agent's ends of a process's streams; those that are not wanted or are over are absent.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) stdin: Option<Input>,
    pub(super) stdout: Option<Output>,
    pub(super) stderr: Option<Output>,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
}

/// Where a client's bytes go.
pub(super) enum Input {
    Pipe(pipe::Sender),
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

/// Where a process's bytes come from.
pub(super) enum Output {
    Pipe(pipe::Receiver),
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

impl Streams {
    /// Pipes for what is wanted, and `/dev/null` for the rest; the process's ends are its stdin, stdout and stderr.
    pub(super) fn pipes(wants: Wants) -> io::Result<(Self, [OwnedFd; 3])> {
        let mut streams = Self::default();
        let stdin = if wants.stdin {
            let (own, theirs) = pipe::pipe()?;
            streams.stdin = Some(Input::Pipe(own));
            theirs.into_blocking_fd()?
        } else {
            null()?
        };
        let theirs = |own: &mut Option<Output>| {
            let (theirs, receiver) = pipe::pipe()?;
            *own = Some(Output::Pipe(receiver));
            theirs.into_blocking_fd()
        };
        let stdout = match wants.stdout {
            true => theirs(&mut streams.stdout)?,
            false => null()?,
        };
        let stderr = match wants.stderr {
            true => theirs(&mut streams.stderr)?,
            false => null()?,
        };
        Ok((streams, [stdin, stdout, stderr]))
    }

    /// A terminal, which is all three.
    pub(super) fn terminal() -> io::Result<(Self, [OwnedFd; 3])> {
        let pair = openpty(None, None)?;
        for end in [&pair.master, &pair.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // SAFETY: an owned descriptor stays open and itself for as long as it is owned.
        let terminal = Arc::new(unsafe { AsyncFd::register(pair.master) }?);
        let streams = Self {
            stdin: Some(Input::Terminal(terminal.clone())),
            stdout: Some(Output::Terminal(terminal.clone())),
            stderr: None,
            terminal: Some(terminal),
        };
        let theirs = [pair.slave.try_clone()?, pair.slave.try_clone()?, pair.slave];
        Ok((streams, theirs))
    }

    /// Sets the size of the terminal, if there is one.
    pub(super) fn resize(&self, width: u16, height: u16) {
        if let Some(terminal) = &self.terminal {
            crate::pod_init::resize(terminal.get_ref(), width, height);
        }
    }
}

impl Input {
    /// Writes as much as the process takes; nothing is lost when the future is dropped.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => pipe.write(bytes).await,
            Self::Terminal(terminal) => {
                let write = |file: &OwnedFd| Ok(nix::unistd::write(file, bytes)?);
                terminal.async_io(Interest::WRITABLE, write).await
            }
        }
    }
}

impl Output {
    /// Reads what there is; nothing means the end. Nothing is lost when the future is dropped.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> usize {
        let read = match self {
            Self::Pipe(pipe) => pipe.read(buffer).await,
            Self::Terminal(terminal) => {
                let read = |file: &OwnedFd| Ok(nix::unistd::read(file, buffer)?);
                terminal.async_io(Interest::READABLE, read).await
            }
        };
        // A terminal whose last user is gone reads as EIO.
        read.unwrap_or_default()
    }
}

fn null() -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    Ok(file.into())
}
