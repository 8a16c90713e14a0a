//! What the server is told at start.

use std::{net::IpAddr, ops::RangeInclusive, path::PathBuf};

use ipnet::IpNet;

/// Settings of one API server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Holds the database, the keys and the kubeconfig.
    pub data_dir: PathBuf,
    /// Where clients of other machines and the Service `default/kubernetes` find this server.
    pub advertise_address: IpAddr,
    pub port: u16,
    /// Further names and addresses the serving certificate is good for, such as the node's.
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
}
