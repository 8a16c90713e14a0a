//! Chooses backends among endpoints: traffic policies, fallback to leaving ones, topology hints.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    endpoint::{Endpoint, Place, State},
    settings::Settings,
};

/// The endpoints of one service port that may answer from this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Backends under policy Cluster.
    pub cluster: Arc<[SocketAddr]>,
    /// Backends under policy Local.
    pub local: Arc<[SocketAddr]>,
    /// Endpoints that may keep the flows they have.
    pub serving: Arc<[SocketAddr]>,
    /// Whether anybody anywhere can answer under some policy.
    pub answered: Answered,
}

/// Whether anybody anywhere can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Somebody can, perhaps only from another node.
    Somewhere,
    /// Nobody can.
    Nowhere,
}

impl Chosen {
    /// Chooses among the endpoints of one service port.
    #[must_use]
    pub fn among(settings: &Settings, endpoints: &[Endpoint]) -> Self {
        let in_state = |state| {
            endpoints
                .iter()
                .filter(move |endpoint| endpoint.state == state)
        };
        let ready: Vec<&Endpoint> = in_state(State::Ready).collect();
        let leaving: Vec<&Endpoint> = in_state(State::ServingTerminating).collect();
        let cluster = or_else(by_topology(settings, &ready), &leaving);
        let local = or_else(here(&ready), &here(&leaving));
        let nowhere = ready.is_empty() && leaving.is_empty();
        Self {
            cluster: addresses(cluster),
            local: addresses(local),
            serving: addresses(
                endpoints
                    .iter()
                    .filter(|endpoint| endpoint.state != State::Silent)
                    .collect(),
            ),
            answered: if nowhere {
                Answered::Nowhere
            } else {
                Answered::Somewhere
            },
        }
    }

    /// What a service port without endpoints has.
    #[must_use]
    pub fn nobody() -> Self {
        let nobody: Arc<[SocketAddr]> = Arc::from([]);
        Self {
            cluster: nobody.clone(),
            local: nobody.clone(),
            serving: nobody,
            answered: Answered::Nowhere,
        }
    }
}

fn or_else<'a>(preferred: Vec<&'a Endpoint>, fallback: &[&'a Endpoint]) -> Vec<&'a Endpoint> {
    if preferred.is_empty() {
        fallback.to_vec()
    } else {
        preferred
    }
}

fn here<'a>(endpoints: &[&'a Endpoint]) -> Vec<&'a Endpoint> {
    endpoints
        .iter()
        .copied()
        .filter(|endpoint| endpoint.place == Place::Here)
        .collect()
}

fn addresses(endpoints: Vec<&Endpoint>) -> Arc<[SocketAddr]> {
    endpoints
        .into_iter()
        .map(|endpoint| endpoint.address)
        .collect()
}

/// Hints count only when every ready endpoint carries one, and never leave nobody.
fn by_topology<'a>(settings: &Settings, ready: &[&'a Endpoint]) -> Vec<&'a Endpoint> {
    let for_this_node = |endpoint: &Endpoint| {
        endpoint
            .for_nodes
            .as_ref()
            .map(|nodes| nodes.contains(&settings.node_name))
    };
    let for_this_zone = |endpoint: &Endpoint| {
        let zone = settings.zone.as_ref();
        endpoint
            .for_zones
            .as_ref()
            .map(|zones| zone.is_some_and(|zone| zones.contains(zone)))
    };
    hinted(ready, for_this_node)
        .or_else(|| hinted(ready, for_this_zone))
        .unwrap_or_else(|| ready.to_vec())
}

fn hinted<'a>(
    ready: &[&'a Endpoint],
    meant: impl Fn(&Endpoint) -> Option<bool>,
) -> Option<Vec<&'a Endpoint>> {
    if !ready.iter().all(|endpoint| meant(endpoint).is_some()) {
        return None;
    }
    let chosen: Vec<&Endpoint> = ready
        .iter()
        .copied()
        .filter(|endpoint| meant(endpoint) == Some(true))
        .collect();
    (!chosen.is_empty()).then_some(chosen)
}
