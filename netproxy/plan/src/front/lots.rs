//! Which nodes a front sends a Service's connections to, and why not to the others: for people, not for packets.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use super::{
    EXCLUDED_LABEL, FrontSnapshot, Standing, facts,
    service_port::{ServicePortOf, each_service_port, node_port_of},
};
use crate::{
    endpoint::State,
    key::{Family, FrontendKey},
};

/// What falls to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lot {
    /// New connections go to this node port.
    Chosen(SocketAddr),
    /// The Service has no node port.
    NoNodePort,
    /// Its label keeps it out.
    Excluded,
    /// It has no address of the family.
    NoAddress(Family),
    /// This health port does not say that it is well.
    Failing(SocketAddr),
    /// Only nodes with ready pods are asked, and it has none.
    WithoutPods,
    /// It is leaving, and others can.
    Leaving,
    /// There is no endpoint anywhere.
    NobodyAnswers,
}

impl fmt::Display for Lot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen(at) => write!(f, "gets connections at {at}"),
            Self::NoNodePort => f.write_str("has no node port of it"),
            Self::Excluded => write!(f, "is labelled {EXCLUDED_LABEL}"),
            Self::NoAddress(Family::V4) => f.write_str("has no IPv4 address"),
            Self::NoAddress(Family::V6) => f.write_str("has no IPv6 address"),
            Self::Failing(at) => write!(f, "does not say at {at} that it is well"),
            Self::WithoutPods => f.write_str("has no ready pod of it"),
            Self::Leaving => f.write_str("is leaving: cordoned, not ready or being deleted"),
            Self::NobodyAnswers => f.write_str("has nobody to send it to: no endpoint answers"),
        }
    }
}

/// What falls to each node, for each address and port that a front owns.
#[must_use]
pub fn front_lots(snapshot: &FrontSnapshot) -> BTreeMap<FrontendKey, Vec<(String, Lot)>> {
    let mut lots = BTreeMap::new();
    for (key, (service, slices)) in &snapshot.services {
        let Some(facts) = facts(key, service) else {
            continue;
        };
        each_service_port(snapshot, &facts, service, slices, |service_port, port| {
            let own = service_port.lots(node_port_of(port));
            let keys = service_port.keys(port).into_iter();
            lots.extend(keys.map(|key| (key, own.clone())));
        });
    }
    lots
}

impl ServicePortOf<'_> {
    fn lots(&self, node_port: Option<u16>) -> Vec<(String, Lot)> {
        let chosen: BTreeSet<&str> = self.chosen().into_iter().map(|(name, _)| name).collect();
        let nodes = self.snapshot.nodes.iter().map(|(name, node)| {
            let lot = match (node.address(self.family), node_port) {
                (None, _) => Lot::NoAddress(self.family),
                (Some(_), None) => Lot::NoNodePort,
                (Some(ip), Some(port)) if chosen.contains(name.as_str()) => {
                    Lot::Chosen(SocketAddr::new(ip, port))
                }
                (Some(ip), Some(_)) => self.why_not(name, node.standing, ip),
            };
            (name.clone(), lot)
        });
        nodes.collect()
    }

    fn why_not(&self, name: &str, standing: Standing, ip: IpAddr) -> Lot {
        let check = self.check_port();
        let has_pods = self
            .endpoints
            .iter()
            .any(|end| end.state == State::Ready && end.node.as_deref() == Some(name));
        match standing {
            Standing::Excluded => Lot::Excluded,
            _ if self.endpoints.is_empty() => Lot::NobodyAnswers,
            _ if !self.is_vouched_for() && !has_pods => Lot::WithoutPods,
            _ if !self.passes(ip, check) => Lot::Failing(SocketAddr::new(ip, check)),
            Standing::Leaving => Lot::Leaving,
            Standing::Staying => Lot::NobodyAnswers,
        }
    }
}
