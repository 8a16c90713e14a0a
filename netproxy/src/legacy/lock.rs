//! Hears when iptables of the old kind has run: its tables raise no notification, but every run opens its lock file and
//! closes it when it is done. Takes no lock and makes no file.

use std::{
    future, io,
    os::fd::{AsFd, AsRawFd, RawFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};
use tokio::io::{Interest, unix::AsyncFd};

const LOCK: &str = "/run/xtables.lock";

/// Word of runs in this host's mount namespace; a container with a `/run` of its own has a lock of its own.
pub(crate) struct Runs(Option<Watch>);

struct Watch {
    notices: AsyncFd<Notices>,
    lock: PathBuf,
    /// Nothing while there is no such file; then its folder says when there is.
    file: Option<WatchDescriptor>,
    folder: Option<WatchDescriptor>,
}

struct Notices(Inotify);

impl AsRawFd for Notices {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Runs {
    /// Where the kernel gives no word, none comes.
    pub(crate) fn watch() -> Self {
        let watch = Watch::open(Path::new(LOCK));
        if let Err(error) = &watch {
            tracing::debug!("{LOCK}: {error}");
        }
        Self(watch.ok())
    }

    /// Returns after a run, or a few of them.
    pub(crate) async fn heard(&mut self) {
        let Some(watch) = &mut self.0 else {
            return future::pending().await;
        };
        if let Err(error) = watch.heard().await {
            tracing::debug!("{LOCK}: {error}");
            self.0 = None;
        }
    }
}

impl Watch {
    fn open(lock: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // SAFETY: the descriptor is the Inotify's own and open for as long as that lives.
        let notices = unsafe { AsyncFd::register(Notices(inotify)) }?;
        let mut watch = Self {
            notices,
            lock: lock.to_owned(),
            file: None,
            folder: None,
        };
        watch.look_for_file()?;
        Ok(watch)
    }

    /// Watches the file; until there is one, its folder.
    fn look_for_file(&mut self) -> io::Result<()> {
        let inotify = &self.notices.get_ref().0;
        let runs = AddWatchFlags::IN_CLOSE | AddWatchFlags::IN_DELETE_SELF;
        let file = |lock: &Path| match inotify.add_watch(lock, runs) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        };
        self.file = file(&self.lock)?;
        if self.file.is_none() && self.folder.is_none() {
            let folder = self.lock.parent().unwrap_or(Path::new("/"));
            self.folder = Some(inotify.add_watch(folder, AddWatchFlags::IN_CREATE)?);
            // It may have come meanwhile.
            self.file = file(&self.lock)?;
        }
        if self.file.is_some()
            && let Some(folder) = self.folder.take()
        {
            inotify.rm_watch(folder)?;
        }
        Ok(())
    }

    async fn heard(&mut self) -> io::Result<()> {
        loop {
            let take = |notices: &Notices| Ok(notices.0.read_events()?);
            let events = self.notices.async_io(Interest::READABLE, take).await?;
            let had = self.file;
            let of_file = |descriptor| had == Some(descriptor);
            let ended = events
                .iter()
                .any(|event| of_file(event.wd) && event.mask.intersects(AddWatchFlags::IN_CLOSE));
            let gone = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_IGNORED;
            if events
                .iter()
                .any(|event| of_file(event.wd) && event.mask.intersects(gone))
            {
                self.file = None;
            }
            if self.file.is_none() {
                self.look_for_file()?;
            }
            // Who made the file just now runs, or has run unheard.
            if ended || (self.file.is_some() && had != self.file) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn heard(watch: &mut Watch, what: &str) {
        let heard = tokio::time::timeout(PATIENCE, watch.heard()).await;
        heard.expect(what).expect(what);
    }

    #[tokio::test]
    async fn every_run_is_heard_the_first_as_well() {
        let folder = std::env::temp_dir().join(format!("knarr-xtables-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let lock = folder.join("xtables.lock");
        let mut watch = Watch::open(&lock).expect("inotify");
        for _ in 0..2 {
            fs::write(folder.join("other"), "").expect("a file");
            fs::write(&lock, "").expect("a file");
            heard(&mut watch, "the run that makes the file").await;
            for _ in 0..2 {
                drop(fs::File::open(&lock).expect("the lock"));
                heard(&mut watch, "a run").await;
            }
            // What is left of the run before is not heard as another.
            while tokio::time::timeout(Duration::ZERO, watch.heard())
                .await
                .is_ok()
            {}
            fs::remove_file(&lock).expect("the lock");
        }
        fs::remove_dir_all(&folder).expect("the folder");
    }
}
