//! A small `/dev` for a pod: the harmless devices, the host's terminals, shared memory of its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::protocol::Sandbox;

const NODES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

pub(super) fn mount_private(sandbox: &Sandbox) -> anyhow::Result<()> {
    let stage = sandbox.run_dir.join("dev");
    fs::create_dir_all(&stage)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME;
    mount(
        Some("knarr-dev"),
        &stage,
        Some("tmpfs"),
        flags,
        Some("mode=755,size=64k"),
    )?;
    let umask = nix::sys::stat::umask(Mode::empty());
    let made = NODES.iter().try_for_each(|(name, major, minor)| {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(
            &stage.join(name),
            SFlag::S_IFCHR,
            mode,
            makedev(*major, *minor),
        )
    });
    nix::sys::stat::umask(umask);
    // A user namespace may not make devices, but may show the host's.
    if made.is_err() {
        NODES
            .iter()
            .try_for_each(|(name, ..)| bind_file(&stage.join(name), name))?;
    }
    for (name, target) in LINKS {
        symlink(target, stage.join(name))?;
    }
    // Where containers' termination messages are mounted, so that none needs a /dev of its own for that.
    fs::File::create(stage.join("termination-log"))?;
    fs::create_dir(stage.join("pts"))?;
    bind(Path::new("/dev/pts"), &stage.join("pts"))?;
    fs::create_dir(stage.join("shm"))?;
    if sandbox.own_ipc_namespace {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let options = Some("mode=1777,size=64m");
        mount(
            Some("knarr-shm"),
            &stage.join("shm"),
            Some("tmpfs"),
            flags,
            options,
        )?;
    } else {
        bind(Path::new("/dev/shm"), &stage.join("shm"))?;
    }
    mount(
        Some(&stage),
        "/dev",
        None::<&str>,
        MsFlags::MS_MOVE,
        None::<&str>,
    )
    .or_else(|_| {
        // Mounts below a shared parent cannot be moved; a recursive bind does as well.
        bind(&stage, Path::new("/dev"))?;
        umount2(&stage, MntFlags::MNT_DETACH)
    })?;
    Ok(())
}

fn bind_file(at: &PathBuf, name: &str) -> anyhow::Result<()> {
    fs::File::create(at)?;
    Ok(bind(&Path::new("/dev").join(name), at)?)
}

fn bind(source: &Path, target: &Path) -> nix::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, flags, None::<&str>)
}
