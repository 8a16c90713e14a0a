//! What packets of each kind of client meet: in the rules of the kernel, and in those planned.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use knarr_netproxy_plan::{Address, Answer, Family, FrontendKey, FrontendKind, Plan, Settings};

use super::{Facts, Kernel, Observation};
use crate::nftables::{
    Ruleset,
    element::of_frontend,
    text::element_text,
    trace::{End, Machine, Origin, Packet, trace},
    wire::Observed,
};

/// One kind of client's packet to one frontend.
pub(super) struct Asked {
    pub(super) frontend: FrontendKey,
    /// In words.
    pub(super) from: String,
    pub(super) planned: Met,
    /// Nothing when the kernel was not read.
    pub(super) found: Option<Met>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Pod,
    Node,
    Outside,
}

/// What a client meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Met {
    Answered {
        by: BTreeSet<SocketAddr>,
    },
    Refused,
    Dropped,
    /// No rule takes it.
    Untouched,
}

impl Asked {
    /// What a client meets, as far as is known.
    pub(super) fn met(&self) -> &Met {
        self.found.as_ref().unwrap_or(&self.planned)
    }
}

/// Every frontend, asked by every kind of client that may.
pub(super) fn all(plan: &Plan, facts: &Facts) -> Vec<Asked> {
    let mut all = Vec::new();
    for (key, frontend) in &plan.frontends {
        let family = key.address.family();
        let planned = Ruleset::of(plan, family);
        let kinds: &[From] = match frontend.kind {
            // Those who are not allowed are not meant to be answered.
            _ if frontend.allowed_sources.is_some() => &[From::Outside],
            FrontendKind::ClusterIp => &[From::Pod, From::Node],
            FrontendKind::NodePort | FrontendKind::LoadBalancerIp | FrontendKind::ExternalIp => {
                &[From::Pod, From::Node, From::Outside]
            }
        };
        let found = facts.kernel.observation();
        let found = found.map(|observation| observation.table(family));
        let machine = machine(&facts.settings, family, None);
        for from in kinds {
            let Some(packet) = packet(&facts.settings, plan, key, *from) else {
                continue;
            };
            all.push(Asked {
                frontend: *key,
                from: from.to_string(),
                planned: meet(&planned, &machine, packet),
                found: found.as_ref().map(|table| meet(table, &machine, packet)),
            });
        }
    }
    all
}

/// Nothing where the cluster has no such client or no such address.
fn packet(settings: &Settings, plan: &Plan, key: &FrontendKey, from: From) -> Option<Packet> {
    let family = key.address.family();
    let destination = match key.address {
        Address::Ip(address) => address,
        Address::Node(family) => settings.primary_ip(family)?,
    };
    let of_family = |ip: &IpAddr| Family::of(ip) == family;
    let source = match from {
        // The last address of the range is no pod's own, so it is never a hairpin.
        From::Pod => {
            let mut ranges = plan.ranges.pod_cidrs.iter();
            ranges.find(|range| of_family(&range.addr()))?.broadcast()
        }
        From::Node => settings.primary_ip(family)?,
        From::Outside => match (allowed(plan, key), family) {
            (Some(source), _) => source,
            (None, Family::V4) => Ipv4Addr::new(192, 0, 2, 1).into(),
            (None, Family::V6) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        },
    };
    Some(Packet {
        source: SocketAddr::new(source, 40_000),
        destination: SocketAddr::new(destination, key.port),
        protocol: key.protocol.number(),
        origin: match from {
            From::Node => Origin::Own,
            From::Pod | From::Outside => Origin::Arrives,
        },
    })
}

/// The first source that a frontend serves, where it does not serve all.
fn allowed(plan: &Plan, key: &FrontendKey) -> Option<IpAddr> {
    let sources = plan.frontends.get(key)?.allowed_sources.as_ref()?;
    sources.first()?.hosts().next()
}

/// A node as its rules see it; what clients it remembers, where that is known.
pub(super) fn machine(
    settings: &Settings,
    family: Family,
    observation: Option<&Observation>,
) -> Machine {
    Machine {
        addresses: settings.node_ips.iter().copied().collect(),
        outgoing: settings.primary_ip(family),
        remembered: observation.map_or_else(BTreeSet::new, Observation::remembered),
    }
}

pub(super) fn meet(ruleset: &Ruleset, machine: &Machine, packet: Packet) -> Met {
    let mut by = BTreeSet::new();
    for way in trace(ruleset, machine, packet) {
        match way.end {
            End::Rejected => return Met::Refused,
            End::Dropped => return Met::Dropped,
            End::Passed { to, .. } if to == packet.destination => return Met::Untouched,
            End::Passed { to, .. } => {
                by.insert(to);
            }
        }
    }
    Met::Answered { by }
}

/// How the kernel's elements compare with the plan's.
pub(super) fn kernel_lines(plan: &Plan, facts: &Facts) -> Vec<String> {
    let tables = match &facts.kernel {
        Kernel::Read(observation) => &observation.tables,
        Kernel::Unread(why) => return vec![format!("not read: {why}")],
    };
    let families: BTreeSet<Family> = plan.frontends.keys().map(|k| k.address.family()).collect();
    let mut lines = Vec::new();
    for family in families {
        let own = plan
            .frontends
            .iter()
            .filter(|(key, _)| key.address.family() == family);
        let wanted: Vec<_> = own.flat_map(|(key, f)| of_frontend(key, f)).collect();
        let table = match family {
            Family::V4 => "table ip knarr",
            Family::V6 => "table ip6 knarr",
        };
        let ruleset = match tables.get(&family) {
            Some(Observed::Table(ruleset)) => ruleset,
            Some(Observed::Foreign) => {
                lines.push(format!("{table} is somebody else's"));
                continue;
            }
            Some(Observed::Absent) | None => {
                lines.push(format!("{table} is absent"));
                continue;
            }
        };
        let missing = wanted.iter().filter(|element| {
            let set = ruleset.elements.get(&element.set);
            set.and_then(|set| set.get(&element.key)) != Some(&element.value)
        });
        let mut missing: Vec<String> = missing
            .map(|element| {
                let text = element_text(element.set, &element.key, &element.value, family);
                format!("{table} lacks {{ {text} }} in {}", element.set.name())
            })
            .collect();
        missing.extend(chain_lines(table, &Ruleset::of(plan, family), ruleset));
        if missing.is_empty() {
            let count = wanted.len();
            lines.push(format!("{table} has all {count} elements of the plan"));
        }
        lines.extend(missing);
    }
    lines
}

/// Chains that packets for the plan's frontends pass, and whose rules are others.
fn chain_lines(table: &str, wanted: &Ruleset, found: &Ruleset) -> Vec<String> {
    let odd = wanted.chains.iter().filter_map(|(name, chain)| {
        let what = match found.chains.get(name) {
            None => "lacks the",
            Some(own) if own.rules != chain.rules => "has other rules in",
            Some(_) => return None,
        };
        Some(format!("{table} {what} chain {name}"))
    });
    odd.collect()
}

/// The backends of every frontend.
#[must_use]
pub(super) fn backends(plan: &Plan) -> BTreeSet<SocketAddr> {
    let answers = plan.frontends.values().flat_map(|f| f.answers());
    answers
        .flat_map(|answer| match answer {
            Answer::Backends { backends, .. } => backends.to_vec(),
            Answer::Reject | Answer::Drop => Vec::new(),
        })
        .collect()
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "a pod",
            Self::Node => "this node",
            Self::Outside => "outside",
        })
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { by } => {
                let by: Vec<String> = by.iter().map(ToString::to_string).collect();
                write!(f, "answered by {}", by.join(", "))
            }
            Self::Refused => f.write_str("refused"),
            Self::Dropped => f.write_str("dropped"),
            Self::Untouched => f.write_str("taken by no rule"),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}: {}", self.frontend, self.from, self.met())?;
        if *self.met() == self.planned {
            Ok(())
        } else {
            write!(f, " (planned: {})", self.planned)
        }
    }
}
