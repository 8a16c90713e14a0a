//! What a plan says: frontends, who answers them, and how their packets are treated.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;

use crate::key::{Family, FrontendKey, PortKey, Protocol, ServiceKey};

/// Everything that should be true of this node's packets, complete and specific.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Where clients knock, and what they meet.
    pub frontends: BTreeMap<FrontendKey, Frontend>,
    /// Every cluster IP in use, with its Service.
    pub cluster_ips: BTreeMap<IpAddr, Arc<ServiceKey>>,
    /// Endpoints that may reach themselves through a Service on this node.
    pub hairpins: BTreeSet<Hairpin>,
    /// Service ports whose clients come back to the same backend.
    pub affinities: BTreeMap<AffinityKey, Affinity>,
    /// Health-check node ports to answer on.
    pub health_checks: BTreeMap<u16, HealthCheck>,
    /// Load-balancer IPs, with the Service and the nodes that may announce each.
    pub load_balancer_ips: BTreeMap<IpAddr, Announced>,
    /// Ranges that rules refer to.
    pub ranges: Ranges,
}

/// One frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// The service port it belongs to.
    pub service_port: Arc<PortKey>,
    /// Which of the Service's addresses it is.
    pub kind: FrontendKind,
    /// What a new connection meets.
    pub answer: Answer,
    /// What a new connection from outside the cluster meets, where that differs.
    pub from_outside: Option<Answer>,
    /// When the source address is rewritten.
    pub masquerade: Masquerade,
    /// Seconds for which a client keeps its backend.
    pub affinity_seconds: Option<u32>,
    /// The only sources served; everybody when absent.
    pub allowed_sources: Option<Arc<[IpNet]>>,
    /// Endpoints that may keep the flows they have.
    pub serving: Arc<[SocketAddr]>,
}

impl Frontend {
    /// Every answer this frontend can give.
    pub fn answers(&self) -> impl Iterator<Item = &Answer> {
        std::iter::once(&self.answer).chain(&self.from_outside)
    }
}

/// The kind of a frontend, in order of precedence when two Services claim one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrontendKind {
    /// The Service's stable virtual address.
    ClusterIp,
    /// The same port on every node.
    NodePort,
    /// An address announced to the outside.
    LoadBalancerIp,
    /// An address that somebody else routes here.
    ExternalIp,
}

/// As Kubernetes writes it.
impl fmt::Display for FrontendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancerIp => "LoadBalancerIP",
            Self::ExternalIp => "ExternalIP",
        })
    }
}

/// What a new connection meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One of these, chosen at random.
    Backends {
        /// Whose set this is.
        policy: Policy,
        /// The backends, sorted, never empty.
        backends: Arc<[SocketAddr]>,
    },
    /// An immediate refusal: nobody anywhere answers.
    Reject,
    /// Silence: others answer, but not from this node.
    Drop,
}

/// Use all endpoints or only this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// All endpoints.
    Cluster,
    /// Endpoints on this node.
    Local,
}

/// When the source address is rewritten to the node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masquerade {
    /// For sources outside the cluster's pods, so that replies come back through this node.
    OutsideSources,
    /// Always: the backend may be on another node, and the client may be anywhere.
    Always,
    /// For this node's own processes only; other clients keep their address.
    NodeSources,
    /// For sources that backends answer without this machine; others keep their address.
    NearSources,
}

/// An endpoint that may reach itself through a Service on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hairpin {
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// The protocol.
    pub protocol: Protocol,
}

/// A service port with session affinity, in one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AffinityKey {
    /// The service port.
    pub service_port: Arc<PortKey>,
    /// The family.
    pub family: Family,
}

/// The backends among which a client keeps its own, shared by all frontends of a service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// Seconds after its last new connection when a client is forgotten.
    pub timeout_seconds: u32,
    /// The Cluster set, where a frontend uses it.
    pub cluster: Arc<[SocketAddr]>,
    /// The Local set, where a frontend uses it.
    pub local: Arc<[SocketAddr]>,
}

/// One health-check node port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The Service.
    pub service: Arc<ServiceKey>,
    /// Ready endpoints on this node, counted by address.
    pub local_endpoint_count: usize,
}

/// Who may announce a load-balancer IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The Service.
    pub service: Arc<ServiceKey>,
    /// Nodes with a ready endpoint, where only those may; any node when absent.
    pub nodes: Option<BTreeSet<String>>,
}

/// Ranges that rules refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// Where pod addresses come from.
    pub cluster_cidrs: BTreeSet<IpNet>,
    /// Where addresses of this node's own pods come from.
    pub pod_cidrs: BTreeSet<IpNet>,
    /// Where cluster IPs come from.
    pub service_cidrs: BTreeSet<IpNet>,
    /// The addresses by which this node is known.
    pub node_addresses: BTreeSet<IpNet>,
    /// Addresses of this node that accept node ports.
    pub node_port_addresses: BTreeSet<IpNet>,
    /// Where this node's pods are seen under their own addresses; elsewhere, under the node's.
    pub non_masquerade_cidrs: BTreeSet<IpNet>,
}
