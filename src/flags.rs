//! The flags of every command, as they were typed. What they mean is settled in [`crate::settings`].

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use serde::Deserialize;

/// Flags that every command shares; each is also an environment variable and a key of the `--config` file.
#[derive(Args, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Flags {
    /// YAML file with these options as keys
    #[arg(long, global = true, env = "KNARR_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// What outlives a restart: objects, keys, the kubeconfig [default: /var/lib/knarr]
    #[arg(long, global = true, env = "KNARR_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// What outlives knarr but not a reboot: running pods [default: /run/knarr]
    #[arg(long, global = true, env = "KNARR_RUN_DIR", value_name = "DIR")]
    pub(crate) run_dir: Option<PathBuf>,
    /// Name of this node [default: the host name]
    #[arg(long, global = true, env = "KNARR_NODE_NAME", value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Address other nodes reach this one at; once per IP family [default: the uplink's]
    #[arg(
        long,
        global = true,
        env = "KNARR_NODE_IP",
        value_name = "IP",
        value_delimiter = ','
    )]
    #[serde(default)]
    pub(crate) node_ip: Vec<IpAddr>,
    /// Address the API server listens on [default: all]
    #[arg(long, global = true, env = "KNARR_BIND", value_name = "IP")]
    pub(crate) bind: Option<IpAddr>,
    /// Port the API server listens on [default: 6443]
    #[arg(long, global = true, env = "KNARR_PORT", value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Addresses of pods, one range per IP family, the primary one first [default: 10.42.0.0/16]
    #[arg(
        long,
        global = true,
        env = "KNARR_CLUSTER_CIDR",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    #[serde(default)]
    pub(crate) cluster_cidr: Vec<IpNet>,
    /// Addresses of Services, one range per IP family; two make the cluster dual-stack, one of IPv6 makes it IPv6 only [default: 10.0.128.0/17]
    #[arg(
        long,
        global = true,
        env = "KNARR_SERVICE_CIDR",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    #[serde(default)]
    pub(crate) service_cidr: Vec<IpNet>,
    /// Ports that node ports are taken from [default: 30000-32767]
    #[arg(
        long,
        global = true,
        env = "KNARR_NODE_PORT_RANGE",
        value_name = "FROM-TO"
    )]
    pub(crate) node_port_range: Option<String>,
    /// Where node ports answer: `primary` (the node's own address of each IP family) or CIDRs of its addresses; and `localhost` [default: primary,localhost]
    #[arg(
        long,
        global = true,
        env = "KNARR_NODE_PORT_ADDRESSES",
        value_name = "primary|CIDR|localhost",
        value_delimiter = ','
    )]
    #[serde(default)]
    pub(crate) node_port_addresses: Vec<String>,
    /// Destinations that see pods' own addresses, besides pods, Services and nodes; all others see the node's [default: none]
    #[arg(
        long,
        global = true,
        env = "KNARR_NON_MASQUERADE_CIDR",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    #[serde(default)]
    pub(crate) non_masquerade_cidr: Vec<IpNet>,
    /// Addresses of load balancers: CIDRs or FROM-TO ranges of any IP family [default: a private range that the nodes answer]
    #[arg(
        long,
        global = true,
        env = "KNARR_LB_POOL",
        value_name = "CIDR|FROM-TO",
        value_delimiter = ','
    )]
    #[serde(default)]
    pub(crate) lb_pool: Vec<String>,
    /// Requests the API server answers at once that change nothing; 0 is no bound [default: 400]
    #[arg(
        long,
        global = true,
        env = "KNARR_MAX_REQUESTS_INFLIGHT",
        value_name = "COUNT"
    )]
    pub(crate) max_requests_inflight: Option<usize>,
    /// Requests the API server answers at once that change something; 0 is no bound [default: 200]
    #[arg(
        long,
        global = true,
        env = "KNARR_MAX_MUTATING_REQUESTS_INFLIGHT",
        value_name = "COUNT"
    )]
    pub(crate) max_mutating_requests_inflight: Option<usize>,
    /// Kubeconfig for the client commands [default: the one in the data directory]
    #[arg(long, global = true, env = "KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// How log lines look on standard error
    #[arg(long, global = true, env = "KNARR_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// Least severe log lines shown: error, warn, info, debug or trace [default: info]
    #[arg(long, global = true, env = "KNARR_LOG_LEVEL", value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}
