//! Linux capabilities: their names and the one door to changing them. Decides nobody's rights.

use std::io;

/// All capabilities by number, as `CAP_…` without the prefix.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Every capability there is.
pub(crate) const ALL: u64 = u64::MAX;

/// The set that a list of names asks for; names may carry `CAP_`, and `ALL` means all. Unknown names add nothing.
pub(crate) fn set_of(names: &[String]) -> u64 {
    names.iter().fold(0, |set, name| set | bit_of(name))
}

fn bit_of(name: &str) -> u64 {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if short == "ALL" {
        return ALL;
    }
    NAMES
        .iter()
        .position(|known| *known == short)
        .map_or(0, |number| 1 << number)
}

/// Whose program gets the capabilities at exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heir {
    /// Root gets the bounding set anyway.
    Root,
    /// Anybody else needs them ambient.
    Other,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// The calling thread's permitted set.
pub(crate) fn own() -> u64 {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut halves = [Half::default(); 2];
    // SAFETY: version 3 reads one header and writes exactly two halves.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw const header, &raw mut halves) };
    if result < 0 {
        return 0;
    }
    u64::from(halves[0].permitted) | u64::from(halves[1].permitted) << 32
}

/// Shrinks the bounding set to `kept`.
pub(crate) fn limit(kept: u64) -> io::Result<()> {
    for number in (0..NAMES.len() as u64).filter(|number| kept & (1 << number) == 0) {
        prctl(libc::PR_CAPBSET_DROP, number, 0).or_else(ignore_unknown)?;
    }
    Ok(())
}

/// Makes `granted` the thread's permitted and effective set.
pub(crate) fn take(granted: u64, heir: Heir) -> io::Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as u64,
        0,
    )
    .or_else(ignore_unknown)?;
    let inheritable = match heir {
        Heir::Root => 0,
        Heir::Other => granted,
    };
    let half = |shift: u32| Half {
        effective: (granted >> shift) as u32,
        permitted: (granted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let halves = [half(0), half(32)];
    // SAFETY: version 3 reads one header and exactly two halves.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const halves) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    for number in (0..NAMES.len() as u64).filter(|number| inheritable & (1 << number) != 0) {
        prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_RAISE as u64,
            number,
        )?;
    }
    Ok(())
}

fn prctl(option: i32, first: u64, second: u64) -> io::Result<()> {
    // SAFETY: the options used here take plain numbers and touch no memory of ours.
    match unsafe { libc::prctl(option, first, second, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// An older kernel knows fewer capabilities.
fn ignore_unknown(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::EINVAL) => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_bits() {
        let set = |names: &[&str]| {
            set_of(
                &names
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(set(&["CHOWN"]), 1);
        assert_eq!(set(&["CAP_NET_BIND_SERVICE", "net_raw"]), 1 << 10 | 1 << 13);
        assert_eq!(set(&["CHECKPOINT_RESTORE"]), 1 << 40);
        assert_eq!(set(&["NO_SUCH"]), 0);
        assert_eq!(set(&["ALL"]), ALL);
    }
}
