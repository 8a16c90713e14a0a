//! UDP flows in conntrack: after endpoints change, flows that lead to nobody who serves are deleted.
//!
//! TCP and SCTP flows are never touched, only listed for whoever asks.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
};

use ipnet::IpNet;
use knarr_netproxy_plan::{Address, Changes, Family, FrontendKey, Plan, Protocol};

use crate::netlink::{
    self, SocketError,
    message::{Attributes, Writer, messages},
    netlink, receive, send,
};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const SEEN_REPLY: u32 = 2;
const ID: u16 = 12;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;

/// The UDP frontends whose flows are in question, with who may keep theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Question {
    frontends: BTreeMap<FrontendKey, Arc<[SocketAddr]>>,
    node_port_addresses: Vec<IpNet>,
}

/// One flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) protocol: Protocol,
    /// Who sent its first packet.
    pub(crate) from: SocketAddr,
    /// Where that went.
    pub(crate) to: SocketAddr,
    /// Who is to answer.
    pub(crate) answered_by: SocketAddr,
    pub(crate) heard: Heard,
}

/// Whether anybody has answered a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Heard {
    Answers,
    Nothing,
}

impl Question {
    /// Asks about every UDP frontend of a plan, too.
    pub(crate) fn add_plan(&mut self, plan: &Plan) {
        let udp = plan
            .frontends
            .iter()
            .filter(|(key, _)| key.protocol == Protocol::Udp);
        let serving = udp.map(|(key, frontend)| (*key, frontend.serving.clone()));
        self.frontends.extend(serving);
        self.node_port_addresses = node_port_addresses(plan);
    }

    /// Asks about the UDP frontends that changes touch, too, those that are gone included.
    pub(crate) fn add_changes(&mut self, changes: &Changes, plan: &Plan) {
        let udp = changes
            .frontends
            .iter()
            .filter(|(key, _)| key.protocol == Protocol::Udp);
        let serving = udp.map(|(key, change)| {
            let serving = change.to().map(|frontend| frontend.serving.clone());
            (*key, serving.unwrap_or_else(|| Arc::from([])))
        });
        self.frontends.extend(serving);
        self.node_port_addresses = node_port_addresses(plan);
    }

    /// Asks about UDP frontends that the kernel still had and the plan has not, too: their Services went while nobody looked.
    pub(crate) fn add_departed(
        &mut self,
        departed: impl IntoIterator<Item = FrontendKey>,
        plan: &Plan,
    ) {
        let gone = departed
            .into_iter()
            .filter(|key| key.protocol == Protocol::Udp && !plan.frontends.contains_key(key));
        self.frontends.extend(gone.map(|key| (key, Arc::from([]))));
        self.node_port_addresses = node_port_addresses(plan);
    }

    /// Whether there is anything to ask.
    pub(crate) fn is_empty(&self) -> bool {
        self.frontends.is_empty()
    }

    /// Whether a flow goes to one of the frontends, and nobody who serves it would answer.
    fn is_stale(&self, flow: &Flow) -> bool {
        let key = |address| FrontendKey {
            address,
            protocol: Protocol::Udp,
            port: flow.to.port(),
        };
        let to = flow.to.ip();
        let direct = self.frontends.get(&key(Address::Ip(to)));
        let on_node = || {
            let here = self
                .node_port_addresses
                .iter()
                .any(|range| range.contains(&to));
            here.then(|| self.frontends.get(&key(Address::Node(Family::of(&to)))))
                .flatten()
        };
        direct
            .or_else(on_node)
            .is_some_and(|serving| !serving.contains(&flow.answered_by))
    }
}

fn node_port_addresses(plan: &Plan) -> Vec<IpNet> {
    plan.ranges.node_port_addresses.iter().copied().collect()
}

/// Deletes the flows in question, and says how many there were.
///
/// # Errors
/// When conntrack cannot be read.
pub(crate) fn reconcile(question: &Question) -> Result<usize, SocketError> {
    let concerns = |family| {
        let mut keys = question.frontends.keys();
        keys.any(|key| key.address.family() == family)
    };
    // A dump walks through the whole table of the host, of whatever size: once has to do.
    let families = match Family::BOTH.map(concerns) {
        [false, false] => return Ok(0),
        [true, false] => number(Family::V4),
        [false, true] => number(Family::V6),
        [true, true] => libc::AF_UNSPEC as u8,
    };
    let fd = netlink()?;
    let stale = stale_flows(&fd, families, question)?;
    for flow in &stale {
        delete(&fd, flow)?;
    }
    Ok(stale.len())
}

/// The kernel's number of a family.
fn number(family: Family) -> u8 {
    match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    }
}

/// What names a flow to the kernel.
struct Handle {
    family: Family,
    original: Vec<u8>,
    id: Vec<u8>,
}

fn stale_flows(
    fd: &OwnedFd,
    families: u8,
    question: &Question,
) -> Result<Vec<Handle>, SocketError> {
    let mut stale = Vec::new();
    dump(fd, families, |attributes| {
        let flow = read(attributes).filter(|flow| flow.protocol == Protocol::Udp);
        if let Some(flow) = flow.filter(|flow| question.is_stale(flow)) {
            stale.push(Handle {
                family: Family::of(&flow.to.ip()),
                original: attributes.find(TUPLE_ORIGINAL).unwrap_or_default().to_vec(),
                id: attributes.find(ID).unwrap_or_default().to_vec(),
            });
        }
    })?;
    Ok(stale)
}

/// Every flow of this network namespace that somebody picks.
///
/// # Errors
/// When conntrack cannot be read.
pub(crate) fn flows(picked: impl Fn(&Flow) -> bool) -> Result<Vec<Flow>, SocketError> {
    let fd = netlink()?;
    let mut flows = Vec::new();
    dump(&fd, libc::AF_UNSPEC as u8, |attributes| {
        flows.extend(read(attributes).filter(&picked));
    })?;
    flows.sort();
    Ok(flows)
}

fn dump(fd: &OwnedFd, family: u8, mut each: impl FnMut(Attributes<'_>)) -> Result<(), SocketError> {
    let mut writer = Writer::default();
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let open = writer.start(SUBSYSTEM << 8 | GET, flags, 1, family, 0);
    writer.finish(open);
    send(fd, &writer.bytes)?;
    loop {
        let Some(bytes) = receive(fd, 0)? else {
            continue;
        };
        for message in messages(&bytes) {
            if message.kind == libc::NLMSG_DONE as u16 {
                return Ok(());
            }
            if let Some((cause, _)) = netlink::error_of(&message) {
                return Err(SocketError {
                    step: "read conntrack",
                    cause,
                });
            }
            each(message.attributes());
        }
    }
}

/// A flow that ends before it can be deleted is as good as deleted.
fn delete(fd: &OwnedFd, flow: &Handle) -> Result<(), SocketError> {
    let mut writer = Writer::default();
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let family = number(flow.family);
    let open = writer.start(SUBSYSTEM << 8 | DELETE, flags, 2, family, 0);
    let nest = writer.nest(TUPLE_ORIGINAL);
    writer.bytes.extend(&flow.original);
    writer.end(nest);
    writer.bytes(ID, &flow.id);
    writer.finish(open);
    send(fd, &writer.bytes)?;
    let Some(bytes) = receive(fd, 0)? else {
        return Ok(());
    };
    match messages(&bytes).find_map(|message| netlink::error_of(&message)) {
        Some((cause, _)) if cause.raw_os_error() != Some(libc::ENOENT) => Err(SocketError {
            step: "delete a flow",
            cause,
        }),
        Some(_) | None => Ok(()),
    }
}

/// Nothing for protocols that Services do not know.
fn protocol(attributes: Attributes<'_>) -> Option<Protocol> {
    let original = attributes.nested(TUPLE_ORIGINAL)?;
    let number = original.nested(TUPLE_PROTOCOL)?.find(PROTOCOL_NUMBER)?;
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .find(|protocol| number == [protocol.number()])
}

fn read(attributes: Attributes<'_>) -> Option<Flow> {
    const SOURCE: [u16; 2] = [1, 3];
    const DESTINATION: [u16; 2] = [2, 4];
    let original = attributes.nested(TUPLE_ORIGINAL)?;
    let reply = attributes.nested(TUPLE_REPLY)?;
    let status = attributes.number(STATUS).unwrap_or_default();
    Some(Flow {
        protocol: protocol(attributes)?,
        from: end(original, SOURCE, SOURCE_PORT)?,
        to: end(original, DESTINATION, DESTINATION_PORT)?,
        answered_by: end(reply, SOURCE, SOURCE_PORT)?,
        heard: if status & SEEN_REPLY == 0 {
            Heard::Nothing
        } else {
            Heard::Answers
        },
    })
}

fn end(tuple: Attributes<'_>, [v4, v6]: [u16; 2], port: u16) -> Option<SocketAddr> {
    let ip = tuple.nested(TUPLE_IP)?;
    let address: IpAddr = match (ip.find(v4), ip.find(v6)) {
        (Some(bytes), _) => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        (None, Some(bytes)) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        (None, None) => return None,
    };
    let port = tuple
        .nested(TUPLE_PROTOCOL)?
        .find(port)?
        .try_into()
        .ok()
        .map(u16::from_be_bytes)?;
    Some(SocketAddr::new(address, port))
}
