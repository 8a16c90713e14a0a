//! Plans how the pods of other nodes are reached: over a shared link where there is one, else by a tunnel. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::tunnel::{self, Entry, Tunnel};
use super::{Observed, Route, is_own_link};
use crate::ipam;

/// Another node, as far as packets care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) pod_cidrs: Vec<IpNet>,
    pub(crate) addresses: Vec<IpAddr>,
}

/// This node, as far as its peers care.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own<'a> {
    pub(crate) name: &'a str,
    /// Addresses others reach it at.
    pub(crate) addresses: &'a [IpAddr],
    /// Its addresses among the pods.
    pub(crate) among_pods: &'a [IpAddr],
}

/// What it takes to reach every peer's pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ways {
    pub(crate) routes: Vec<Route>,
    pub(crate) tunnels: Vec<Tunnel>,
    pub(crate) entries: BTreeSet<Entry>,
}

/// Plans the way to every pod CIDR of every peer; one that cannot be reached at all has none.
pub(crate) fn ways(peers: &[Peer], own: Own<'_>, observed: &Observed) -> Ways {
    let mut ways = Ways::default();
    for peer in peers {
        for cidr in &peer.pod_cidrs {
            match gateway(peer, cidr, observed) {
                Some(gateway) => ways.routes.push(Route {
                    destination: cidr.trunc(),
                    link: None,
                    gateway: Some(gateway),
                    source: None,
                }),
                None => ways.dig(peer, *cidr, own, observed),
            }
        }
    }
    ways
}

impl Ways {
    fn dig(&mut self, peer: &Peer, cidr: IpNet, own: Own<'_>, observed: &Observed) {
        let Some((tunnel, to)) = ends(peer, own, observed) else {
            return;
        };
        let (link, mac) = (tunnel.name(), tunnel::mac(&peer.name));
        let address = ipam::node_address(cidr);
        let same_family = |own: &&IpAddr| own.is_ipv4() == address.is_ipv4();
        self.routes.push(Route {
            destination: cidr.trunc(),
            link: Some(link.to_owned()),
            gateway: Some(address),
            source: own.among_pods.iter().find(same_family).copied(),
        });
        self.entries.extend([
            Entry::Forwarding { link, mac, to },
            Entry::Neighbour { link, address, mac },
        ]);
        if !self.tunnels.contains(&tunnel) {
            self.tunnels.push(tunnel);
        }
    }
}

/// The peer's address in a pod CIDR's family that is on a link of ours.
fn gateway(peer: &Peer, cidr: &IpNet, observed: &Observed) -> Option<IpAddr> {
    let on_link = |gateway: &&IpAddr| shared(observed).any(|net| net.contains(*gateway));
    let same_family = |address: &&IpAddr| address.is_ipv4() == cidr.addr().is_ipv4();
    let mut addresses = peer.addresses.iter().filter(same_family);
    addresses.find(on_link).copied()
}

/// The networks of the host's links that may hold other nodes.
pub(crate) fn networks(observed: &Observed) -> BTreeSet<IpNet> {
    let is_local = |net: &IpNet| match net.addr() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    };
    let found = shared(observed).filter(|net| !is_local(net));
    found.map(|net| net.trunc()).collect()
}

/// Networks that others are on as well.
fn shared(observed: &Observed) -> impl Iterator<Item = IpNet> {
    let own = observed.addresses.iter().map(|address| address.net);
    own.filter(|own| own.prefix_len() < own.max_prefix_len())
}

/// The tunnel between two real addresses of one family, this node's and the peer's.
fn ends(peer: &Peer, own: Own<'_>, observed: &Observed) -> Option<(Tunnel, IpAddr)> {
    own.addresses.iter().find_map(|underlay| {
        let is_far = |address: &&IpAddr| {
            let among_pods = peer.pod_cidrs.iter().any(|cidr| cidr.contains(*address));
            address.is_ipv4() == underlay.is_ipv4() && !among_pods
        };
        let to = peer.addresses.iter().find(is_far)?;
        let mut found = observed.addresses.iter();
        let index = found
            .find(|found| found.net.addr() == *underlay)?
            .link_index;
        let mut links = observed.links.iter();
        let (_, link) = links.find(|(name, link)| link.index == index && !is_own_link(name))?;
        let tunnel = Tunnel {
            underlay: *underlay,
            mac: tunnel::mac(own.name),
            mtu: tunnel::mtu(*underlay, link.mtu),
        };
        Some((tunnel, *to))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Address, Link, LinkState};
    use super::*;

    /// A node at 192.168.7.1 and fd07::1, with pods in 10.42.0.0/24 and fd42::/64.
    fn observed() -> Observed {
        let link = |index, mtu| Link {
            index,
            state: LinkState::Up,
            mtu,
        };
        let address = |link_index, net: &str| Address {
            link_index,
            net: net.parse().unwrap(),
        };
        Observed {
            links: [
                ("eth0".to_owned(), link(2, 1500)),
                (super::super::ANCHOR.to_owned(), link(3, 1500)),
            ]
            .into(),
            addresses: vec![
                address(2, "192.168.7.1/24"),
                address(2, "fd07::1/64"),
                address(3, "10.42.0.1/32"),
                address(3, "fd42::1/128"),
            ],
            ..Observed::default()
        }
    }

    /// Routes as `DESTINATION via GATEWAY [dev LINK src SOURCE]`, and entries as `LINK: WHAT`.
    fn check(peer_cidrs: &[&str], peer_addresses: &[&str], own: &[&str], expected: &[&str]) {
        let ips = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let peer = Peer {
            name: "node-2".into(),
            pod_cidrs: peer_cidrs
                .iter()
                .map(|cidr| cidr.parse().unwrap())
                .collect(),
            addresses: ips(peer_addresses),
        };
        let (addresses, among_pods) = (ips(own), ips(&["10.42.0.1", "fd42::1"]));
        let own = Own {
            name: "node-1",
            addresses: &addresses,
            among_pods: &among_pods,
        };
        let ways = ways(&[peer], own, &observed());
        let route = |route: &Route| {
            let gateway = route.gateway.unwrap();
            let link = route.link.iter().map(|link| {
                let source = route.source.unwrap();
                format!(" dev {link} src {source}")
            });
            let link: String = link.collect();
            format!("{} via {gateway}{link}", route.destination)
        };
        let entry = |entry: &Entry| match entry {
            Entry::Forwarding { link, mac, to } => {
                assert_eq!(*mac, tunnel::mac("node-2"));
                format!("{link}: to {to}")
            }
            Entry::Neighbour { link, address, mac } => {
                assert_eq!(*mac, tunnel::mac("node-2"));
                format!("{link}: {address}")
            }
        };
        let tunnel = |tunnel: &Tunnel| {
            let Tunnel {
                underlay,
                mac: _,
                mtu,
            } = tunnel;
            format!("{underlay} mtu {mtu}")
        };
        let found: Vec<String> = (ways.routes.iter().map(route))
            .chain(ways.tunnels.iter().map(tunnel))
            .chain(ways.entries.iter().map(entry))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_peer_on_a_shared_link_is_routed_directly() {
        check(
            &["10.42.1.0/24", "fd42:0:0:1::/64"],
            &["192.168.7.2", "fd07::2"],
            &["192.168.7.1", "fd07::1"],
            &[
                "10.42.1.0/24 via 192.168.7.2",
                "fd42:0:0:1::/64 via fd07::2",
            ],
        );
    }

    #[test]
    fn a_peer_elsewhere_is_reached_by_a_tunnel() {
        check(
            &["10.42.1.0/24"],
            &["192.168.8.2"],
            &["192.168.7.1"],
            &[
                "10.42.1.0/24 via 10.42.1.1 dev knarr-vxlan src 10.42.0.1",
                "192.168.7.1 mtu 1450",
                "knarr-vxlan: to 192.168.8.2",
                "knarr-vxlan: 10.42.1.1",
            ],
        );
        check(
            &["fd42:0:0:1::/64"],
            &["fd08::2"],
            &["fd07::1"],
            &[
                "fd42:0:0:1::/64 via fd42:0:0:1::1 dev knarr-vxlan6 src fd42::1",
                "fd07::1 mtu 1430",
                "knarr-vxlan6: to fd08::2",
                "knarr-vxlan6: fd42:0:0:1::1",
            ],
        );
    }

    #[test]
    fn both_families_share_the_tunnel_of_the_first() {
        check(
            &["10.42.1.0/24", "fd42:0:0:1::/64"],
            &["192.168.8.2", "fd08::2"],
            &["192.168.7.1", "fd07::1"],
            &[
                "10.42.1.0/24 via 10.42.1.1 dev knarr-vxlan src 10.42.0.1",
                "fd42:0:0:1::/64 via fd42:0:0:1::1 dev knarr-vxlan src fd42::1",
                "192.168.7.1 mtu 1450",
                "knarr-vxlan: to 192.168.8.2",
                "knarr-vxlan: 10.42.1.1",
                "knarr-vxlan: fd42:0:0:1::1",
            ],
        );
    }

    #[test]
    fn networks_are_those_that_others_may_be_on() {
        let mut observed = observed();
        for (link_index, net) in [
            (1, "127.0.0.1/8"),
            (1, "::1/128"),
            (2, "fe80::1/64"),
            (2, "169.254.7.7/16"),
        ] {
            let net = net.parse().unwrap();
            observed.addresses.push(Address { link_index, net });
        }
        let found: Vec<String> = networks(&observed)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["192.168.7.0/24", "fd07::/64"]);
    }

    #[test]
    fn no_tunnel_has_an_end_among_pods() {
        check(&["10.42.1.0/24"], &["10.42.1.1"], &["192.168.7.1"], &[]);
        check(&["10.42.1.0/24"], &["192.168.8.2"], &["10.42.0.1"], &[]);
        check(&["10.42.1.0/24"], &["fd08::2"], &["192.168.7.1"], &[]);
    }
}
