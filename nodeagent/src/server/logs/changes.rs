//! Waits until something happens to the files of a directory. Says that, never what.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What has happened since the last look.
pub(super) struct Changes {
    notices: AsyncFd<Notices>,
}

struct Notices(Inotify);

impl AsRawFd for Notices {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Changes {
    /// Watches from now on.
    pub(super) fn watch(directories: &[&Path]) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF;
        for directory in directories {
            inotify.add_watch(*directory, flags)?;
        }
        // SAFETY: the descriptor is the Inotify's own and open for as long as that lives.
        let notices = unsafe { AsyncFd::register(Notices(inotify)) }?;
        Ok(Self { notices })
    }

    /// Waits for the next change, or returns at once if there was one.
    pub(super) async fn next(&mut self) -> io::Result<()> {
        let take = |notices: &Notices| Ok(notices.0.read_events().map(drop)?);
        self.notices.async_io(Interest::READABLE, take).await
    }
}
