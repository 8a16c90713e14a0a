//! Chooses pod addresses from the node's pod CIDR. What is taken is always observed, never remembered on disk.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The node's own address in its pod CIDR: the first one after the network address.
pub(crate) fn node_address(pod_cidr: IpNet) -> IpAddr {
    nth(pod_cidr, 1)
}

/// The next free address after `last`, wrapping around, so that a just released one rests as long as possible.
pub(crate) fn allocate(
    pod_cidr: IpNet,
    taken: &BTreeSet<IpAddr>,
    last: Option<IpAddr>,
) -> Option<IpAddr> {
    const SEARCHED_MAX: u128 = 1 << 16;
    let usable = usable_count(pod_cidr).min(SEARCHED_MAX);
    let start = last
        .filter(|last| pod_cidr.contains(last))
        .map_or(0, |last| {
            (number(last) - number(pod_cidr.network())).saturating_sub(1)
        });
    (0..usable)
        .map(|step| nth(pod_cidr, 2 + (start + step) % usable))
        .find(|candidate| !taken.contains(candidate))
}

/// Addresses without the network address, the node's own and, in IPv4, the broadcast address.
fn usable_count(pod_cidr: IpNet) -> u128 {
    let host_bits = u32::from(pod_cidr.max_prefix_len() - pod_cidr.prefix_len()).min(127);
    let reserved = if pod_cidr.addr().is_ipv4() { 3 } else { 2 };
    (1_u128 << host_bits).saturating_sub(reserved)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn nth(pod_cidr: IpNet, offset: u128) -> IpAddr {
    let value = number(pod_cidr.network()).wrapping_add(offset);
    match pod_cidr {
        IpNet::V4(_) => Ipv4Addr::from(value as u32).into(),
        IpNet::V6(_) => Ipv6Addr::from(value).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cidr: &str, taken: &[&str], last: Option<&str>, expected: Option<&str>) {
        let taken = taken.iter().map(|text| text.parse().unwrap()).collect();
        let last = last.map(|text| text.parse().unwrap());
        let chosen = allocate(cidr.parse().unwrap(), &taken, last);
        assert_eq!(
            chosen,
            expected.map(|text| text.parse().unwrap()),
            "{cidr} after {last:?}"
        );
    }

    #[test]
    fn allocation_goes_forward_and_wraps() {
        check("10.42.0.0/24", &[], None, Some("10.42.0.2"));
        check("10.42.0.0/24", &["10.42.0.2"], None, Some("10.42.0.3"));
        check("10.42.0.0/24", &[], Some("10.42.0.7"), Some("10.42.0.8"));
        check("10.42.0.0/24", &[], Some("10.42.0.254"), Some("10.42.0.2"));
        check(
            "10.42.0.0/24",
            &["10.42.0.2"],
            Some("10.42.0.254"),
            Some("10.42.0.3"),
        );
        check("fd00:42::/64", &["fd00:42::2"], None, Some("fd00:42::3"));
    }

    #[test]
    fn a_full_pod_cidr_gives_nothing() {
        check("10.42.0.0/30", &[], None, Some("10.42.0.2"));
        check("10.42.0.0/30", &["10.42.0.2"], None, None);
        check("10.42.0.0/31", &[], None, None);
        check("10.42.0.0/32", &[], None, None);
    }

    #[test]
    fn the_node_takes_the_first_address() {
        assert_eq!(
            node_address("10.42.3.0/24".parse().unwrap()).to_string(),
            "10.42.3.1"
        );
    }
}
