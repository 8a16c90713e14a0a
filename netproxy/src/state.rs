//! What the rest of the proxy learns of each sync.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;
use knarr_netproxy_plan::{FrontendKey, HealthCheck, ServiceKey, localhost::Doorsteps};

use crate::claims::Claims;

/// One sync, as others see it.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Load-balancer IPs that this node may have to announce.
    pub claims: Claims,
    /// Health-check node ports.
    pub health_checks: BTreeMap<u16, HealthCheck>,
    /// Node ports.
    pub(crate) node_ports: Arc<NodePorts>,
    /// Whether load balancers should still choose this node.
    pub(crate) node_eligible: bool,
    /// Node ports on localhost.
    pub doorsteps: Arc<Doorsteps>,
}

/// The node ports of a plan, and where they are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodePorts {
    /// Node ports with their Services.
    pub(crate) services: BTreeMap<FrontendKey, Arc<ServiceKey>>,
    /// Addresses of this node that accept node ports.
    pub(crate) addresses: BTreeSet<IpNet>,
}
