//! What a front does with packets: a machine outside the cluster that owns load-balancer IPs and spreads their
//! connections over nodes.
//!
//! Plans in the same terms as a node, with the node ports of healthy nodes as backends. Asks no node itself.

mod lots;
mod node;
mod service_port;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

pub use self::{
    lots::{Lot, front_lots},
    node::{EXCLUDED_LABEL, FrontNode, Standing},
};
use crate::{
    frontend::{Announced, Plan},
    key::ServiceKey,
    service::Facts,
    settings::Settings,
};
use service_port::each_service_port;

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

/// What a Service says; its warnings are the nodes' to give.
fn facts(key: &ServiceKey, service: &Service) -> Option<Facts> {
    let key = Arc::new(key.clone());
    Facts::read(&Settings::default(), &key, service, &mut BTreeSet::new())
}
