//! The families of a lab, and how an address of IPv4 is written in IPv6. Runs nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

/// The families that a scenario's cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    V4,
    V6,
    /// Both, IPv4 first: every Service has addresses of both.
    Dual,
}

impl Stack {
    pub(crate) const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Dual];

    pub(crate) fn families(self) -> &'static [Family] {
        match self {
            Self::V4 => &[Family::V4],
            Self::V6 => &[Family::V6],
            Self::Dual => &[Family::V4, Family::V6],
        }
    }
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// What an address of a scenario stands for.
    pub(crate) fn address(self, address: IpAddr) -> IpAddr {
        match (self, address) {
            (Self::V6, IpAddr::V4(address)) => translated(address).into(),
            _ => address,
        }
    }

    pub(crate) fn net(self, net: IpNet) -> IpNet {
        match (self, net) {
            (Self::V6, IpNet::V4(net)) => {
                let prefix = net.prefix_len() + 96;
                Ipv6Net::new_assert(translated(net.addr()), prefix).into()
            }
            _ => net,
        }
    }

    /// The address of a machine or range of the lab, as `ip` reads it.
    pub(crate) fn text(self, address: &str) -> String {
        self.address(address.parse().expect("an address"))
            .to_string()
    }

    /// The same with the length of the lab's prefixes.
    pub(crate) fn net_text(self, address: &str) -> String {
        let prefix = match self {
            Self::V4 => 24,
            Self::V6 => 120,
        };
        format!("{}/{prefix}", self.text(address))
    }

    /// `ip -4` or `ip -6`.
    pub(crate) fn ip(self) -> &'static str {
        match self {
            Self::V4 => "ip -4",
            Self::V6 => "ip -6",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// 10.77.0.11 is fd64::10.77.0.11, which the kernel writes fd64::a4d:b.
fn translated(address: Ipv4Addr) -> Ipv6Addr {
    let prefix = Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, 0);
    Ipv6Addr::from_bits(prefix.to_bits() | u128::from(address.to_bits()))
}
