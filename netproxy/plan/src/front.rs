//! What a front does with packets: a machine outside the cluster that owns load-balancer IPs and spreads their
//! connections over nodes.
//!
//! Plans in the same terms as a node, with the node ports of healthy nodes as backends. Asks no node itself.

mod lots;
mod node;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::EndpointSlice,
};

pub use self::{
    lots::{Lot, front_lots},
    node::{EXCLUDED_LABEL, FrontNode, Standing},
};
use crate::{
    endpoint::{Endpoint, State, join},
    frontend::{
        Affinity, AffinityKey, Announced, Answer, Frontend, FrontendKind, Masquerade, Plan, Policy,
    },
    key::{Address, Family, FrontendKey, PortKey, ServiceKey},
    service::{Facts, service_ports},
    settings::Settings,
};

/// kube-proxy's health port, and so that of any node's proxy.
pub const PROXY_HEALTH_PORT: u16 = 10_256;

/// Everything that a front's plan needs, at one moment.
#[derive(Clone, Debug, Default)]
pub struct FrontSnapshot {
    /// Services with their slices.
    pub services: BTreeMap<ServiceKey, (Arc<Service>, Vec<Arc<EndpointSlice>>)>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, FrontNode>,
    /// Health checks that answer well.
    pub passing: BTreeSet<SocketAddr>,
    /// Networks that the front shares with nodes; nodes answer their clients without the front.
    pub near: BTreeSet<IpNet>,
    /// Nodes whose packets to clients elsewhere come back through the front.
    pub returning: BTreeSet<IpAddr>,
}

/// What a front should make true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrontPlan {
    /// Packets, in a node's terms.
    pub packets: Plan,
    /// What users of a Service should know.
    pub notices: BTreeSet<FrontNotice>,
}

/// Something about a Service that its users should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrontNotice {
    /// Its pods would like to see clients' addresses, and see the front's.
    ClientAddressHidden {
        /// The Service.
        service: Arc<ServiceKey>,
        /// The nodes whose packets to clients do not come back through the front.
        nodes: BTreeSet<String>,
    },
    /// It has no node port to send connections to.
    NoNodePort {
        /// The Service.
        service: Arc<ServiceKey>,
        /// Which port.
        port: u16,
    },
}

impl FrontNotice {
    /// The Service that it is about.
    #[must_use]
    pub fn service(&self) -> &Arc<ServiceKey> {
        match self {
            Self::ClientAddressHidden { service, .. } | Self::NoNodePort { service, .. } => service,
        }
    }

    /// The reason as an Event has it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ClientAddressHidden { .. } => "ClientAddressHidden",
            Self::NoNodePort { .. } => "NoNodePort",
        }
    }
}

impl fmt::Display for FrontNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientAddressHidden { nodes, .. } => {
                let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
                let nodes = nodes.join(", ");
                write!(
                    f,
                    "pods see the front's address in place of the client's: \
                     what {nodes} sends to clients does not return through the front"
                )
            }
            Self::NoNodePort { port, .. } => {
                write!(f, "port {port} has no node port that a front could use")
            }
        }
    }
}

/// The health checks that a plan depends on.
#[must_use]
pub fn front_checks(snapshot: &FrontSnapshot) -> BTreeSet<SocketAddr> {
    let ports: BTreeSet<u16> = snapshot
        .services
        .iter()
        .filter_map(|(key, (service, _))| {
            let facts = facts(key, service)?;
            (!facts.owned_ips().is_empty()).then_some(facts.health_check_port)
        })
        .flatten()
        .chain([PROXY_HEALTH_PORT])
        .collect();
    let nodes = snapshot.nodes.values();
    nodes
        .flat_map(|node| &node.addresses)
        .flat_map(|ip| ports.iter().map(|port| SocketAddr::new(*ip, *port)))
        .collect()
}

/// Plans a front's packets.
#[must_use]
pub fn plan_front(snapshot: &FrontSnapshot) -> FrontPlan {
    let mut plan = FrontPlan::default();
    plan.packets.ranges.cluster_cidrs = snapshot.near.clone();
    plan.packets.ranges.pod_cidrs = snapshot.near.clone();
    // A front has no pods whose addresses would need hiding.
    plan.packets.ranges.non_masquerade_cidrs =
        [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())].into();
    for (key, (service, slices)) in &snapshot.services {
        let Some(facts) = facts(key, service) else {
            continue;
        };
        let ips = facts.owned_ips();
        // What no frontend takes must not be routed back to where it came from.
        let ranges = &mut plan.packets.ranges.service_cidrs;
        ranges.extend(ips.iter().map(|ip| IpNet::from(*ip)));
        let owned = |ip: &IpAddr| {
            let service = facts.key.clone();
            let nodes = None;
            (*ip, Announced { service, nodes })
        };
        plan.packets.load_balancer_ips.extend(ips.iter().map(owned));
        each_service_port(snapshot, &facts, service, slices, |service_port, port| {
            service_port.plan(port, &mut plan);
        });
    }
    plan
}

/// Every port of a Service, in each family.
fn each_service_port(
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

/// What a Service says; its warnings are the nodes' to give.
fn facts(key: &ServiceKey, service: &Service) -> Option<Facts> {
    let key = Arc::new(key.clone());
    Facts::read(&Settings::default(), &key, service, &mut BTreeSet::new())
}

/// One service port in one family, with what its plan depends on.
struct ServicePortOf<'a> {
    snapshot: &'a FrontSnapshot,
    facts: &'a Facts,
    family: Family,
    endpoints: &'a [Endpoint],
    key: Arc<PortKey>,
}

impl ServicePortOf<'_> {
    /// The frontends that the front owns of it.
    fn keys(&self, port: &ServicePort) -> Vec<FrontendKey> {
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

    fn plan(&self, port: &ServicePort, plan: &mut FrontPlan) {
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

    fn passes(&self, ip: IpAddr, port: u16) -> bool {
        self.snapshot.passing.contains(&SocketAddr::new(ip, port))
    }

    /// The nodes that new connections go to: of the first tier that has any.
    fn chosen(&self) -> Vec<(&str, IpAddr)> {
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
    fn check_port(&self) -> u16 {
        match self.facts.external {
            Policy::Cluster => PROXY_HEALTH_PORT,
            Policy::Local => self.facts.health_check_port.unwrap_or(PROXY_HEALTH_PORT),
        }
    }

    /// Whether that port knows of pods, too, as far as they matter.
    fn is_vouched_for(&self) -> bool {
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

fn node_port_of(port: &ServicePort) -> Option<u16> {
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
