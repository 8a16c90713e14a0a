//! Who holds which cluster IP and node port, as committed. Chooses nothing.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Claim, Owner};

/// All committed claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    cluster_ips: BTreeMap<IpAddr, Owner>,
    node_ports: BTreeMap<u16, Owner>,
}

impl Claims {
    pub fn cluster_ip(&self, address: IpAddr) -> Option<&Owner> {
        self.cluster_ips.get(&address)
    }

    pub fn node_port(&self, port: u16) -> Option<&Owner> {
        self.node_ports.get(&port)
    }

    /// Every claim, cluster IPs first.
    pub fn iter(&self) -> impl Iterator<Item = Claim> {
        let addresses = self
            .cluster_ips
            .iter()
            .map(|(address, owner)| Claim::ClusterIp {
                address: *address,
                owner: owner.clone(),
            });
        let ports = self.node_ports.iter().map(|(port, owner)| Claim::NodePort {
            port: *port,
            owner: owner.clone(),
        });
        addresses.chain(ports)
    }

    pub(super) fn insert(&mut self, claim: &Claim) {
        match claim {
            Claim::ClusterIp { address, owner } => {
                self.cluster_ips.insert(*address, owner.clone());
            }
            Claim::NodePort { port, owner } => {
                self.node_ports.insert(*port, owner.clone());
            }
        }
    }

    pub(super) fn remove(&mut self, claim: &Claim) {
        match claim {
            Claim::ClusterIp { address, .. } => {
                self.cluster_ips.remove(address);
            }
            Claim::NodePort { port, .. } => {
                self.node_ports.remove(port);
            }
        }
    }
}

impl Claim {
    pub fn owner(&self) -> &Owner {
        match self {
            Claim::ClusterIp { owner, .. } | Claim::NodePort { owner, .. } => owner,
        }
    }
}
