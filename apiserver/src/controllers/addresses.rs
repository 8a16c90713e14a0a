//! Ranges of load-balancer IPs, as users write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Consecutive addresses of one family, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// A piece of a pool that is neither address, range nor CIDR.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an address, a range FIRST-LAST nor a CIDR")]
pub struct NotARange(String);

impl AddressRange {
    /// Reads a comma-separated list; of a CIDR, every address is usable.
    ///
    /// # Errors
    /// When a piece is not a range.
    pub fn parse_list(text: &str) -> Result<Vec<AddressRange>, NotARange> {
        let pieces = text
            .split(',')
            .map(str::trim)
            .filter(|piece| !piece.is_empty());
        pieces
            .map(|piece| AddressRange::parse(piece).ok_or_else(|| NotARange(piece.to_owned())))
            .collect()
    }

    fn parse(text: &str) -> Option<AddressRange> {
        if let Ok(net) = text.parse::<IpNet>() {
            return Some(AddressRange {
                first: net.network(),
                last: net.broadcast(),
            });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last): (IpAddr, IpAddr) =
            (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let ordered = first.is_ipv4() == last.is_ipv4() && first <= last;
        ordered.then_some(AddressRange { first, last })
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }

    pub(super) fn contains_all_of(&self, other: &AddressRange) -> bool {
        self.contains(other.first) && self.contains(other.last)
    }

    /// The addresses in order; a range of IPv6 may have more than anyone wants to walk.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let (first, last) = (bits(self.first), bits(self.last));
        let ipv4 = self.first.is_ipv4();
        (first..=last).map(move |bits| match u32::try_from(bits) {
            Ok(bits) if ipv4 => IpAddr::V4(Ipv4Addr::from(bits)),
            Ok(_) | Err(_) => IpAddr::V6(Ipv6Addr::from(bits)),
        })
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[&str], &str>) {
        let seen = AddressRange::parse_list(text);
        let texts = seen.map(|ranges| ranges.iter().map(ToString::to_string).collect::<Vec<_>>());
        let expected = expected.map(|ranges| ranges.iter().map(|r| (*r).to_owned()).collect());
        assert_eq!(texts, expected.map_err(|piece| NotARange(piece.to_owned())));
    }

    #[test]
    fn pools_are_addresses_ranges_and_cidrs() {
        check("", Ok(&[]));
        check("192.0.2.1", Ok(&["192.0.2.1-192.0.2.1"]));
        check(
            "192.0.2.1 - 192.0.2.9, fd00::/126",
            Ok(&["192.0.2.1-192.0.2.9", "fd00::-fd00::3"]),
        );
        check("192.0.2.9-192.0.2.1", Err("192.0.2.9-192.0.2.1"));
        check("192.0.2.1-fd00::1", Err("192.0.2.1-fd00::1"));
        check("x", Err("x"));
    }

    #[test]
    fn addresses_come_in_order() {
        let range = AddressRange::parse_list("192.0.2.254-192.0.3.1").expect("a range")[0];
        let texts: Vec<String> = range.addresses().map(|a| a.to_string()).collect();
        assert_eq!(
            texts,
            ["192.0.2.254", "192.0.2.255", "192.0.3.0", "192.0.3.1"]
        );
        assert!(range.contains("192.0.3.0".parse().expect("an address")));
        assert!(!range.contains("::c000:300".parse().expect("an address")));
    }
}
