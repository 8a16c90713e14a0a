//! Reads the host's links, addresses and knarr's routes. Changes nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::tunnel::{self, Entry, Tunnel};
use super::{Address, Link, LinkState, Observed, ObservedRoute, ROUTE_PROTOCOL};
use crate::netlink::{Error, Socket};

/// Observes the netns the socket was opened in.
pub(crate) fn observe(socket: &mut Socket) -> Result<Observed, Error> {
    let mut observed = Observed::default();
    for message in socket.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))? {
        if let RouteNetlinkMessage::NewLink(link) = message {
            observed.tunnels.extend(read_tunnel(&link));
            observed.links.extend(read_link(&link));
        }
    }
    for message in socket.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
        if let RouteNetlinkMessage::NewAddress(address) = message {
            observed.addresses.extend(read_address(&address));
        }
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        for message in socket.dump(RouteNetlinkMessage::GetRoute(question))? {
            if let RouteNetlinkMessage::NewRoute(route) = message {
                observed.routes.extend(read_route(&route));
            }
        }
    }
    if !observed.tunnels.is_empty() {
        observed.entries = entries(socket, &observed)?;
    }
    Ok(observed)
}

/// What the tunnels know; a host without any is spared the look at all its neighbours.
fn entries(socket: &mut Socket, observed: &Observed) -> Result<BTreeSet<Entry>, Error> {
    let mut entries = BTreeSet::new();
    for family in [
        AddressFamily::Bridge,
        AddressFamily::Inet,
        AddressFamily::Inet6,
    ] {
        let mut question = NeighbourMessage::default();
        question.header.family = family;
        for message in socket.dump(RouteNetlinkMessage::GetNeighbour(question))? {
            if let RouteNetlinkMessage::NewNeighbour(neighbour) = message {
                entries.extend(read_entry(&neighbour, observed));
            }
        }
    }
    Ok(entries)
}

fn read_entry(message: &NeighbourMessage, observed: &Observed) -> Option<Entry> {
    let header = &message.header;
    let is_ours = |link: &&'static str| {
        let found = observed.links.get(*link);
        found.is_some_and(|link| link.index == header.ifindex)
    };
    let link = tunnel::NAMES.into_iter().find(|link| is_ours(link))?;
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddr::V4(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddr::V6(*v6));
            }
            // In the bridge family the decoder does not know the address's family.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                address = ip_of_bytes(bytes);
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    let (address, mac): (IpAddr, [u8; 6]) = (address?, mac?);
    match header.family {
        AddressFamily::Bridge => Some(Entry::Forwarding {
            link,
            mac,
            to: address,
        }),
        _ if header.state == NeighbourState::Permanent => {
            Some(Entry::Neighbour { link, address, mac })
        }
        _ => None,
    }
}

fn ip_of_bytes(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?));
    let v6 = || Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?));
    v4().or_else(v6)
}

/// A VXLAN of ours, if the link is one.
fn read_tunnel(message: &LinkMessage) -> Option<Tunnel> {
    let (mut mac, mut mtu, mut underlay, mut is_ours) = (None, None, None, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => is_ours = tunnel::is_name(name),
            LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::Mtu(found) => mtu = Some(*found),
            LinkAttribute::LinkInfo(parts) => {
                for part in parts {
                    if let LinkInfo::Data(InfoData::Vxlan(details)) = part {
                        underlay = details.iter().find_map(|detail| match detail {
                            InfoVxlan::Local(v4) => Some(IpAddr::V4(*v4)),
                            InfoVxlan::Local6(v6) => Some(IpAddr::V6(*v6)),
                            _ => None,
                        });
                    }
                }
            }
            _ => {}
        }
    }
    is_ours.then_some(Tunnel {
        underlay: underlay?,
        mac: mac?,
        mtu: mtu?,
    })
}

fn read_link(message: &LinkMessage) -> Option<(String, Link)> {
    let name = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })?;
    let mtu = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
    let state = match message.header.flags.contains(LinkFlags::Up) {
        true => LinkState::Up,
        false => LinkState::Down,
    };
    Some((
        name,
        Link {
            index: message.header.index,
            state,
            mtu: mtu.unwrap_or_default(),
        },
    ))
}

fn read_address(message: &AddressMessage) -> Option<Address> {
    // On a point-to-point link IFA_ADDRESS is the peer and IFA_LOCAL is ours.
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
    let net = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
    Some(Address {
        link_index: message.header.index,
        net,
    })
}

fn read_route(message: &RouteMessage) -> Option<ObservedRoute> {
    if message.header.protocol != RouteProtocol::from(ROUTE_PROTOCOL) {
        return None;
    }
    let mut route = ObservedRoute {
        destination: IpNet::new(
            match message.header.address_family {
                AddressFamily::Inet => IpAddr::from([0; 4]),
                _ => IpAddr::from([0; 16]),
            },
            0,
        )
        .ok()?,
        link_index: None,
        gateway: None,
        source: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                let prefix = message.header.destination_prefix_length;
                route.destination = IpNet::new(ip(address)?, prefix).ok()?;
            }
            RouteAttribute::Oif(index) => route.link_index = Some(*index),
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            _ => {}
        }
    }
    Some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
