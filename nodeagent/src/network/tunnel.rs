//! Tunnels to the nodes that share no link with this one: VXLAN that learns nothing, every entry of which is planned.

use std::net::IpAddr;

use super::fnv1a;

/// The port that IANA gave VXLAN.
pub(crate) const PORT: u16 = 4789;
/// "kn", so that other people's VXLANs on the same port stay apart.
pub(crate) const NETWORK_ID: u32 = 0x6b6e;

/// One VXLAN link: its packets travel in one IP family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tunnel {
    /// The address that its packets bear.
    pub(crate) underlay: IpAddr,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
}

/// What a tunnel knows of another node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Entry {
    /// Frames for `mac` travel to that address.
    Forwarding {
        link: &'static str,
        mac: [u8; 6],
        to: IpAddr,
    },
    /// That address among the other node's pods is at `mac`.
    Neighbour {
        link: &'static str,
        address: IpAddr,
        mac: [u8; 6],
    },
}

impl Tunnel {
    pub(crate) fn name(&self) -> &'static str {
        name(self.underlay)
    }
}

/// The name of the tunnel whose packets bear such addresses.
pub(crate) fn name(underlay: IpAddr) -> &'static str {
    match underlay {
        IpAddr::V4(_) => "knarr-vxlan",
        IpAddr::V6(_) => "knarr-vxlan6",
    }
}

/// The tunnels' names.
pub(crate) const NAMES: [&str; 2] = ["knarr-vxlan", "knarr-vxlan6"];

/// Whether a link has a tunnel's name.
pub(crate) fn is_name(link: &str) -> bool {
    NAMES.contains(&link)
}

/// A locally administered address that every node derives from a node's name alike.
pub(crate) fn mac(node_name: &str) -> [u8; 6] {
    let hash = fnv1a(node_name.as_bytes()).to_be_bytes();
    [0x06, hash[1], hash[2], hash[3], hash[4], hash[5]]
}

/// What is left of a link's packets inside a tunnel: outer IP, UDP and VXLAN headers, and the inner Ethernet header, are taken off.
pub(crate) fn mtu(underlay: IpAddr, link_mtu: u32) -> u32 {
    let headers = match underlay {
        IpAddr::V4(_) => 20 + 8 + 8 + 14,
        IpAddr::V6(_) => 40 + 8 + 8 + 14,
    };
    link_mtu.saturating_sub(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_leaves_room_for_its_headers() {
        let check = |underlay: &str, expected: u32| {
            assert_eq!(mtu(underlay.parse().unwrap(), 1500), expected);
        };
        check("192.0.2.1", 1450);
        check("2001:db8::1", 1430);
    }

    #[test]
    fn every_node_has_a_tunnel_address_of_its_own() {
        assert_ne!(mac("node-1"), mac("node-2"));
        assert_eq!(
            mac("node-1")[0] & 0b11,
            0b10,
            "unicast, locally administered"
        );
    }
}
