//! Applies network steps over netlink. Makes no choice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, route::RouteFlags};

use super::plan::Step;
use super::tunnel::{self, Entry, Tunnel};
use super::{ANCHOR, HOST_END_MAC, ObservedRoute, PodLink, ROUTE_PROTOCOL, Route};
use crate::netlink::{self, Socket};
use crate::{netns, sysctl};

/// The pod's side of its veth.
const POD_END: &str = "eth0";
/// The pods' IPv4 gateway, which no one needs to own.
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The pods' IPv6 gateway.
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Netlink(String, #[source] netlink::Error),
    #[error("wiring a pod's netns")]
    Netns(#[from] netns::Error),
    #[error("link {0} is not there")]
    NoLink(String),
    #[error("opening the netns of link {0}")]
    NoNetns(String, #[source] std::io::Error),
}

/// Applies the steps in order; a failed one does not stop the others.
pub(crate) fn apply(socket: &mut Socket, steps: &[Step]) -> Vec<Error> {
    steps
        .iter()
        .filter_map(|step| apply_one(socket, step).err())
        .collect()
}

fn apply_one(socket: &mut Socket, step: &Step) -> Result<(), Error> {
    match step {
        Step::DeleteLink(name) => delete_link(socket, name),
        Step::DeleteRoute(route) => delete_route(socket, route),
        Step::MakeAnchor => make_anchor(socket),
        Step::RaiseLink(name) => raise(socket, name, None),
        Step::AddAddress { link, net } => {
            let index = index_of(socket, link)?;
            add_address(socket, index, *net)
        }
        Step::MakeTunnel(tunnel) => make_tunnel(socket, tunnel),
        Step::AddEntry(entry) => add_entry(socket, entry),
        Step::RemoveEntry(entry) => remove_entry(socket, entry),
        Step::MakePodLink(pod) => make_pod_link(socket, &mut make_pod_netns(pod)?, pod),
        Step::RaisePodLink(pod) => raise_host_end(socket, pod),
        Step::ReplaceRoute(route) => replace_route(socket, route),
    }
}

/// Makes a pod's netns if need be, and opens a socket in it.
pub(crate) fn make_pod_netns(pod: &PodLink) -> Result<Socket, Error> {
    netns::enter_or_make(&pod.netns, || {
        // Without capabilities a process can still serve port 80 and ping in its own netns.
        let _ = sysctl::set_private("net/ipv4/ip_unprivileged_port_start", "0");
        let _ = sysctl::set_private("net/ipv4/ping_group_range", "0 2147483647");
        // The gateway is known, and addresses are unique by allocation: nothing to wait for or believe.
        let _ = sysctl::set_private("net/ipv6/conf/default/accept_ra", "0");
        let _ = sysctl::set_private("net/ipv6/conf/default/accept_dad", "0");
        Socket::open()
    })?
    .map_err(|error| Error::Netlink("opening a socket in a pod's netns".into(), error))
}

/// Makes a pod's veth, its addresses, neighbours and routes, on both sides; `inner` is of the pod's netns.
pub(crate) fn make_pod_link(
    socket: &mut Socket,
    inner: &mut Socket,
    pod: &PodLink,
) -> Result<(), Error> {
    if index_of(socket, &pod.name).is_err() {
        add_veth(socket, pod)?;
    }
    wire_pod_end(inner, pod)?;
    raise_host_end(socket, pod)?;
    pod.routes()
        .iter()
        .try_for_each(|route| replace_route(socket, route))
}

fn add_veth(socket: &mut Socket, pod: &PodLink) -> Result<(), Error> {
    let netns_file =
        std::fs::File::open(&pod.netns).map_err(|error| Error::NoNetns(pod.name.clone(), error))?;
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(POD_END.into()),
        LinkAttribute::Address(pod.mac().to_vec()),
        LinkAttribute::NetNsFd(netns_file.as_raw_fd()),
    ];
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(pod.name.clone()),
        LinkAttribute::Address(HOST_END_MAC.to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    create(socket, RouteNetlinkMessage::NewLink(message), || {
        format!("adding link {}", pod.name)
    })
}

fn wire_pod_end(inner: &mut Socket, pod: &PodLink) -> Result<(), Error> {
    raise(inner, "lo", None)?;
    raise(inner, POD_END, Some(pod.mac()))?;
    let index = index_of(inner, POD_END)?;
    for address in &pod.addresses {
        add_address(inner, index, IpNet::from(*address))?;
        let gateway = match address {
            IpAddr::V4(_) => IpAddr::V4(GATEWAY_V4),
            IpAddr::V6(_) => IpAddr::V6(GATEWAY_V6),
        };
        set_neighbour(inner, index, gateway, HOST_END_MAC)?;
        if gateway.is_ipv4() {
            let to_gateway = route_message(IpNet::from(gateway), Some(index), None, None);
            put_route(inner, to_gateway, &IpNet::from(gateway))?;
        }
        let everywhere = match address {
            IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
        };
        let default = route_message(everywhere, Some(index), Some(gateway), Some(*address));
        put_route(inner, default, &everywhere)?;
    }
    Ok(())
}

fn raise_host_end(socket: &mut Socket, pod: &PodLink) -> Result<(), Error> {
    raise(socket, &pod.name, Some(HOST_END_MAC))?;
    let index = index_of(socket, &pod.name)?;
    pod.addresses
        .iter()
        .try_for_each(|address| set_neighbour(socket, index, *address, pod.mac()))
}

fn make_anchor(socket: &mut Socket) -> Result<(), Error> {
    // A bridge without ports swallows what no rule rewrote; NOARP lets a connect reach the output hook at once.
    let mut message = LinkMessage::default();
    message.header.change_mask = LinkFlags::Noarp;
    message.header.flags = LinkFlags::Noarp;
    message.attributes = vec![
        LinkAttribute::IfName(ANCHOR.into()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    create(socket, RouteNetlinkMessage::NewLink(message), || {
        format!("adding link {ANCHOR}")
    })?;
    let _ = sysctl::set_private(&format!("net/ipv6/conf/{ANCHOR}/addr_gen_mode"), "1");
    Ok(())
}

fn make_tunnel(socket: &mut Socket, tunnel: &Tunnel) -> Result<(), Error> {
    let name = tunnel.name();
    let local = match tunnel.underlay {
        IpAddr::V4(v4) => InfoVxlan::Local(v4),
        IpAddr::V6(v6) => InfoVxlan::Local6(v6),
    };
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::Address(tunnel.mac.to_vec()),
        LinkAttribute::Mtu(tunnel.mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(vec![
                InfoVxlan::Id(tunnel::NETWORK_ID),
                local,
                InfoVxlan::Port(tunnel::PORT),
                InfoVxlan::Learning(false),
            ])),
        ]),
    ];
    create(socket, RouteNetlinkMessage::NewLink(message), || {
        format!("adding link {name}")
    })?;
    let _ = sysctl::set_private(&format!("net/ipv6/conf/{name}/addr_gen_mode"), "1");
    Ok(())
}

fn add_entry(socket: &mut Socket, entry: &Entry) -> Result<(), Error> {
    match entry {
        Entry::Neighbour { link, address, mac } => {
            let index = index_of(socket, link)?;
            set_neighbour(socket, index, *address, *mac)
        }
        Entry::Forwarding { link, mac, to } => {
            let message = forwarding_message(index_of(socket, link)?, *mac, *to);
            let flags = NLM_F_CREATE | NLM_F_REPLACE;
            socket
                .call(RouteNetlinkMessage::NewNeighbour(message), flags)
                .map_err(|error| Error::Netlink(format!("leading {link} to {to}"), error))
        }
    }
}

fn remove_entry(socket: &mut Socket, entry: &Entry) -> Result<(), Error> {
    let (link, message) = match entry {
        Entry::Neighbour { link, address, mac } => {
            let index = index_of(socket, link)?;
            (link, neighbour_message(index, *address, *mac))
        }
        Entry::Forwarding { link, mac, to } => {
            let index = index_of(socket, link)?;
            (link, forwarding_message(index, *mac, *to))
        }
    };
    gone_is_fine(socket.call(RouteNetlinkMessage::DelNeighbour(message), 0))
        .map_err(|error| Error::Netlink(format!("forgetting a peer of {link}"), error))
}

/// An entry of a VXLAN's own forwarding table, not of a bridge above it.
fn forwarding_message(index: u32, mac: [u8; 6], to: IpAddr) -> NeighbourMessage {
    let mut message = neighbour_message(index, to, mac);
    message.header.family = AddressFamily::Bridge;
    message.header.flags = NeighbourFlags::Own;
    message
}

fn raise(socket: &mut Socket, name: &str, mac: Option<[u8; 6]>) -> Result<(), Error> {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = vec![LinkAttribute::IfName(name.into())];
    message
        .attributes
        .extend(mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
    socket
        .call(RouteNetlinkMessage::SetLink(message), 0)
        .map_err(|error| Error::Netlink(format!("raising link {name}"), error))
}

/// Deletes a link; one that is gone already is no error.
pub(crate) fn delete_link(socket: &mut Socket, name: &str) -> Result<(), Error> {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.into())];
    gone_is_fine(socket.call(RouteNetlinkMessage::DelLink(message), 0))
        .map_err(|error| Error::Netlink(format!("deleting link {name}"), error))
}

fn add_address(socket: &mut Socket, index: u32, net: IpNet) -> Result<(), Error> {
    let mut message = AddressMessage::default();
    message.header.family = family(net.addr());
    message.header.prefix_len = net.prefix_len();
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Address(net.addr())];
    if net.addr().is_ipv4() {
        message.attributes.push(AddressAttribute::Local(net.addr()));
    } else {
        message.header.flags = AddressHeaderFlags::Nodad;
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    socket
        .call(RouteNetlinkMessage::NewAddress(message), flags)
        .map_err(|error| Error::Netlink(format!("adding address {net}"), error))
}

fn set_neighbour(
    socket: &mut Socket,
    index: u32,
    address: IpAddr,
    mac: [u8; 6],
) -> Result<(), Error> {
    let message = neighbour_message(index, address, mac);
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    socket
        .call(RouteNetlinkMessage::NewNeighbour(message), flags)
        .map_err(|error| Error::Netlink(format!("setting neighbour {address}"), error))
}

fn neighbour_message(index: u32, address: IpAddr, mac: [u8; 6]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(match address {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        }),
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
    ];
    message
}

fn replace_route(socket: &mut Socket, route: &Route) -> Result<(), Error> {
    let index = route
        .link
        .as_ref()
        .map(|link| index_of(socket, link))
        .transpose()?;
    let mut message = route_message(route.destination, index, route.gateway, route.source);
    if index.is_some() && route.gateway.is_some() {
        // A tunnel has no addresses that would tell the kernel who is on it.
        message.header.flags = RouteFlags::Onlink;
    }
    put_route(socket, message, &route.destination)
}

fn put_route(socket: &mut Socket, message: RouteMessage, to: &IpNet) -> Result<(), Error> {
    socket
        .call(
            RouteNetlinkMessage::NewRoute(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map_err(|error| Error::Netlink(format!("setting the route to {to}"), error))
}

fn delete_route(socket: &mut Socket, route: &ObservedRoute) -> Result<(), Error> {
    let message = route_message(route.destination, route.link_index, route.gateway, None);
    gone_is_fine(socket.call(RouteNetlinkMessage::DelRoute(message), 0))
        .map_err(|error| Error::Netlink(format!("deleting route {}", route.destination), error))
}

fn route_message(
    destination: IpNet,
    link_index: Option<u32>,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination.addr());
    message.header.destination_prefix_length = destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message.header.flags = RouteFlags::empty();
    message.header.scope = match (destination, gateway) {
        (IpNet::V4(_), None) => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    message
        .attributes
        .push(RouteAttribute::Destination(destination.network().into()));
    message
        .attributes
        .extend(link_index.map(RouteAttribute::Oif));
    message
        .attributes
        .extend(gateway.map(|to| RouteAttribute::Gateway(RouteAddress::from(to))));
    message
        .attributes
        .extend(source.map(|own| RouteAttribute::PrefSource(own.into())));
    message
}

fn index_of(socket: &mut Socket, name: &str) -> Result<u32, Error> {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.into())];
    socket
        .ask(RouteNetlinkMessage::GetLink(message))
        .ok()
        .flatten()
        .and_then(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link.header.index),
            _ => None,
        })
        .ok_or_else(|| Error::NoLink(name.to_owned()))
}

fn create(
    socket: &mut Socket,
    message: RouteNetlinkMessage,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    match socket.call(message, NLM_F_CREATE | NLM_F_EXCL) {
        Err(error) if error.errno() == Some(libc::EEXIST) => Ok(()),
        other => other.map_err(|error| Error::Netlink(what(), error)),
    }
}

fn gone_is_fine(result: Result<(), netlink::Error>) -> Result<(), netlink::Error> {
    match result {
        Err(error)
            if matches!(
                error.errno(),
                Some(libc::ENODEV | libc::ESRCH | libc::ENOENT)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
