//! Where a front sends the connections of one service port: the nodes that may have them, as backends. Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::EndpointSlice,
};

use super::{FrontNotice, FrontPlan, FrontSnapshot, PROXY_HEALTH_PORT, Standing};
use crate::{
    endpoint::{Endpoint, State, join},
    frontend::{Affinity, AffinityKey, Answer, Frontend, FrontendKind, Masquerade, Policy},
    key::{Address, Family, FrontendKey, PortKey},
    service::{Facts, service_ports},
    settings::Settings,
};

/// Every port of a Service, in each family.
pub(super) fn each_service_port(
    snapshot: &FrontSnapshot,
    facts: &Facts,
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    mut visit: impl FnMut(&ServicePortOf<'_>, &ServicePort),
) {
    let joined = join(&Settings::default(), slices.iter().map(AsRef::as_ref));
    for (key, port) in service_ports(&facts.key, service) {
        for family in Family::BOTH {
            let endpoints = joined.get(&(family, key.name.clone(), key.protocol));
            let service_port = ServicePortOf {
                snapshot,
                facts,
                family,
                endpoints: endpoints.map_or(&[][..], Vec::as_slice),
                key: key.clone(),
            };
            visit(&service_port, port);
        }
    }
}

/// One service port in one family, with what its plan depends on.
pub(super) struct ServicePortOf<'a> {
    pub(super) snapshot: &'a FrontSnapshot,
    facts: &'a Facts,
    pub(super) family: Family,
    pub(super) endpoints: &'a [Endpoint],
    key: Arc<PortKey>,
}

impl ServicePortOf<'_> {
    /// The frontends that the front owns of it.
    pub(super) fn keys(&self, port: &ServicePort) -> Vec<FrontendKey> {
        let Ok(number) = u16::try_from(port.port) else {
            return Vec::new();
        };
        let ips = self.facts.owned_ips().iter();
        let ips = ips.filter(|ip| Family::of(ip) == self.family);
        let key = |ip: &IpAddr| FrontendKey {
            address: Address::Ip(*ip),
            protocol: self.key.protocol,
            port: number,
        };
        ips.map(key).collect()
    }

    pub(super) fn plan(&self, port: &ServicePort, plan: &mut FrontPlan) {
        let keys = self.keys(port);
        let Some(first) = keys.first() else {
            return;
        };
        let node_port = node_port_of(port);
        if node_port.is_none() {
            plan.notices.insert(FrontNotice::NoNodePort {
                service: self.facts.key.clone(),
                port: first.port,
            });
        }
        let frontend = self.frontend(node_port, plan);
        if let Some(timeout_seconds) = self.facts.affinity_seconds {
            let key = AffinityKey {
                service_port: self.key.clone(),
                family: self.family,
            };
            plan.packets
                .affinities
                .insert(key, affinity(&frontend, timeout_seconds));
        }
        for key in keys {
            plan.packets
                .frontends
                .entry(key)
                .or_insert_with(|| frontend.clone());
        }
    }

    fn frontend(&self, node_port: Option<u16>, plan: &mut FrontPlan) -> Frontend {
        let mut chosen: Vec<(&str, IpAddr)> = node_port.map(|_| self.chosen()).unwrap_or_default();
        chosen.sort_by_key(|(_, ip)| *ip);
        chosen.dedup_by_key(|(_, ip)| *ip);
        let at = |ip: IpAddr| SocketAddr::new(ip, node_port.unwrap_or_default());
        let backends: Arc<[SocketAddr]> = chosen.iter().map(|(_, ip)| at(*ip)).collect();
        let of_policy = |policy| match backends.is_empty() {
            true => Answer::Reject,
            false => Answer::Backends {
                policy,
                backends: backends.clone(),
            },
        };
        let hiding: BTreeSet<String> = chosen
            .iter()
            .filter(|(_, ip)| !self.returns_through_front(*ip))
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let keeps_client =
            self.facts.external == Policy::Local && hiding.is_empty() && !chosen.is_empty();
        if self.facts.external == Policy::Local && !hiding.is_empty() {
            plan.notices.insert(FrontNotice::ClientAddressHidden {
                service: self.facts.key.clone(),
                nodes: hiding,
            });
        }
        Frontend {
            service_port: self.key.clone(),
            kind: FrontendKind::LoadBalancerIp,
            answer: of_policy(Policy::Cluster),
            from_outside: keeps_client.then(|| of_policy(Policy::Local)),
            masquerade: if keeps_client {
                Masquerade::NearSources
            } else {
                Masquerade::Always
            },
            affinity_seconds: self.facts.affinity_seconds,
            allowed_sources: self.facts.allowed_sources.get(&self.family).cloned(),
            serving: self.alive().map(|(_, _, ip)| at(ip)).collect(),
        }
    }

    /// Nodes whose proxy is well, whether or not they may have new connections.
    fn alive(&self) -> impl Iterator<Item = (&str, Standing, IpAddr)> {
        self.nodes()
            .filter(|(.., ip)| self.passes(*ip, PROXY_HEALTH_PORT))
    }

    fn nodes(&self) -> impl Iterator<Item = (&str, Standing, IpAddr)> {
        self.snapshot.nodes.iter().filter_map(|(name, node)| {
            let ip = node.address(self.family)?;
            Some((name.as_str(), node.standing, ip))
        })
    }

    pub(super) fn passes(&self, ip: IpAddr, port: u16) -> bool {
        self.snapshot.passing.contains(&SocketAddr::new(ip, port))
    }

    /// The nodes that new connections go to: of the first tier that has any.
    pub(super) fn chosen(&self) -> Vec<(&str, IpAddr)> {
        let held_in = |state, name: &str| {
            self.endpoints
                .iter()
                .any(|end| end.state == state && end.node.as_deref() == Some(name))
        };
        let answered = |state| self.endpoints.iter().any(|end| end.state == state);
        if !answered(State::Ready) && !answered(State::ServingTerminating) {
            return Vec::new();
        }
        let is_healthy = |name: &str, ip| {
            self.passes(ip, self.check_port())
                && (self.is_vouched_for() || held_in(State::Ready, name))
        };
        // A health check fails as soon as the last ready pod leaves, and pods that leave still answer.
        let is_leaving = |name: &str, ip| {
            held_in(State::ServingTerminating, name) && self.passes(ip, PROXY_HEALTH_PORT)
        };
        let tier = |wanted: Standing, may: &dyn Fn(&str, IpAddr) -> bool| -> Vec<(&str, IpAddr)> {
            self.nodes()
                .filter(|(name, standing, ip)| *standing == wanted && may(name, *ip))
                .map(|(name, _, ip)| (name, ip))
                .collect()
        };
        let tiers = [
            (
                Standing::Staying,
                &is_healthy as &dyn Fn(&str, IpAddr) -> bool,
            ),
            (Standing::Leaving, &is_healthy),
            (Standing::Staying, &is_leaving),
            (Standing::Leaving, &is_leaving),
        ];
        let mut tiers = tiers.into_iter().map(|(standing, may)| tier(standing, may));
        tiers.find(|tier| !tier.is_empty()).unwrap_or_default()
    }

    /// The health port that says whether a node may have connections.
    pub(super) fn check_port(&self) -> u16 {
        match self.facts.external {
            Policy::Cluster => PROXY_HEALTH_PORT,
            Policy::Local => self.facts.health_check_port.unwrap_or(PROXY_HEALTH_PORT),
        }
    }

    /// Whether that port knows of pods, too, as far as they matter.
    pub(super) fn is_vouched_for(&self) -> bool {
        self.facts.external == Policy::Cluster || self.facts.health_check_port.is_some()
    }

    /// Whether what this node sends to clients elsewhere passes the front, which undoes what it did to their packets.
    fn returns_through_front(&self, ip: IpAddr) -> bool {
        let is_near = self
            .snapshot
            .near
            .iter()
            .any(|network| network.contains(&ip));
        is_near && self.snapshot.returning.contains(&ip)
    }
}

pub(super) fn node_port_of(port: &ServicePort) -> Option<u16> {
    let node_port = port.node_port.and_then(|port| u16::try_from(port).ok());
    node_port.filter(|port| *port != 0)
}

fn affinity(frontend: &Frontend, timeout_seconds: u32) -> Affinity {
    let backends = |answer: Option<&Answer>| match answer {
        Some(Answer::Backends { backends, .. }) => backends.clone(),
        Some(Answer::Reject | Answer::Drop) | None => Arc::from([]),
    };
    Affinity {
        timeout_seconds,
        cluster: backends(Some(&frontend.answer)),
        local: backends(frontend.from_outside.as_ref()),
    }
}
