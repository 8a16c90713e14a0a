//! What it means: flags, environment, `--config` file and defaults settled into one value. Touches only the files it is told to read.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use ipnet::IpNet;
use knarr_api::yaml;
use knarr_apiserver::controllers::AddressRange;
use knarr_netproxy::{LocalhostNodePorts, NodePortAddresses};

use crate::{
    exit::{Code, Failure},
    flags::{Flags, LogFormat},
    ranges::Wanted,
};

/// Every option, settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) node_name: String,
    pub(crate) node_ip: Vec<IpAddr>,
    /// `None`: every address of the host.
    pub(crate) bind: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) wanted: Wanted,
    pub(crate) node_ports: RangeInclusive<u16>,
    pub(crate) node_port_addresses: NodePortAddresses,
    pub(crate) localhost_node_ports: LocalhostNodePorts,
    pub(crate) non_masquerade_cidrs: BTreeSet<IpNet>,
    pub(crate) requests_inflight_max: usize,
    pub(crate) mutating_requests_inflight_max: usize,
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: tracing::Level,
}

const DATA_DIR: &str = "/var/lib/knarr";
const RUN_DIR: &str = "/run/knarr";
const PORT: u16 = 6443;
const NODE_PORTS: RangeInclusive<u16> = 30000..=32767;
const REQUESTS_INFLIGHT_MAX: usize = 400;
const MUTATING_REQUESTS_INFLIGHT_MAX: usize = 200;

/// Settles flags over the file's keys over defaults; clap has already put the environment under the flags.
#[expect(clippy::too_many_lines, reason = "one line a flag")]
pub(crate) fn settle(flags: Flags, hostname: &str) -> Result<Settings> {
    let file = match &flags.config {
        Some(path) => read_file(path)?,
        None => Flags::default(),
    };
    let Flags {
        config: _,
        data_dir,
        run_dir,
        node_name,
        node_ip,
        bind,
        port,
        cluster_cidr,
        service_cidr,
        node_port_range,
        node_port_addresses,
        non_masquerade_cidr,
        lb_pool,
        max_requests_inflight,
        max_mutating_requests_inflight,
        kubeconfig,
        log_format,
        log_level,
    } = flags;
    let wanted = Wanted {
        cluster_cidr: or(cluster_cidr, file.cluster_cidr),
        service_cidr: or(service_cidr, file.service_cidr),
        lb_pool: or(lb_pool, file.lb_pool),
    };
    AddressRange::parse_list(&wanted.lb_pool.join(","))
        .map_err(|error| unreadable(format!("--lb-pool: {error}")))?;
    let (node_port_addresses, localhost_node_ports) =
        read_node_port_addresses(&or(node_port_addresses, file.node_port_addresses))?;
    let data_dir = data_dir.or(file.data_dir);
    // A data directory of one's own is somebody's second knarr: its pods must not meet the first one's.
    let own_run_dir = data_dir
        .as_ref()
        .filter(|dir| dir.as_path() != Path::new(DATA_DIR))
        .map(|dir| dir.join("run"));
    let data_dir = data_dir.unwrap_or_else(|| DATA_DIR.into());
    Ok(Settings {
        run_dir: run_dir
            .or(file.run_dir)
            .or(own_run_dir)
            .unwrap_or_else(|| RUN_DIR.into()),
        data_dir,
        node_name: read_node_name(node_name.or(file.node_name), hostname)?,
        node_ip: or(node_ip, file.node_ip),
        bind: bind.or(file.bind),
        port: port.or(file.port).unwrap_or(PORT),
        wanted,
        node_ports: match node_port_range.or(file.node_port_range) {
            Some(text) => read_port_range(&text)?,
            None => NODE_PORTS,
        },
        node_port_addresses,
        localhost_node_ports,
        non_masquerade_cidrs: or(non_masquerade_cidr, file.non_masquerade_cidr)
            .iter()
            .map(IpNet::trunc)
            .collect(),
        requests_inflight_max: max_requests_inflight
            .or(file.max_requests_inflight)
            .unwrap_or(REQUESTS_INFLIGHT_MAX),
        mutating_requests_inflight_max: max_mutating_requests_inflight
            .or(file.max_mutating_requests_inflight)
            .unwrap_or(MUTATING_REQUESTS_INFLIGHT_MAX),
        kubeconfig: kubeconfig.or(file.kubeconfig),
        log_format: log_format.or(file.log_format).unwrap_or(LogFormat::Text),
        log_level: match log_level.or(file.log_level) {
            Some(text) => text
                .parse()
                .map_err(|_| unreadable(format!("--log-level {text:?} is not a level")))?,
            None => tracing::Level::INFO,
        },
    })
}

fn or<T>(first: Vec<T>, second: Vec<T>) -> Vec<T> {
    if first.is_empty() { second } else { first }
}

fn unreadable(message: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Unreadable, message)
}

fn read_file(path: &Path) -> Result<Flags> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| unreadable(format!("cannot read {}: {error}", path.display())))?;
    yaml::typed(&text).map_err(|error| {
        unreadable(format!("{}: {error}", path.display()))
            .hint("its keys are the long flags, as in `port: 6443`")
            .into()
    })
}

fn read_node_name(name: Option<String>, hostname: &str) -> Result<String> {
    let name = name.unwrap_or_else(|| hostname.to_lowercase());
    let valid = !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|part| {
            !part.is_empty()
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        });
    if valid {
        return Ok(name);
    }
    Err(unreadable(format!("{name:?} is no name for a node"))
        .hint("use lower case letters, digits, '-' and '.', with --node-name")
        .into())
}

fn read_port_range(text: &str) -> Result<RangeInclusive<u16>> {
    let parse = || -> Option<RangeInclusive<u16>> {
        let (from, to) = text.split_once('-')?;
        let range = from.trim().parse().ok()?..=to.trim().parse().ok()?;
        (*range.start() > 0 && range.start() <= range.end()).then_some(range)
    };
    parse().with_context(|| unreadable(format!("--node-port-range {text:?} is not FROM-TO")))
}

/// `primary` or CIDRs, and `localhost`; without any, `primary,localhost`.
fn read_node_port_addresses(words: &[String]) -> Result<(NodePortAddresses, LocalhostNodePorts)> {
    let (local, others): (Vec<&str>, Vec<&str>) = words
        .iter()
        .map(|word| word.trim())
        .partition(|word| *word == "localhost");
    let localhost = match (words.is_empty(), local.is_empty()) {
        (false, true) => LocalhostNodePorts::LeftAlone,
        (true, _) | (_, false) => LocalhostNodePorts::Answered,
    };
    let addresses = match others.as_slice() {
        // What knocks on localhost is carried to an address of the node.
        [] if !words.is_empty() => {
            let message =
                "--node-port-addresses: `localhost` needs an address of the node beside it";
            return Err(unreadable(message)
                .hint("as in `primary,localhost`, the default")
                .into());
        }
        [] | ["primary"] => NodePortAddresses::Primary,
        cidrs => NodePortAddresses::Within(
            cidrs
                .iter()
                .map(|text| text.parse())
                .collect::<Result<BTreeSet<IpNet>, _>>()
                .map_err(|_| {
                    let text = cidrs.join(",");
                    unreadable(format!(
                        "--node-port-addresses: {text:?} is neither `primary` nor CIDRs"
                    ))
                })?,
        ),
    };
    Ok((addresses, localhost))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(flags: Flags) -> Result<Settings> {
        settle(flags, "Laptop")
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let settings = check(Flags::default()).expect("settled");
        assert_eq!(settings.data_dir, Path::new(DATA_DIR));
        assert_eq!(settings.run_dir, Path::new(RUN_DIR));
        assert_eq!((settings.port, settings.node_ports), (6443, 30000..=32767));
        assert_eq!(settings.node_name, "laptop");
    }

    #[test]
    fn a_data_directory_of_its_own_has_a_run_directory_of_its_own() {
        let flags = Flags {
            data_dir: Some("/srv/two".into()),
            ..Flags::default()
        };
        assert_eq!(
            check(flags).expect("settled").run_dir,
            Path::new("/srv/two/run")
        );
    }

    #[test]
    fn node_port_ranges_are_checked() {
        for (text, good) in [
            ("30000-30010", true),
            ("5-4", false),
            ("0-9", false),
            ("x", false),
            ("1-70000", false),
        ] {
            let flags = Flags {
                node_port_range: Some(text.into()),
                ..Flags::default()
            };
            assert_eq!(check(flags).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn node_names_are_checked() {
        for (name, good) in [
            ("node-1", true),
            ("a.b", true),
            ("Node", false),
            ("-a", false),
            ("", false),
        ] {
            let flags = Flags {
                node_name: Some(name.into()),
                ..Flags::default()
            };
            assert_eq!(check(flags).is_ok(), good, "{name}");
        }
    }

    #[test]
    fn node_ports_answer_where_the_flag_says() {
        let check = |words: &[&str], expected: Option<(&[&str], LocalhostNodePorts)>| {
            let flags = Flags {
                node_port_addresses: words.iter().map(|word| (*word).to_owned()).collect(),
                ..Flags::default()
            };
            let found = settle(flags, "laptop")
                .ok()
                .map(|settings| (settings.node_port_addresses, settings.localhost_node_ports));
            let expected = expected.map(|(cidrs, localhost)| {
                let addresses = match cidrs {
                    ["primary"] => NodePortAddresses::Primary,
                    cidrs => NodePortAddresses::Within(
                        cidrs
                            .iter()
                            .map(|cidr| cidr.parse().expect("a CIDR"))
                            .collect(),
                    ),
                };
                (addresses, localhost)
            });
            assert_eq!(found, expected, "{words:?}");
        };
        let (answered, left_alone) = (LocalhostNodePorts::Answered, LocalhostNodePorts::LeftAlone);
        check(&[], Some((&["primary"], answered)));
        check(&["primary"], Some((&["primary"], left_alone)));
        check(&["localhost", "primary"], Some((&["primary"], answered)));
        check(
            &["192.0.2.0/24", "localhost"],
            Some((&["192.0.2.0/24"], answered)),
        );
        check(&["0.0.0.0/0"], Some((&["0.0.0.0/0"], left_alone)));
        check(&["primary", "0.0.0.0/0"], None);
        check(&["localhost"], None);
        check(&["here"], None);
    }
}
