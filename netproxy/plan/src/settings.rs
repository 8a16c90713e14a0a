//! What a planner knows besides Services: the cluster's ranges and this node.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

use crate::{frontend::Ranges, key::Family};

/// The topology label that hints refer to.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// The cluster's ranges and this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// This node's name.
    pub node_name: String,
    /// This node's zone.
    pub zone: Option<String>,
    /// This node's own addresses, the primary one of each family first.
    pub node_ips: Vec<IpAddr>,
    /// Where pod addresses come from.
    pub cluster_cidrs: BTreeSet<IpNet>,
    /// Where cluster IPs come from.
    pub service_cidrs: BTreeSet<IpNet>,
    /// Which addresses of this node accept node ports.
    pub node_port_addresses: NodePortAddresses,
}

/// Which addresses of a node accept node ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The node's primary address of each family.
    #[default]
    Primary,
    /// Local addresses within these ranges.
    Within(BTreeSet<IpNet>),
}

impl Settings {
    /// Takes zone and addresses from this node's object.
    pub fn learn_node(&mut self, node: &Node) {
        self.zone = node
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(ZONE_LABEL))
            .cloned();
        let addresses = node
            .status
            .as_ref()
            .and_then(|status| status.addresses.as_ref());
        self.node_ips = addresses
            .into_iter()
            .flatten()
            .filter(|address| address.type_ == "InternalIP")
            .filter_map(|address| address.address.parse().ok())
            .collect();
    }

    /// The primary address of one family.
    #[must_use]
    pub fn primary_ip(&self, family: Family) -> Option<IpAddr> {
        self.node_ips
            .iter()
            .copied()
            .find(|address| Family::of(address) == family)
    }

    pub(crate) fn ranges(&self) -> Ranges {
        let within = match &self.node_port_addresses {
            NodePortAddresses::Primary => Family::BOTH
                .iter()
                .filter_map(|family| self.primary_ip(*family))
                .map(IpNet::from)
                .collect(),
            NodePortAddresses::Within(ranges) => ranges.clone(),
        };
        Ranges {
            cluster_cidrs: self.cluster_cidrs.clone(),
            service_cidrs: self.service_cidrs.clone(),
            node_port_addresses: within,
        }
    }
}
