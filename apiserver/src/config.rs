//! What the server is told at start.

use std::{net::IpAddr, ops::RangeInclusive, path::PathBuf};

use ipnet::IpNet;

/// Settings of one API server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Holds the database, the keys and the kubeconfig.
    pub data_dir: PathBuf,
    /// Where clients of other machines and the Service `default/kubernetes` find this server, until it moves.
    pub advertise_address: IpAddr,
    /// The address listened on; `None`: every address of the host.
    pub bind: Option<IpAddr>,
    pub port: u16,
    /// Further names and addresses the serving certificate is good for, such as the node's, until the server moves.
    pub server_names: Vec<String>,
    /// One range a family, the cluster's first family first.
    pub service_cidrs: Vec<IpNet>,
    pub cluster_cidrs: Vec<IpNet>,
    pub node_port_range: RangeInclusive<u16>,
    /// Ranges or CIDRs, as the user wrote them.
    pub lb_pool: String,
    pub cluster_domain: String,
    /// Empty: the tenth address of each service range.
    pub cluster_dns: Vec<IpAddr>,
    /// Requests that only read, answered at once; 0: as many as come.
    pub requests_inflight_max: usize,
    /// The same for those that change something.
    pub mutating_requests_inflight_max: usize,
    /// Gives what is free of the process's memory back to the system.
    pub give_back_memory: fn(),
}

/// The first usable address of a range: the one of `default/kubernetes` in a service range.
pub(crate) fn first(range: &IpNet) -> Option<IpAddr> {
    nth(range, 1)
}

/// The address `offset` places after the network's own, if the range holds it.
pub(crate) fn nth(range: &IpNet, offset: u128) -> Option<IpAddr> {
    let address = match range.network() {
        IpAddr::V4(network) => {
            let offset = u32::try_from(offset).ok()?;
            IpAddr::from(network.to_bits().checked_add(offset)?.to_be_bytes())
        }
        IpAddr::V6(network) => IpAddr::from(network.to_bits().checked_add(offset)?.to_be_bytes()),
    };
    range.contains(&address).then_some(address)
}

#[cfg(test)]
impl Config {
    /// A single-stack cluster that nothing listens for.
    pub(crate) fn for_tests(data_dir: PathBuf) -> Config {
        Config {
            data_dir,
            advertise_address: IpAddr::from([192, 0, 2, 1]),
            bind: None,
            port: 6443,
            server_names: vec!["node-1".into()],
            service_cidrs: vec![IpNet::V4(ipnet::Ipv4Net::new_assert(
                [10, 0, 128, 0].into(),
                17,
            ))],
            cluster_cidrs: vec![IpNet::V4(ipnet::Ipv4Net::new_assert(
                [10, 42, 0, 0].into(),
                16,
            ))],
            node_port_range: 30000..=32767,
            lb_pool: String::new(),
            cluster_domain: "cluster.local".into(),
            cluster_dns: Vec::new(),
            requests_inflight_max: 400,
            mutating_requests_inflight_max: 200,
            give_back_memory: || (),
        }
    }
}
