//! Which process holds a socket, as `/proc` tells. Asked only after trouble.

use std::{collections::BTreeSet, fs, path::Path};

/// The sockets of this process.
pub(super) fn own_sockets() -> BTreeSet<u32> {
    sockets(Path::new("/proc/self")).collect()
}

/// A process that holds a socket, as `nginx (pid 7)`; nothing where `/proc` does not tell.
pub(super) fn owner_of(inode: u32) -> Option<String> {
    let mut processes = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, entry.path()))
    });
    let (pid, path) = processes.find(|(_, path)| sockets(path).any(|own| own == inode))?;
    let name = fs::read_to_string(path.join("comm")).ok()?;
    Some(format!("{} (pid {pid})", name.trim_end()))
}

fn sockets(process: &Path) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(process.join("fd")).into_iter().flatten();
    entries.flatten().filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        let target = target.to_str()?.strip_prefix("socket:[")?;
        target.strip_suffix(']')?.parse().ok()
    })
}
