//! What a planner knows besides Services: the cluster's ranges and this node.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::core::v1::Node;
use knarr_api::kinds::node::NETWORKS_ANNOTATION;

use crate::{frontend::Ranges, key::Family};

/// The topology label that hints refer to.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Addresses of groups.
const MULTICAST: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0),
        8,
    )),
];

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
    /// Where addresses of this node's own pods come from; the cluster's ranges when unknown.
    pub pod_cidrs: BTreeSet<IpNet>,
    /// Where cluster IPs come from.
    pub service_cidrs: BTreeSet<IpNet>,
    /// Which addresses of this node accept node ports.
    pub node_port_addresses: NodePortAddresses,
    /// Addresses of all nodes.
    pub peers: BTreeSet<IpAddr>,
    /// Networks of this node's links, where known: nodes elsewhere are behind routers, which know no pods.
    pub networks: Option<BTreeSet<IpNet>>,
    /// Where pods are seen under their own addresses, besides the cluster itself.
    pub non_masquerade_cidrs: BTreeSet<IpNet>,
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
    /// Takes zone, addresses and pod CIDRs from this node's object.
    pub fn learn_node(&mut self, node: &Node) {
        self.zone = node
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(ZONE_LABEL))
            .cloned();
        self.node_ips = internal_ips(node).collect();
        self.pod_cidrs = pod_cidrs(node).collect();
        let annotations = node.metadata.annotations.as_ref();
        self.networks = annotations
            .and_then(|all| all.get(NETWORKS_ANNOTATION))
            .map(|text| text.split(',').filter_map(|net| net.parse().ok()).collect());
    }

    /// Takes the addresses of all nodes from their objects.
    pub fn learn_peers<'a>(&mut self, nodes: impl IntoIterator<Item = &'a Node>) {
        self.peers = nodes.into_iter().flat_map(internal_ips).collect();
    }

    /// Whether every Service is planned alike under other settings.
    pub(crate) fn plans_alike(&self, other: &Self) -> bool {
        let Self {
            node_name,
            zone,
            node_ips,
            cluster_cidrs,
            pod_cidrs,
            service_cidrs,
            node_port_addresses,
            peers: _,
            networks: _,
            non_masquerade_cidrs: _,
        } = self;
        *node_name == other.node_name
            && *zone == other.zone
            && *node_ips == other.node_ips
            && *cluster_cidrs == other.cluster_cidrs
            && *pod_cidrs == other.pod_cidrs
            && *service_cidrs == other.service_cidrs
            && *node_port_addresses == other.node_port_addresses
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
            NodePortAddresses::Within(ranges) => ranges
                .iter()
                .flat_map(|range| without_loopback(*range))
                .collect(),
        };
        let pod_cidrs = Some(&self.pod_cidrs).filter(|known| !known.is_empty());
        // Only where its own pods are known apart from those of other nodes.
        let node_ips = self.node_ips.iter().filter(|_| pod_cidrs.is_some());
        Ranges {
            cluster_cidrs: self.cluster_cidrs.clone(),
            pod_cidrs: pod_cidrs.unwrap_or(&self.cluster_cidrs).clone(),
            service_cidrs: self.service_cidrs.clone(),
            node_addresses: node_ips.copied().map(IpNet::from).collect(),
            node_port_addresses: within,
            non_masquerade_cidrs: self.non_masquerade_cidrs(),
        }
    }

    /// The cluster itself, nodes that no router is before, what somebody asked for, and groups of machines, whose members
    /// nobody answers.
    fn non_masquerade_cidrs(&self) -> BTreeSet<IpNet> {
        let asked_for = self.non_masquerade_cidrs.iter();
        let ranges = asked_for
            .chain(&self.cluster_cidrs)
            .chain(&self.service_cidrs);
        let is_near = |peer: &&IpAddr| {
            let networks = self.networks.as_ref();
            networks.is_none_or(|all| all.iter().any(|net| net.contains(*peer)))
        };
        let near = self.peers.iter().filter(is_near);
        let nodes = self.node_ips.iter().chain(near);
        let nodes = nodes.map(|address| IpNet::from(*address));
        ranges.copied().chain(nodes).chain(MULTICAST).collect()
    }
}

fn internal_ips(node: &Node) -> impl Iterator<Item = IpAddr> {
    let status = node.status.iter();
    let addresses = status.flat_map(|status| status.addresses.iter().flatten());
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok())
}

/// A node's ranges of pod addresses; the older field counts where the list is absent.
pub fn pod_cidrs(node: &Node) -> impl Iterator<Item = IpNet> {
    let cidrs = node.spec.iter().flat_map(|spec| {
        let only = spec.pod_cidr.iter().filter(|_| spec.pod_cidrs.is_none());
        spec.pod_cidrs.iter().flatten().chain(only)
    });
    cidrs.filter_map(|cidr| cidr.parse().ok())
}

/// What is left of a range without localhost, which packets can neither leave nor enter by other links.
fn without_loopback(range: IpNet) -> Vec<IpNet> {
    let loopback = match range {
        IpNet::V4(_) => IpNet::new(Ipv4Addr::LOCALHOST.into(), 8),
        IpNet::V6(_) => IpNet::new(Ipv6Addr::LOCALHOST.into(), 128),
    };
    let Ok(loopback) = loopback.map(|net| net.trunc()) else {
        return vec![range];
    };
    if loopback.contains(&range) {
        return Vec::new();
    }
    if !range.contains(&loopback) {
        return vec![range];
    }
    let halves = range.subnets(range.prefix_len() + 1);
    halves
        .into_iter()
        .flatten()
        .flat_map(without_loopback)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_keep_their_address_towards_nodes_that_no_router_is_before() {
        let check = |networks: Option<&str>, expected: &[&str]| {
            let annotations =
                networks.map(|text| [(NETWORKS_ANNOTATION.to_owned(), text.to_owned())]);
            let mut node = Node::default();
            node.metadata.annotations = annotations.map(Into::into);
            let mut settings = Settings::default();
            settings.learn_node(&node);
            settings.peers = ["192.0.2.7", "198.51.100.7", "fd07::7", "fd08::7"]
                .map(|ip| ip.parse().expect("an address"))
                .into();
            let kept = settings.ranges().non_masquerade_cidrs;
            let kept: Vec<String> = kept
                .difference(&MULTICAST.into())
                .map(ToString::to_string)
                .collect();
            assert_eq!(kept, expected, "{networks:?}");
        };
        let all = [
            "192.0.2.7/32",
            "198.51.100.7/32",
            "fd07::7/128",
            "fd08::7/128",
        ];
        check(None, &all);
        check(Some("192.0.2.0/24,fd08::/64"), &[all[0], all[3]]);
        check(Some(""), &[]);
    }

    #[test]
    fn node_ports_are_never_rewritten_on_loopback() {
        let check = |range: &str, expected: &[&str]| {
            let left = without_loopback(range.parse().expect("a CIDR"));
            let left: Vec<String> = left.iter().map(ToString::to_string).collect();
            assert_eq!(left, expected, "{range}");
        };
        check("192.0.2.0/24", &["192.0.2.0/24"]);
        check("127.0.0.0/16", &[]);
        check("::1/128", &[]);
        check("126.0.0.0/7", &["126.0.0.0/8"]);
        check(
            "0.0.0.0/0",
            &[
                "0.0.0.0/2",
                "64.0.0.0/3",
                "96.0.0.0/4",
                "112.0.0.0/5",
                "120.0.0.0/6",
                "124.0.0.0/7",
                "126.0.0.0/8",
                "128.0.0.0/1",
            ],
        );
        assert_eq!(without_loopback("::/0".parse().expect("a CIDR")).len(), 128);
    }
}
