//! A node as a front sees it: where it answers, and whether it is leaving.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;

use crate::key::Family;

/// Keeps a node out of every load balancer.
pub const EXCLUDED_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A node as a front sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontNode {
    /// Its addresses, the primary one of each family first.
    pub addresses: Vec<IpAddr>,
    /// Whether it may have new connections.
    pub standing: Standing,
}

/// Whether a node may have new connections; those that it has, it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Staying,
    /// Only if no other node can: it is cordoned, not ready or being deleted.
    Leaving,
    /// It may not: its label says so.
    Excluded,
}

impl FrontNode {
    /// Reads a Node.
    #[must_use]
    pub fn read(node: &Node) -> Self {
        let status = node.status.as_ref();
        let addresses = status.and_then(|status| status.addresses.as_ref());
        let addresses = addresses
            .into_iter()
            .flatten()
            .filter(|address| address.type_ == "InternalIP")
            .filter_map(|address| address.address.parse().ok())
            .collect();
        let labels = node.metadata.labels.as_ref();
        let excluded = labels.is_some_and(|labels| labels.contains_key(EXCLUDED_LABEL));
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let ready = conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
        let deleted = node.metadata.deletion_timestamp.is_some();
        let standing = match (excluded, ready && !cordoned && !deleted) {
            (true, _) => Standing::Excluded,
            (false, true) => Standing::Staying,
            (false, false) => Standing::Leaving,
        };
        Self {
            addresses,
            standing,
        }
    }

    pub(super) fn address(&self, family: Family) -> Option<IpAddr> {
        let mut addresses = self.addresses.iter().copied();
        addresses.find(|address| Family::of(address) == family)
    }
}
