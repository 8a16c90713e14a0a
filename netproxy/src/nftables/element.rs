//! The part of the ruleset that follows the plan: sets, maps and their elements.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use knarr_netproxy_plan::{
    Address, Answer, Family, Frontend, FrontendKey, FrontendKind, Hairpin, Policy, Protocol,
};

use super::{
    Verdict,
    octets::{Octets, TooMany},
    statement::{FRONTEND, Field},
    target::Target,
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
    /// Frontends that serve some sources only.
    RestrictedFrontends,
    /// The sources that they serve.
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
    pub const ALL: [Self; 22] = [
        Self::ClusterCidrs,
        Self::PodCidrs,
        Self::ServiceCidrs,
        Self::NodeAddresses,
        Self::NodePortAddresses,
        Self::NonMasqueradeCidrs,
        Self::ClusterIps,
        Self::RestrictedFrontends,
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
            Self::RestrictedFrontends => "restricted-frontends",
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
            Self::RestrictedFrontends
            | Self::NoEndpointServices
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
            | Self::RestrictedFrontends
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

/// A key in the making: every part of it has a place in the longest.
#[derive(Clone, Copy, Default)]
struct Bytes<const MAX: usize>(Octets<MAX>);

impl<const MAX: usize> Bytes<MAX> {
    fn add(mut self, part: &[u8]) -> Self {
        let added = self.0.extend(part);
        debug_assert_eq!(added, Ok(()), "a key longer than the longest");
        self
    }

    fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.add(&address.octets()),
            IpAddr::V6(address) => self.add(&address.octets()),
        }
    }

    fn protocol(self, protocol: Protocol) -> Self {
        self.add(&[protocol.number(), 0, 0, 0])
    }

    fn port(self, port: u16) -> Self {
        let [high, low] = port.to_be_bytes();
        self.add(&[high, low, 0, 0])
    }

    fn slot(self, slot: u32) -> Self {
        self.add(&slot.to_ne_bytes())
    }

    fn frontend(key: &FrontendKey) -> Self {
        let start = match key.address {
            Address::Ip(address) => Self::default().address(address),
            Address::Node(_) => Self::default(),
        };
        start.protocol(key.protocol).port(key.port)
    }
}

impl Bytes<40> {
    fn exactly(self) -> Key {
        Key {
            first: self.0,
            last: None,
        }
    }

    fn to(self, last: Self) -> Key {
        Key {
            first: self.0,
            last: Some(Box::new(last.0)),
        }
    }
}

/// The bytes of a backend as maps hold it.
#[must_use]
pub fn backend_bytes(backend: &SocketAddr) -> BackendBytes {
    Bytes::default()
        .address(backend.ip())
        .port(backend.port())
        .0
}

/// The sets that hold one way into a frontend.
struct Way {
    verdicts: Set,
    backends: Set,
    policy: Policy,
}

/// The elements of one frontend.
#[must_use]
pub fn of_frontend(key: &FrontendKey, frontend: &Frontend) -> Vec<Element> {
    let node_port = frontend.kind == FrontendKind::NodePort;
    let (verdicts, backends, silent, counters) = if node_port {
        (
            Set::NodePorts,
            Set::NodePortBackends,
            Set::NoEndpointNodePorts,
            Set::NodePortConnections,
        )
    } else {
        (
            Set::Frontends,
            Set::Backends,
            Set::NoEndpointServices,
            Set::Connections,
        )
    };
    // Whoever answers, and even when nobody does: counts last as long as the frontend.
    let mut elements = vec![Element {
        set: counters,
        key: Bytes::frontend(key).exactly(),
        value: Value::Present,
    }];
    let way = Way {
        verdicts,
        backends,
        policy: Policy::Cluster,
    };
    let mut unanswered = |verdict| {
        let key = Bytes::frontend(key).exactly();
        elements.push(Element {
            set: silent,
            key,
            value: Value::Verdict(verdict),
        });
    };
    match &frontend.answer {
        Answer::Backends { .. } => {}
        Answer::Reject => unanswered(Verdict::Goto("reject-chain".into())),
        Answer::Drop => unanswered(Verdict::Drop),
    }
    answered(key, frontend, &frontend.answer, &way, &mut elements);
    if let Some(answer) = &frontend.from_outside {
        let (verdicts, backends) = if node_port {
            (Set::LocalNodePorts, Set::LocalNodePortBackends)
        } else {
            (Set::LocalFrontends, Set::LocalBackends)
        };
        let way = Way {
            verdicts,
            backends,
            policy: Policy::Local,
        };
        if *answer == Answer::Drop {
            let key = Bytes::frontend(key).exactly();
            elements.push(Element {
                set: verdicts,
                key,
                value: Value::Verdict(Verdict::Drop),
            });
        }
        answered(key, frontend, answer, &way, &mut elements);
    }
    restrictions(key, frontend, &mut elements);
    elements
}

/// The frontend that an element stands for, in sets whose keys are frontends.
#[must_use]
pub fn frontend_of(set: Set, key: &Key, family: Family) -> Option<FrontendKey> {
    let address_bytes = match family {
        Family::V4 => 4,
        Family::V6 => 16,
    };
    let bytes: &[u8] = &key.first;
    let (address, rest) = match set {
        Set::Frontends | Set::NoEndpointServices | Set::Connections => {
            let (bytes, rest) = bytes.split_at_checked(address_bytes)?;
            (Address::Ip(super::text::address(bytes)?), rest)
        }
        Set::NodePorts | Set::NoEndpointNodePorts | Set::NodePortConnections => {
            (Address::Node(family), bytes)
        }
        _ => return None,
    };
    let [protocol, _, _, _, high, low, ..] = rest else {
        return None;
    };
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .find(|known| known.number() == *protocol)?;
    Some(FrontendKey {
        address,
        protocol,
        port: u16::from_be_bytes([*high, *low]),
    })
}

fn answered(
    key: &FrontendKey,
    frontend: &Frontend,
    answer: &Answer,
    way: &Way,
    elements: &mut Vec<Element>,
) {
    let Some(target) = Target::of(frontend, answer, way.policy) else {
        return;
    };
    elements.push(Element {
        set: way.verdicts,
        key: Bytes::frontend(key).exactly(),
        value: Value::Verdict(Verdict::Goto(target.name())),
    });
    let Answer::Backends { backends, .. } = answer else {
        return;
    };
    if !target.picks_by_slot() {
        return;
    }
    for (slot, backend) in (0_u32..).zip(backends.iter()) {
        elements.push(Element {
            set: way.backends,
            key: Bytes::frontend(key).slot(slot).exactly(),
            value: Value::Backend(backend_bytes(backend)),
        });
    }
}

fn restrictions(key: &FrontendKey, frontend: &Frontend, elements: &mut Vec<Element>) {
    let Some(sources) = &frontend.allowed_sources else {
        return;
    };
    let frontend = Bytes::frontend(key);
    let set = Set::RestrictedFrontends;
    elements.push(Element {
        set,
        key: frontend.exactly(),
        value: Value::Present,
    });
    elements.extend(sources.iter().map(|range| {
        Element {
            set: Set::AllowedSources,
            key: frontend
                .address(range.network())
                .to(frontend.address(range.broadcast())),
            value: Value::Present,
        }
    }));
}

/// The element of one cluster IP.
#[must_use]
pub fn of_cluster_ip(address: IpAddr) -> Element {
    let key = Bytes::default().address(address).exactly();
    Element {
        set: Set::ClusterIps,
        key,
        value: Value::Present,
    }
}

/// The element of one hairpin.
#[must_use]
pub fn of_hairpin(hairpin: &Hairpin) -> Element {
    let Hairpin { endpoint, protocol } = hairpin;
    let address = endpoint.ip();
    let key = Bytes::default().address(address).address(address);
    let key = key.protocol(*protocol).port(endpoint.port()).exactly();
    Element {
        set: Set::HairpinConnections,
        key,
        value: Value::Present,
    }
}

/// The elements of ranges, in one family.
pub fn of_ranges<'a>(
    set: Set,
    ranges: impl IntoIterator<Item = &'a IpNet>,
    family: Family,
) -> Vec<Element> {
    let ranges: Vec<IpNet> = ranges.into_iter().copied().collect();
    let own = IpNet::aggregate(&ranges)
        .into_iter()
        .filter(|range| Family::of(&range.addr()) == family);
    own.map(|range| Element {
        set,
        key: Bytes::default()
            .address(range.network())
            .to(Bytes::default().address(range.broadcast())),
        value: Value::Present,
    })
    .collect()
}
