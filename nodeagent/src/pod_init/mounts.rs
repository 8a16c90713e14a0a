//! Mounts a container's volumes over the host's file system without leaving a trace on it.
//! A missing mount point is made in a tmpfs that takes its parent's place and shows the parent's own entries.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::protocol::{Access, Mount, MountSource};

/// Applies the mounts in order, then makes the root read-only if asked.
pub(super) fn apply(stage: &Path, mounts: &[Mount], root: Access) -> anyhow::Result<()> {
    for one in mounts {
        let MountSource::Bind(source) = &one.source;
        apply_one(stage, source, one)
            .with_context(|| format!("mounting {}", one.target.display()))?;
    }
    if root == Access::ReadOnly {
        make_read_only(mounts).context("making the root file system read-only")?;
    }
    Ok(())
}

fn apply_one(stage: &Path, source: &Path, one: &Mount) -> anyhow::Result<()> {
    let is_directory = fs::metadata(source)
        .with_context(|| format!("looking at {}", source.display()))?
        .is_dir();
    let target = mount_point(stage, &one.target, is_directory)?;
    bind(source, &target)?;
    if one.access == Access::ReadOnly {
        remount_read_only(&target)?;
    }
    Ok(())
}

/// Finds the real place of a mount point and makes it if it is missing.
fn mount_point(stage: &Path, target: &Path, is_directory: bool) -> anyhow::Result<PathBuf> {
    if let Ok(found) = target.canonicalize() {
        return Ok(found);
    }
    let (parent, missing) = deepest_existing(target)?;
    let Some(first) = missing.first() else {
        anyhow::bail!("{} has no name", target.display())
    };
    if first.as_os_str().is_empty() {
        anyhow::bail!("{} has no name", target.display());
    }
    mirror(stage, &parent)?;
    let place = missing.iter().fold(parent, |path, name| path.join(name));
    if is_directory {
        fs::create_dir_all(&place)?;
    } else {
        fs::create_dir_all(place.parent().unwrap_or(Path::new("/")))?;
        fs::File::create(&place)?;
    }
    Ok(place)
}

fn deepest_existing(target: &Path) -> io::Result<(PathBuf, Vec<PathBuf>)> {
    let mut found = PathBuf::from("/");
    let mut names = target.components().filter_map(|component| match component {
        Component::Normal(name) => Some(PathBuf::from(name)),
        _ => None,
    });
    while let Some(name) = names.next() {
        match found.join(&name).canonicalize() {
            Ok(deeper) => found = deeper,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((found, std::iter::once(name).chain(names).collect()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((found, Vec::new()))
}

/// Replaces a directory by a writable tmpfs that shows the same entries.
fn mirror(stage: &Path, directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(stage)?;
    let options = Some("mode=755,size=1m");
    mount(
        Some("knarr-mirror"),
        stage,
        Some("tmpfs"),
        MsFlags::empty(),
        options,
    )?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let copy = stage.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, &copy)?;
            continue;
        }
        if kind.is_dir() {
            fs::create_dir(&copy)?;
        } else {
            fs::File::create(&copy)?;
        }
        bind(&entry.path(), &copy)?;
    }
    if directory == Path::new("/") {
        return take_root(stage);
    }
    take_place(stage, directory)
}

/// Puts what is mounted at `stage` over `directory`, and leaves `stage` free.
fn take_place(stage: &Path, directory: &Path) -> anyhow::Result<()> {
    let flags = MsFlags::MS_MOVE;
    let moved = mount(Some(stage), directory, None::<&str>, flags, None::<&str>);
    if moved.is_err() {
        // Mounts below a shared parent cannot be moved; this waits until no CPU looks at the mount that goes.
        bind(stage, directory)?;
        umount2(stage, MntFlags::MNT_DETACH)?;
    }
    Ok(())
}

fn take_root(stage: &Path) -> anyhow::Result<()> {
    std::env::set_current_dir(stage)?;
    // With both names the same the old root ends up on top of the new one, from where it can be detached.
    nix::unistd::pivot_root(".", ".").context("pivoting the root")?;
    umount2(".", MntFlags::MNT_DETACH).context("detaching the old root")?;
    std::env::set_current_dir("/")?;
    Ok(())
}

fn bind(source: &Path, target: &Path) -> nix::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, flags, None::<&str>)
}

fn remount_read_only(target: &Path) -> nix::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
}

/// Remounts every mount of the host's file system, leaving the container's own volumes, /dev and /proc as they are.
fn make_read_only(mounts: &[Mount]) -> anyhow::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let kept = |at: &Path| {
        let volume = mounts.iter().any(|one| at.starts_with(&one.target));
        volume
            || ["/dev", "/proc", "/sys"]
                .iter()
                .any(|prefix| at.starts_with(prefix))
    };
    for line in table.lines() {
        let Some(at) = line.split(' ').nth(4).map(Path::new) else {
            continue;
        };
        if kept(at) {
            continue;
        }
        match remount_read_only(at) {
            // Some mount was hidden by a later one; what cannot be seen cannot be written.
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            // A locked mount keeps its flags; only the root itself is promised.
            Err(_) if at != Path::new("/") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
