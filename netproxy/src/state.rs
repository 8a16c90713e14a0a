//! What the rest of the proxy learns of each sync.

use std::{collections::BTreeMap, sync::Arc};

use knarr_netproxy_plan::{HealthCheck, localhost::Doorsteps};

use crate::{announce::Claims, occupied::NodePorts, sync::Proxy};

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

impl Published {
    pub(crate) fn of(proxy: &Proxy) -> Self {
        Self {
            claims: proxy.claims(),
            health_checks: proxy.plan().health_checks.clone(),
            node_ports: proxy.node_ports(),
            node_eligible: proxy.store.node_is_eligible(),
            doorsteps: proxy.doorsteps(),
        }
    }
}
