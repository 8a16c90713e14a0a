//! Observes the host over netlink: addresses, routes, the uplink. Changes nothing.

mod uplink;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope},
    link::{LinkAttribute, LinkFlags, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
};
use rtnetlink::{Handle, RouteMessageBuilder};

pub(crate) use self::uplink::{Choice, Found};

/// What this machine has and routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    /// Every address that answers here, knarr's own among them.
    pub(crate) local: BTreeSet<IpAddr>,
    /// Those that are not on links of knarr's.
    addresses: Vec<Address>,
    /// The same of routes.
    routes: Vec<Route>,
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
    let mut known_links = BTreeMap::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await.context("cannot list links")? {
        known_links.insert(link.header.index, link_of(&link));
    }
    let is_own = |index| {
        matches!(
            known_links.get(&index),
            Some(Link {
                owner: Owner::Knarr,
                ..
            })
        )
    };
    let mut host = Host::default();
    let mut listing = handle.address().get().execute();
    while let Some(message) = listing.try_next().await.context("cannot list addresses")? {
        let Some(address) = address_of(&message, &known_links) else {
            continue;
        };
        // A link that is down takes the routes to its addresses with it.
        if address.state != State::Down {
            host.local.insert(address.network.addr());
        }
        if !is_own(address.link) {
            host.addresses.push(address);
        }
    }
    for request in [
        RouteMessageBuilder::<Ipv4Addr>::new().build(),
        RouteMessageBuilder::<Ipv6Addr>::new().build(),
    ] {
        let mut listing = handle.route().get(request).execute();
        while let Some(message) = listing.try_next().await.context("cannot list routes")? {
            host.routes
                .extend(route_of(&message).filter(|route| !is_own(route.link)));
        }
    }
    Ok(host)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    owner: Owner,
    carries: Carries,
    is_up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Knarr,
    Somebody,
}

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    /// Neighbours, as Ethernet and Wi-Fi do.
    Neighbours,
    /// One other end, as tunnels do.
    OneEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address {
    link: u32,
    network: IpNet,
    state: State,
    carries: Carries,
}

/// What an address is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Other machines may be told of it.
    Global,
    /// It answers, and is no address to be known by.
    Local,
    /// Its link is down.
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route {
    link: u32,
    destination: IpNet,
    source: Option<IpAddr>,
    metric: u32,
}

impl Host {
    /// Addresses and routes that are not knarr's own.
    pub(crate) fn networks(&self) -> Vec<IpNet> {
        let addresses = self.addresses.iter().map(|a| a.network.trunc());
        let routes = self.routes.iter().map(|r| r.destination);
        let mut networks: Vec<IpNet> = addresses
            .chain(routes.filter(|d| d.prefix_len() > 0))
            .collect();
        networks.sort();
        networks.dedup();
        networks
    }
}

fn link_of(message: &LinkMessage) -> Link {
    let named_ours = |a: &LinkAttribute| matches!(a, LinkAttribute::IfName(name) if name.starts_with(OWN_LINK_PREFIX));
    let flags = message.header.flags;
    Link {
        owner: match message.attributes.iter().any(named_ours) {
            true => Owner::Knarr,
            false => Owner::Somebody,
        },
        carries: match flags.contains(LinkFlags::Pointopoint) {
            true => Carries::OneEnd,
            false => Carries::Neighbours,
        },
        is_up: flags.contains(LinkFlags::Up),
    }
}

fn address_of(message: &AddressMessage, links: &BTreeMap<u32, Link>) -> Option<Address> {
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
                | AddressHeaderFlags::Tentative
                | AddressHeaderFlags::Dadfailed,
        );
    let is_global = message.header.scope == AddressScope::Universe && !fleeting;
    let link = links.get(&message.header.index);
    Some(Address {
        link: message.header.index,
        network,
        state: match link {
            Some(Link { is_up: false, .. }) => State::Down,
            Some(_) | None if is_global => State::Global,
            Some(_) | None => State::Local,
        },
        carries: link.map_or(Carries::Neighbours, |link| link.carries),
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
