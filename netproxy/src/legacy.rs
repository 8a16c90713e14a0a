//! Reads tables of iptables' old kind, which nf_tables does not know. Changes none of them, and makes none.

mod lock;

use std::{
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

pub(crate) use self::lock::Runs;
use crate::nftables::wire::{Deed, ForeignChain, Keeper, Point, Policy};

/// The kernel's numbers of the hooks, in order, and the chains that stand at them.
const HOOKS: [(Point, &str); 5] = [
    (Point::Prerouting, "PREROUTING"),
    (Point::Input, "INPUT"),
    (Point::Forward, "FORWARD"),
    (Point::Output, "OUTPUT"),
    (Point::Postrouting, "POSTROUTING"),
];
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;
const NAME_BYTES: usize = 32;
const INFO_BYTES: usize = 84;
/// Name and size, filled up so that entries start at a multiple of eight.
const ENTRIES_START: usize = 40;
/// A table of a hundred thousand rules is a tenth of this.
const TABLE_BYTES_MAX: usize = 1 << 28;
/// Somebody may replace the table between two questions.
const TRIES_MAX: usize = 5;
/// Verdicts are stored negative and less one; what is not negative is a jump.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Names(&'static str, #[source] io::Error),
    #[error("a raw socket")]
    Socket(#[source] io::Error),
    #[error("table {0} of iptables-legacy")]
    Table(String, #[source] io::Error),
    #[error("table {0} of iptables-legacy is not understood")]
    Odd(String),
}

/// How a family's tables are kept.
struct Family {
    name: &'static str,
    address_family: AddressFamily,
    /// Of socket options.
    level: i32,
    names_file: &'static str,
    /// What an entry asks of a packet's header: nothing where all is zero.
    header_bytes: usize,
    /// Where an entry says where its target starts, and after that where it ends.
    offsets_at: usize,
    entry_bytes: usize,
}

const FAMILIES: [Family; 2] = [
    Family {
        name: "ip",
        address_family: AddressFamily::Inet,
        level: libc::SOL_IP,
        names_file: "/proc/thread-self/net/ip_tables_names",
        header_bytes: 84,
        offsets_at: 88,
        entry_bytes: 112,
    },
    Family {
        name: "ip6",
        address_family: AddressFamily::Inet6,
        level: libc::SOL_IPV6,
        names_file: "/proc/thread-self/net/ip6_tables_names",
        header_bytes: 136,
        offsets_at: 140,
        entry_bytes: 168,
    },
];

/// Every base chain of the tables that are loaded in this thread's network namespace.
pub(crate) fn chains() -> Result<Vec<ForeignChain>, Error> {
    let mut chains = Vec::new();
    for family in &FAMILIES {
        // Asking for a table that is not loaded would load it.
        let names = match fs::read_to_string(family.names_file) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::Names(family.names_file, error)),
        };
        for table in names.lines() {
            chains.extend(of_table(family, table)?);
        }
    }
    Ok(chains)
}

fn of_table(family: &Family, table: &str) -> Result<Vec<ForeignChain>, Error> {
    let (info, entries) = read(family, table)?;
    parse(family, table, &info, &entries).ok_or_else(|| Error::Odd(table.to_owned()))
}

fn read(family: &Family, table: &str) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let failed = |error| Error::Table(table.to_owned(), error);
    let socket = socket(
        family.address_family,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )
    .map_err(|errno| Error::Socket(errno.into()))?;
    for _ in 0..TRIES_MAX {
        let mut info = named(table, INFO_BYTES);
        ask(&socket, family.level, GET_INFO, &mut info).map_err(failed)?;
        let size = number(&info, INFO_BYTES - 4).and_then(|size| usize::try_from(size).ok());
        let size = size.filter(|size| *size <= TABLE_BYTES_MAX);
        let size = size.ok_or_else(|| Error::Odd(table.to_owned()))?;
        let mut entries = named(table, ENTRIES_START + size);
        entries[NAME_BYTES..NAME_BYTES + 4].copy_from_slice(&info[INFO_BYTES - 4..]);
        match ask(&socket, family.level, GET_ENTRIES, &mut entries) {
            Ok(()) => return Ok((info, entries.split_off(ENTRIES_START))),
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(io::ErrorKind::WouldBlock.into()))
}

/// A question about a table: its name, and room for the answer.
fn named(table: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let name = table.as_bytes();
    let length = name.len().min(NAME_BYTES - 1);
    bytes[..length].copy_from_slice(&name[..length]);
    bytes
}

fn ask(socket: &OwnedFd, level: i32, option: i32, answer: &mut [u8]) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(answer.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes to `answer`, which is as long and outlives the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            answer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    word.try_into().ok().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..at.checked_add(2)?)?;
    word.try_into()
        .ok()
        .map(u16::from_ne_bytes)
        .map(usize::from)
}

fn parse(family: &Family, table: &str, info: &[u8], entries: &[u8]) -> Option<Vec<ForeignChain>> {
    let valid_hooks = number(info, NAME_BYTES)?;
    let mut chains = Vec::new();
    for (index, (point, name)) in HOOKS.into_iter().enumerate() {
        if valid_hooks & (1 << index) == 0 {
            continue;
        }
        let place = |first: usize| usize::try_from(number(info, first + 4 * index)?).ok();
        let (mut at, last) = (place(NAME_BYTES + 4)?, place(NAME_BYTES + 24)?);
        let mut rules = Vec::new();
        while at < last {
            let entry = entries.get(at..)?;
            rules.push(deed(family, entry)?);
            let length = half(entry, family.offsets_at + 2)?;
            // An entry without a length would be read for ever.
            at += Some(length).filter(|length| *length >= family.entry_bytes)?;
        }
        let policy = match deed(family, entries.get(last..)?)? {
            Deed::Drops => Policy::Drop,
            Deed::Accepts | Deed::Depends | Deed::Nothing => Policy::Accept,
        };
        chains.push(ForeignChain {
            keeper: Keeper::IptablesLegacy,
            family: family.name,
            table: table.to_owned(),
            name: name.to_owned(),
            point,
            policy,
            rules,
        });
    }
    Some(chains)
}

/// A rule decides for every packet only if it asks nothing of it.
fn deed(family: &Family, entry: &[u8]) -> Option<Deed> {
    let header = entry.get(..family.header_bytes)?;
    let target_at = half(entry, family.offsets_at)?;
    let target = entry.get(target_at..)?;
    let name = target.get(2..31)?.split(|byte| *byte == 0).next()?;
    let does = match name {
        b"" => match number(target, 32)?.cast_signed() {
            DROP => Deed::Drops,
            ACCEPT => Deed::Accepts,
            _ => Deed::Depends,
        },
        b"REJECT" => Deed::Drops,
        b"LOG" | b"NFLOG" => Deed::Nothing,
        _ => Deed::Depends,
    };
    let asks = header.iter().any(|byte| *byte != 0) || target_at != family.entry_bytes;
    Some(match does {
        Deed::Nothing => Deed::Nothing,
        _ if asks => Deed::Depends,
        does => does,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::{
        nftables::wire::Fate,
        own_netns::{run, sh},
    };

    /// An entry of IPv4 with a standard target.
    fn entry(asks_source: u8, target: &[u8], verdict: i32) -> Vec<u8> {
        let mut entry = vec![0; 152];
        entry[0] = asks_source;
        entry[88..90].copy_from_slice(&112_u16.to_ne_bytes());
        entry[90..92].copy_from_slice(&152_u16.to_ne_bytes());
        entry[112..114].copy_from_slice(&40_u16.to_ne_bytes());
        entry[114..114 + target.len()].copy_from_slice(target);
        entry[144..148].copy_from_slice(&verdict.to_ne_bytes());
        entry
    }

    /// A table that stands at FORWARD only.
    fn info(underflow: usize) -> Vec<u8> {
        let mut info = vec![0; INFO_BYTES];
        info[32..36].copy_from_slice(&(1_u32 << 2).to_ne_bytes());
        let underflow = u32::try_from(underflow).expect("small").to_ne_bytes();
        info[64..68].copy_from_slice(&underflow);
        info
    }

    #[test]
    fn rules_and_policy_are_read_as_they_are_stored() {
        let rules = [
            entry(10, b"", DROP),
            entry(0, b"LOG", 0),
            entry(0, b"", 152),
            entry(0, b"", ACCEPT),
            entry(0, b"REJECT", 0),
        ];
        let policy = entry(0, b"", DROP);
        let bytes = [rules.concat(), policy].concat();
        let found = parse(&FAMILIES[0], "filter", &info(5 * 152), &bytes).expect("a table");
        let [chain] = found.as_slice() else {
            panic!("{found:?}")
        };
        let expected = [
            Deed::Depends,
            Deed::Nothing,
            Deed::Depends,
            Deed::Accepts,
            Deed::Drops,
        ];
        assert_eq!(
            (chain.rules.as_slice(), chain.policy),
            (&expected[..], Policy::Drop)
        );
        assert_eq!(
            chain.to_string(),
            "chain FORWARD of table ip filter of iptables-legacy"
        );
    }

    #[test]
    fn what_is_cut_short_or_runs_in_circles_is_refused() {
        let bytes = [entry(0, b"", ACCEPT), entry(0, b"", DROP)].concat();
        for length in 0..bytes.len() - 8 {
            let cut = parse(&FAMILIES[0], "filter", &info(152), &bytes[..length]);
            assert_eq!(cut, None, "{length}");
        }
        let endless = vec![0; 600];
        assert_eq!(parse(&FAMILIES[0], "filter", &info(152), &endless), None);
    }

    #[test]
    fn a_namespace_without_tables_gets_none_by_being_looked_at() {
        run(|| {
            assert_eq!(chains().expect("readable"), []);
            assert_eq!(sh("cat /proc/thread-self/net/ip_tables_names || true"), "");
        });
    }

    #[test]
    fn the_kernels_own_tables_are_read() {
        let found = Command::new("iptables-legacy").arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            println!("skipped: iptables-legacy is not installed");
            return;
        }
        for (tool, family, rules, expected) in [
            ("iptables-legacy", "ip", "-P FORWARD DROP", Fate::Drops),
            ("iptables-legacy", "ip", "-A FORWARD -j REJECT", Fate::Drops),
            (
                "iptables-legacy",
                "ip",
                "-A FORWARD -s 10.0.0.0/8 -j DROP",
                Fate::Passes,
            ),
            ("ip6tables-legacy", "ip6", "-P FORWARD DROP", Fate::Drops),
            (
                "ip6tables-legacy",
                "ip6",
                "-A FORWARD -p tcp -j DROP",
                Fate::Passes,
            ),
        ] {
            run(|| {
                sh(&format!("{tool} {rules}"));
                let chains = chains().expect("readable");
                let forward = |chain: &&ForeignChain| chain.point == Point::Forward;
                let found: Vec<_> = chains.iter().filter(forward).collect();
                let [chain] = found.as_slice() else {
                    panic!("{rules}: {chains:?}")
                };
                assert_eq!((chain.family, chain.fate()), (family, expected), "{rules}");
            });
        }
    }
}
