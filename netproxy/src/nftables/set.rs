//! The skeleton's sets and maps, and their elements as data.

use super::{
    Verdict,
    octets::{Octets, TooMany},
    statement::{FRONTEND, Field},
};

/// A set or map of the skeleton.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// Where pod addresses come from.
    ClusterCidrs,
    /// Where addresses of this node's own pods come from.
    PodCidrs,
    /// Where cluster IPs come from.
    ServiceCidrs,
    /// The addresses by which this node is known.
    NodeAddresses,
    /// This node's addresses that accept node ports.
    NodePortAddresses,
    /// Where this node's pods are seen under their own addresses.
    NonMasqueradeCidrs,
    /// Cluster IPs in use.
    ClusterIps,
    /// The sources that frontends serve, where they do not serve all.
    AllowedSources,
    /// Local endpoints that may reach themselves.
    HairpinConnections,
    /// Frontends that nobody answers, or nobody on this node.
    NoEndpointServices,
    /// The same for node ports.
    NoEndpointNodePorts,
    /// What each frontend leads to.
    Frontends,
    /// What it leads to from outside, under policy Local.
    LocalFrontends,
    /// The same for node ports.
    NodePorts,
    /// The same for node ports from outside, under policy Local.
    LocalNodePorts,
    /// Who answers a frontend.
    Backends,
    /// Who answers it from outside, under policy Local.
    LocalBackends,
    /// Who answers a node port.
    NodePortBackends,
    /// Who answers it from outside, under policy Local.
    LocalNodePortBackends,
    /// How many connections each frontend has led to a backend.
    Connections,
    /// The same for node ports.
    NodePortConnections,
}

/// What an element of a map leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// Nothing: it is a set.
    Nowhere,
    /// A verdict.
    ToVerdict,
    /// An address and port.
    ToBackend,
}

/// Whether the kernel counts how often it found a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// It does not.
    Nothing,
    /// It does: packets and bytes.
    Lookups,
}

/// The order in which keys are looked up in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matching {
    /// Key by key.
    Exact,
    /// Ranges of keys.
    Ranges,
}

impl Set {
    /// Every set and map, in the order in which they are read.
    pub const ALL: [Self; 21] = [
        Self::ClusterCidrs,
        Self::PodCidrs,
        Self::ServiceCidrs,
        Self::NodeAddresses,
        Self::NodePortAddresses,
        Self::NonMasqueradeCidrs,
        Self::ClusterIps,
        Self::AllowedSources,
        Self::HairpinConnections,
        Self::NoEndpointServices,
        Self::NoEndpointNodePorts,
        Self::Frontends,
        Self::LocalFrontends,
        Self::NodePorts,
        Self::LocalNodePorts,
        Self::Backends,
        Self::LocalBackends,
        Self::NodePortBackends,
        Self::LocalNodePortBackends,
        Self::Connections,
        Self::NodePortConnections,
    ];

    /// The set's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterCidrs => "cluster-cidrs",
            Self::PodCidrs => "pod-cidrs",
            Self::ServiceCidrs => "service-cidrs",
            Self::NodeAddresses => "node-addresses",
            Self::NodePortAddresses => "node-port-addresses",
            Self::NonMasqueradeCidrs => "non-masquerade-cidrs",
            Self::ClusterIps => "cluster-ips",
            Self::AllowedSources => "allowed-sources",
            Self::HairpinConnections => "hairpin-connections",
            Self::NoEndpointServices => "no-endpoint-services",
            Self::NoEndpointNodePorts => "no-endpoint-node-ports",
            Self::Frontends => "frontends",
            Self::LocalFrontends => "local-frontends",
            Self::NodePorts => "node-ports",
            Self::LocalNodePorts => "local-node-ports",
            Self::Backends => "backends",
            Self::LocalBackends => "local-backends",
            Self::NodePortBackends => "node-port-backends",
            Self::LocalNodePortBackends => "local-node-port-backends",
            Self::Connections => "connections",
            Self::NodePortConnections => "node-port-connections",
        }
    }

    /// The set of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name() == name)
    }

    /// The parts of its keys.
    #[must_use]
    pub fn key(self) -> Vec<Field> {
        let node_port = [Field::Protocol, Field::Port];
        let slot = Field::Slot { below: 1 };
        match self {
            Self::ClusterCidrs | Self::PodCidrs | Self::NodeAddresses => vec![Field::Source],
            Self::ServiceCidrs
            | Self::NodePortAddresses
            | Self::NonMasqueradeCidrs
            | Self::ClusterIps => vec![Field::Destination],
            Self::AllowedSources => [&FRONTEND[..], &[Field::Source]].concat(),
            Self::HairpinConnections => [&[Field::Source][..], &FRONTEND].concat(),
            Self::NoEndpointServices
            | Self::Frontends
            | Self::LocalFrontends
            | Self::Connections => FRONTEND.to_vec(),
            Self::NoEndpointNodePorts
            | Self::NodePorts
            | Self::LocalNodePorts
            | Self::NodePortConnections => node_port.to_vec(),
            Self::Backends | Self::LocalBackends => [&FRONTEND[..], &[slot]].concat(),
            Self::NodePortBackends | Self::LocalNodePortBackends => {
                [&node_port[..], &[slot]].concat()
            }
        }
    }

    /// What its elements lead to.
    #[must_use]
    pub fn leads(self) -> Leads {
        match self {
            Self::ClusterCidrs
            | Self::PodCidrs
            | Self::ServiceCidrs
            | Self::NodeAddresses
            | Self::NodePortAddresses
            | Self::NonMasqueradeCidrs
            | Self::ClusterIps
            | Self::AllowedSources
            | Self::HairpinConnections
            | Self::Connections
            | Self::NodePortConnections => Leads::Nowhere,
            Self::NoEndpointServices
            | Self::NoEndpointNodePorts
            | Self::Frontends
            | Self::LocalFrontends
            | Self::NodePorts
            | Self::LocalNodePorts => Leads::ToVerdict,
            Self::Backends
            | Self::LocalBackends
            | Self::NodePortBackends
            | Self::LocalNodePortBackends => Leads::ToBackend,
        }
    }

    /// How its keys are matched.
    #[must_use]
    pub fn matching(self) -> Matching {
        match self {
            Self::ClusterCidrs
            | Self::PodCidrs
            | Self::ServiceCidrs
            | Self::NodeAddresses
            | Self::NodePortAddresses
            | Self::NonMasqueradeCidrs
            | Self::AllowedSources => Matching::Ranges,
            _ => Matching::Exact,
        }
    }

    /// Whether its elements count.
    #[must_use]
    pub fn counting(self) -> Counting {
        match self {
            Self::Connections | Self::NodePortConnections => Counting::Lookups,
            _ => Counting::Nothing,
        }
    }
}

/// A key of a set: one, or a range from first to last. Each part fills whole registers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The key, or the first of the range.
    pub first: KeyBytes,
    /// The last of the range; few keys have one, so it does not make all of them larger.
    pub last: Option<Box<KeyBytes>>,
}

/// Two addresses, a protocol and a port are the longest key there is.
pub type KeyBytes = Octets<40>;
/// An address and a port.
pub type BackendBytes = Octets<20>;

impl Key {
    /// A key of exactly these bytes.
    ///
    /// # Errors
    /// When no set has keys as long as that.
    pub fn exactly(bytes: &[u8]) -> Result<Self, TooMany> {
        let first = bytes.try_into()?;
        Ok(Self { first, last: None })
    }

    /// The keys from one to another.
    ///
    /// # Errors
    /// When no set has keys as long as that.
    pub fn range(first: &[u8], last: &[u8]) -> Result<Self, TooMany> {
        Ok(Self {
            first: first.try_into()?,
            last: Some(Box::new(last.try_into()?)),
        })
    }
}

/// What a key leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Nothing: it is in a set.
    Present,
    /// A verdict.
    Verdict(Verdict),
    /// An address and port, each filling whole registers.
    Backend(BackendBytes),
}

/// One element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// The set.
    pub set: Set,
    /// The key.
    pub key: Key,
    /// What it leads to.
    pub value: Value,
}
