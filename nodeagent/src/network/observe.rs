//! Reads the host's links, addresses and knarr's routes. Changes nothing.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Address, Link, LinkState, Observed, ObservedRoute, ROUTE_PROTOCOL};
use crate::netlink::{Error, Socket};

/// Observes the netns the socket was opened in.
pub(crate) fn observe(socket: &mut Socket) -> Result<Observed, Error> {
    let mut observed = Observed::default();
    for message in socket.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))? {
        if let RouteNetlinkMessage::NewLink(link) = message {
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
    Ok(observed)
}

fn read_link(message: &LinkMessage) -> Option<(String, Link)> {
    let name = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })?;
    let state = match message.header.flags.contains(LinkFlags::Up) {
        true => LinkState::Up,
        false => LinkState::Down,
    };
    Some((
        name,
        Link {
            index: message.header.index,
            state,
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
