//! The part of the ruleset that follows the plan: the elements that say what it says.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use knarr_netproxy_plan::{
    Address, Answer, Family, Frontend, FrontendKey, FrontendKind, Hairpin, Policy, Protocol,
};

use super::{
    Verdict,
    octets::{Octets, address},
    set::{BackendBytes, Element, Key, Set, Value},
    target::Target,
};

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
        Answer::Reject if frontend.allowed_sources.is_some() => {
            unanswered(Verdict::Goto("restricted-reject-chain".into()));
        }
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
            (Address::Ip(address(bytes)?), rest)
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
