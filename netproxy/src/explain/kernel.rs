//! What a node's kernel has, read once for an explanation. Changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use knarr_netproxy_plan::{Family, Plan, Protocol};

use super::Cause;
use crate::{
    conntrack::{self, Flow, Heard},
    nftables::{
        Name, Ruleset,
        wire::{self, Fate, ForeignChain, Observed, Point, Remembered, Socket},
    },
    walls,
};

/// More lines than these tell no more.
const LINES_MAX: usize = 10;
/// What is known of a node's kernel.
#[derive(Debug)]
pub enum Kernel {
    /// It was read.
    Read(Box<Observation>),
    /// It was not, for this reason.
    Unread(String),
}

/// What was read.
#[derive(Debug, Default)]
pub struct Observation {
    pub(super) tables: BTreeMap<Family, Observed>,
    pub(super) clients: BTreeMap<(Family, Name), Vec<Remembered>>,
    pub(super) flows: Vec<Flow>,
    pub(super) foreign: Vec<ForeignChain>,
    /// Why chains of iptables-legacy are not among them, if they are not.
    pub(super) unread: Option<String>,
}

impl Kernel {
    /// Reads the network namespace this thread is in; of flows, those to these places.
    #[must_use]
    pub fn observe(places: &BTreeSet<SocketAddr>) -> Self {
        match Observation::read(places) {
            Ok(observation) => Self::Read(Box::new(observation)),
            Err(error) => Self::Unread(reason(&error)),
        }
    }

    pub(super) fn why_unread(&self) -> Option<&str> {
        match self {
            Self::Read(_) => None,
            Self::Unread(why) => Some(why),
        }
    }

    pub(super) fn observation(&self) -> Option<&Observation> {
        match self {
            Self::Read(observation) => Some(observation),
            Self::Unread(_) => None,
        }
    }
}

impl Observation {
    fn read(places: &BTreeSet<SocketAddr>) -> Result<Self, wire::Error> {
        let mut socket = Socket::open()?;
        let mut tables = BTreeMap::new();
        let mut clients = BTreeMap::new();
        for family in Family::BOTH {
            let (observed, _) = wire::observe(&mut socket, family)?;
            if let Observed::Table(ruleset) = &observed {
                for set in &ruleset.client_sets {
                    let remembered = wire::clients(&mut socket, family, set)?;
                    clients.insert((family, set.clone()), remembered);
                }
            }
            tables.insert(family, observed);
        }
        let (foreign, unread) = walls::chains_of_others(&mut socket)?;
        let flows = conntrack::flows(|flow| places.contains(&flow.to))?;
        Ok(Self {
            tables,
            clients,
            flows,
            foreign,
            unread: unread.map(|error| error.to_string()),
        })
    }

    /// One family's table; empty where there is none of ours.
    pub(super) fn table(&self, family: Family) -> Ruleset {
        match self.tables.get(&family) {
            Some(Observed::Table(ruleset)) => ruleset.clone(),
            Some(Observed::Absent | Observed::Foreign) | None => Ruleset::absent(family),
        }
    }

    /// Clients that keep their backend, as the tracer wants them.
    pub(super) fn remembered(&self) -> BTreeSet<(Name, Vec<u8>)> {
        let sets = self.clients.iter();
        let clients = sets.flat_map(|((_, set), clients)| {
            clients.iter().map(|one| (set.clone(), octets(one.client)))
        });
        clients.collect()
    }

    /// Who keeps which backend, of sets whose names start so.
    pub(super) fn affinity_lines(&self, names: &BTreeSet<Name>) -> Vec<String> {
        let own = self
            .clients
            .iter()
            .filter(|((_, set), _)| names.contains(set));
        let lines = own.flat_map(|((_, set), clients)| {
            clients.iter().map(move |one| {
                let backend = set.rsplit("__").next().unwrap_or_default();
                format!(
                    "{} keeps {} for {}",
                    one.client,
                    backend.replace('/', " port "),
                    seconds(one.forgotten_in)
                )
            })
        });
        shortened(lines.collect(), "clients")
    }

    /// Flows to a plan's frontends, and who answers them.
    pub(super) fn flow_lines(&self, plan: &Plan, picked: impl Fn(&Flow) -> bool) -> Vec<String> {
        let serving: BTreeSet<SocketAddr> = plan
            .frontends
            .values()
            .flat_map(|frontend| frontend.serving.to_vec())
            .collect();
        let flows = self.flows.iter().filter(|flow| picked(flow));
        let lines = flows.map(|flow| {
            let Flow {
                protocol,
                from,
                to,
                answered_by,
                heard,
            } = flow;
            let mut line = format!("{from} to {to}/{protocol} is answered by {answered_by}");
            if !serving.contains(answered_by) {
                line.push_str(match protocol {
                    Protocol::Udp => ", which serves it no longer",
                    Protocol::Tcp | Protocol::Sctp => {
                        ", which serves it no longer; connections are never cut"
                    }
                });
            }
            if *heard == Heard::Nothing {
                line.push_str("; nothing came back yet");
            }
            line
        });
        shortened(lines.collect(), "flows")
    }

    /// Chains of others that drop what passes a point.
    fn walls(&self, family: Family, point: Point) -> impl Iterator<Item = &ForeignChain> {
        let name = match family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        self.foreign.iter().filter(move |chain| {
            chain.point == point
                && (chain.family == "inet" || chain.family == name)
                && chain.fate() != Fate::Passes
        })
    }

    /// The first of them that drops all, as a cause.
    pub(super) fn wall(&self, family: Family, point: Point) -> Option<Cause> {
        let mut walls = self.walls(family, point);
        let chain = walls.find(|chain| chain.fate() == Fate::Drops)?;
        Some(Cause {
            sentence: wall_text(chain),
            hint: "knarr leaves other tables alone: let packets of pods and Services through there"
                .to_owned(),
        })
    }

    /// What others may do to packets of this node.
    pub(super) fn firewall_lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .foreign
            .iter()
            .filter(|chain| chain.fate() != Fate::Passes)
            .map(wall_text)
            .collect();
        lines.extend(self.unread.iter().map(|why| {
            format!(
                "iptables-legacy has tables that were not read: {why}; see `iptables-legacy -S`"
            )
        }));
        lines
    }
}

/// A chain that drops, and what it leaves.
fn wall_text(chain: &ForeignChain) -> String {
    let packets = match chain.point {
        Point::Prerouting => "arrives",
        Point::Input => "comes to this node itself",
        Point::Forward => "passes through this node",
        Point::Output => "this node's own processes send",
        Point::Postrouting => "leaves",
    };
    let what = match chain.fate() {
        Fate::Drops => "all that",
        Fate::DropsTheRest => "what none of its rules accepts of all that",
        Fate::Passes => "nothing that",
    };
    format!("{chain} drops {what} {packets}")
}

pub(super) fn shortened(mut lines: Vec<String>, what: &str) -> Vec<String> {
    let more = lines.len().saturating_sub(LINES_MAX);
    if more > 0 {
        lines.truncate(LINES_MAX);
        lines.push(format!("and {more} more {what}"));
    }
    lines
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn reason(error: &wire::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
