//! Observes the host over netlink: addresses, routes, the uplink. Changes nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope},
    link::LinkAttribute,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
};
use rtnetlink::{Handle, RouteMessageBuilder};

/// What this machine already routes, and the addresses others can reach it at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    /// Addresses and routes that are not knarr's own.
    pub(crate) networks: Vec<IpNet>,
    /// Addresses of the uplink, IPv4 first; empty on a host with no network.
    pub(crate) uplink: Vec<IpAddr>,
}

/// Interfaces that knarr makes begin so.
const OWN_LINK_PREFIX: &str = "kn";

pub(crate) async fn observe() -> Result<Host> {
    let (connection, handle, _) =
        rtnetlink::new_connection().context("cannot open a netlink socket")?;
    let connection = tokio::spawn(connection);
    let observed = read(&handle).await;
    connection.abort();
    observed
}

async fn read(handle: &Handle) -> Result<Host> {
    let mut own_links = Vec::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await.context("cannot list links")? {
        let named_ours = |a: &LinkAttribute| matches!(a, LinkAttribute::IfName(name) if name.starts_with(OWN_LINK_PREFIX));
        if link.attributes.iter().any(named_ours) {
            own_links.push(link.header.index);
        }
    }
    let mut addresses = Vec::new();
    let mut listing = handle.address().get().execute();
    while let Some(message) = listing.try_next().await.context("cannot list addresses")? {
        addresses.extend(address_of(&message).filter(|a| !own_links.contains(&a.link)));
    }
    let mut routes = Vec::new();
    for request in [
        RouteMessageBuilder::<Ipv4Addr>::new().build(),
        RouteMessageBuilder::<Ipv6Addr>::new().build(),
    ] {
        let mut listing = handle.route().get(request).execute();
        while let Some(message) = listing.try_next().await.context("cannot list routes")? {
            routes.extend(route_of(&message).filter(|r| !own_links.contains(&r.link)));
        }
    }
    Ok(summarise(&addresses, &routes))
}

#[derive(Clone, Copy, Debug)]
struct Address {
    link: u32,
    network: IpNet,
    global: bool,
}

#[derive(Clone, Copy, Debug)]
struct Route {
    link: u32,
    destination: IpNet,
    source: Option<IpAddr>,
    metric: u32,
}

fn summarise(addresses: &[Address], routes: &[Route]) -> Host {
    let mut networks: Vec<IpNet> = addresses.iter().map(|a| a.network.trunc()).collect();
    networks.extend(
        routes
            .iter()
            .map(|r| r.destination)
            .filter(|d| d.prefix_len() > 0),
    );
    networks.sort();
    networks.dedup();
    let uplink = [true, false]
        .into_iter()
        .filter_map(|v4| uplink_address(addresses, routes, v4))
        .collect();
    Host { networks, uplink }
}

/// The address of the best default route's link, else the first global address of the family.
fn uplink_address(addresses: &[Address], routes: &[Route], v4: bool) -> Option<IpAddr> {
    let global = |a: &&Address| a.global && a.network.addr().is_ipv4() == v4;
    let default = routes
        .iter()
        .filter(|r| r.destination.prefix_len() == 0 && r.destination.addr().is_ipv4() == v4)
        .min_by_key(|r| r.metric);
    let of_default = default.and_then(|route| {
        route.source.or_else(|| {
            addresses
                .iter()
                .filter(global)
                .find(|a| a.link == route.link)
                .map(|a| a.network.addr())
        })
    });
    of_default.or_else(|| addresses.iter().find(global).map(|a| a.network.addr()))
}

fn address_of(message: &AddressMessage) -> Option<Address> {
    let mut local = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => local = local.or(Some(*ip)),
            _ => {}
        }
    }
    let network = IpNet::new(local?, message.header.prefix_len).ok()?;
    // IPv6 marks its temporary addresses, which change by the day, as IPv4 marks a link's second ones.
    let fleeting = network.addr().is_ipv6()
        && message.header.flags.intersects(
            AddressHeaderFlags::Secondary
                | AddressHeaderFlags::Deprecated
                | AddressHeaderFlags::Dadfailed,
        );
    Some(Address {
        link: message.header.index,
        network,
        global: message.header.scope == AddressScope::Universe && !fleeting,
    })
}

fn route_of(message: &RouteMessage) -> Option<Route> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let unspecified = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0u8; 4]),
        AddressFamily::Inet6 => IpAddr::from([0u8; 16]),
        _ => return None,
    };
    let (mut destination, mut source, mut link, mut metric) = (unspecified, None, 0, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => destination = ip_of(to)?,
            RouteAttribute::PrefSource(from) => source = ip_of(from),
            RouteAttribute::Oif(index) => link = *index,
            RouteAttribute::Priority(value) => metric = *value,
            _ => {}
        }
    }
    let destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    // fe80::/64 and multicast stand on every link and claim nothing.
    let claims_nothing = destination.addr().is_multicast()
        || matches!(destination.addr(), IpAddr::V6(ip) if ip.is_unicast_link_local());
    (!claims_nothing).then_some(Route {
        link,
        destination,
        source,
        metric,
    })
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a CIDR")
    }

    #[test]
    fn the_uplink_is_where_the_best_default_route_leaves() {
        let addresses = [
            Address {
                link: 2,
                network: net("192.0.2.5/24"),
                global: true,
            },
            Address {
                link: 3,
                network: net("198.51.100.7/24"),
                global: true,
            },
        ];
        let through = |link, metric| Route {
            link,
            destination: net("0.0.0.0/0"),
            source: None,
            metric,
        };
        let host = summarise(&addresses, &[through(2, 600), through(3, 100)]);
        assert_eq!(host.uplink, [net("198.51.100.7/32").addr()]);
        assert_eq!(host.networks, [net("192.0.2.0/24"), net("198.51.100.0/24")]);
    }

    #[test]
    fn a_host_without_network_has_no_uplink() {
        let loopback = Address {
            link: 1,
            network: net("127.0.0.1/8"),
            global: false,
        };
        assert_eq!(summarise(&[loopback], &[]).uplink, Vec::<IpAddr>::new());
    }
}
