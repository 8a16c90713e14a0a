//! The one door to network namespaces: makes them, holds them by bind mount, enters them on threads of their own.
//! Never moves a thread of the runtime.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::FsType;

/// The file system of held namespaces.
const NSFS: FsType = FsType(libc::NSFS_MAGIC);

/// What can go wrong with a netns.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("preparing {}", .0.display())]
    Prepare(PathBuf, #[source] io::Error),
    #[error("making a network namespace")]
    Unshare(#[source] nix::Error),
    #[error("holding a network namespace at {}", .0.display())]
    Hold(PathBuf, #[source] io::Error),
    #[error("entering the network namespace {}", .0.display())]
    Enter(PathBuf, #[source] io::Error),
    #[error("releasing the network namespace {}", .0.display())]
    Release(PathBuf, #[source] io::Error),
    #[error("a network namespace thread ended early")]
    Thread,
}

/// Mounts the private tmpfs that carries every hold, so that a pod can shed them all with one detach.
pub(crate) fn prepare(directory: &Path) -> Result<(), Error> {
    let failed = |error| Error::Prepare(directory.to_owned(), error);
    fs::create_dir_all(directory).map_err(failed)?;
    if is_mount_point(directory).map_err(failed)? {
        return Ok(());
    }
    mount(
        Some("knarr"),
        directory,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=0700,size=1m"),
    )
    .and_then(|()| {
        mount(
            None::<&str>,
            directory,
            None::<&str>,
            MsFlags::MS_PRIVATE,
            None::<&str>,
        )
    })
    .map_err(|error| failed(error.into()))
}

/// Makes a netns held at `path` (or takes the one already held there) and runs `inside` in it.
pub(crate) fn enter_or_make<T: Send + 'static>(
    path: &Path,
    inside: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let path = path.to_owned();
    on_own_thread(move || {
        if is_held(&path) {
            enter(&path)?;
        } else {
            unshare(CloneFlags::CLONE_NEWNET).map_err(Error::Unshare)?;
            hold(&path)?;
        }
        Ok(inside())
    })
}

/// Runs `inside` in the netns held at `path`.
pub(crate) fn within<T: Send + 'static>(
    path: &Path,
    inside: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let path = path.to_owned();
    on_own_thread(move || {
        enter(&path)?;
        Ok(inside())
    })
}

/// Whether a netns is held at `path`.
pub(crate) fn is_held(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS)
}

/// Lets go of the netns held at `path`; it ends with its last process.
pub(crate) fn release(path: &Path) -> Result<(), Error> {
    let failed = |error: nix::Error| Error::Release(path.to_owned(), error.into());
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
        Err(error) => return Err(failed(error)),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::Release(path.to_owned(), error))
        }
        _ => Ok(()),
    }
}

/// Unmounts what [`prepare`] mounted.
pub(crate) fn dismantle(directory: &Path) -> Result<(), Error> {
    match umount2(directory, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
        Err(error) => Err(Error::Release(directory.to_owned(), error.into())),
    }
}

fn enter(path: &Path) -> Result<(), Error> {
    let failed = |error| Error::Enter(path.to_owned(), error);
    let file = File::open(path).map_err(failed)?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| failed(error.into()))
}

fn hold(path: &Path) -> Result<(), Error> {
    let failed = |error| Error::Hold(path.to_owned(), error);
    File::create(path).map_err(failed)?;
    mount(
        Some("/proc/thread-self/ns/net"),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(|error| failed(error.into()))
}

fn on_own_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let thread = std::thread::Builder::new()
        .name("knarr-netns".into())
        .spawn(work);
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(Error::Thread),
    }
}

fn is_mount_point(directory: &Path) -> io::Result<bool> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(table.lines().any(|line| {
        line.split(' ')
            .nth(4)
            .is_some_and(|at| Path::new(at) == directory)
    }))
}
