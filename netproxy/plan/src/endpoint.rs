//! Joins a Service's slices into endpoints by port name and protocol.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use k8s_openapi::api::discovery::v1 as discovery;

use crate::{
    key::{Family, Protocol},
    settings::Settings,
};

/// Labels of Services and slices that this proxy leaves alone.
pub const NOT_PROXIED_LABELS: [&str; 2] = [
    "service.kubernetes.io/service-proxy-name",
    "service.kubernetes.io/headless",
];

/// A pod address that answers, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it answers.
    pub address: SocketAddr,
    /// Whether it may take new connections.
    pub state: State,
    /// Whether it is on this node.
    pub place: Place,
    /// The node it is on, where known.
    pub node: Option<String>,
    /// Nodes it is meant for; absent without a hint.
    pub for_nodes: Option<BTreeSet<String>>,
    /// Zones it is meant for; absent without a hint.
    pub for_zones: Option<BTreeSet<String>>,
}

/// Whether an endpoint may take new connections; better states come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Ready for new connections.
    Ready,
    /// Leaving, but still answering: used when nothing is ready.
    ServingTerminating,
    /// Answers, and is neither ready nor leaving: keeps the flows it has.
    Serving,
    /// Does not answer.
    Silent,
}

/// Where an endpoint is, seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On this node.
    Here,
    /// On another node or outside the cluster.
    Elsewhere,
}

/// The endpoints of one Service by family, port name and protocol, each list sorted by address.
pub type Joined = BTreeMap<(Family, String, Protocol), Vec<Endpoint>>;

/// Endpoints by address, each with the rank of the slice entry it came from.
type Ranked = BTreeMap<SocketAddr, (Rank, Endpoint)>;

/// Which of two entries of one address counts: of pods that share it, the one that stays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    terminating: bool,
    state: State,
    place: Place,
}

/// Merges slices; an address that occurs twice counts once, as the pod that is not leaving.
#[must_use]
pub fn join<'a>(
    settings: &Settings,
    slices: impl IntoIterator<Item = &'a discovery::EndpointSlice>,
) -> Joined {
    let mut merged: BTreeMap<(Family, String, Protocol), Ranked> = BTreeMap::new();
    for slice in slices {
        let Some(family) = family(slice) else {
            continue;
        };
        for port in slice.ports.iter().flatten() {
            let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else {
                continue;
            };
            let Some(number) = port.port.and_then(|port| u16::try_from(port).ok()) else {
                continue;
            };
            if number == 0 {
                continue;
            }
            let name = port.name.clone().unwrap_or_default();
            let into = merged.entry((family, name, protocol)).or_default();
            for endpoint in slice.endpoints.iter().flatten() {
                if let Some(ranked) = read(settings, family, number, endpoint) {
                    keep_better(into, ranked);
                }
            }
        }
    }
    merged
        .into_iter()
        .map(|(key, ranked)| {
            let endpoints = ranked.into_values().map(|(_, endpoint)| endpoint);
            (key, endpoints.collect())
        })
        .collect()
}

fn keep_better(into: &mut Ranked, (rank, endpoint): (Rank, Endpoint)) {
    match into.get(&endpoint.address) {
        Some((known, _)) if *known <= rank => {}
        Some(_) | None => {
            into.insert(endpoint.address, (rank, endpoint));
        }
    }
}

/// Nothing for slices that no proxy follows: of names, and those labelled for somebody else.
fn family(slice: &discovery::EndpointSlice) -> Option<Family> {
    let mut labels = slice.metadata.labels.iter().flatten().map(|(key, _)| key);
    if labels.any(|label| NOT_PROXIED_LABELS.contains(&label.as_str())) {
        return None;
    }
    match slice.address_type.as_str() {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    }
}

fn read(
    settings: &Settings,
    family: Family,
    port: u16,
    endpoint: &discovery::Endpoint,
) -> Option<(Rank, Endpoint)> {
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    if Family::of(&address) != family {
        return None;
    }
    let here = endpoint.node_name.as_deref() == Some(settings.node_name.as_str());
    let hints = endpoint.hints.as_ref();
    let for_nodes = hints.and_then(|hints| hints.for_nodes.as_ref());
    let for_zones = hints.and_then(|hints| hints.for_zones.as_ref());
    let conditions = endpoint.conditions.as_ref();
    let rank = Rank {
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        state: state(conditions),
        place: if here { Place::Here } else { Place::Elsewhere },
    };
    let endpoint = Endpoint {
        address: SocketAddr::new(address, port),
        state: rank.state,
        place: rank.place,
        node: endpoint.node_name.clone(),
        for_nodes: named(for_nodes.into_iter().flatten().map(|node| &node.name)),
        for_zones: named(for_zones.into_iter().flatten().map(|zone| &zone.name)),
    };
    Some((rank, endpoint))
}

fn named<'a>(names: impl Iterator<Item = &'a String>) -> Option<BTreeSet<String>> {
    let names: BTreeSet<String> = names.cloned().collect();
    (!names.is_empty()).then_some(names)
}

fn state(conditions: Option<&discovery::EndpointConditions>) -> State {
    let condition = |read: fn(&discovery::EndpointConditions) -> Option<bool>, absent| {
        conditions.and_then(read).unwrap_or(absent)
    };
    let ready = condition(|conditions| conditions.ready, true);
    let serving = condition(|conditions| conditions.serving, true);
    let terminating = condition(|conditions| conditions.terminating, false);
    match (ready, serving, terminating) {
        (true, _, _) => State::Ready,
        (false, true, true) => State::ServingTerminating,
        (false, true, false) => State::Serving,
        (false, false, _) => State::Silent,
    }
}
