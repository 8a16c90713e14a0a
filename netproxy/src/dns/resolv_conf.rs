//! The host's resolvers, as `resolv.conf` names them.

use std::net::{IpAddr, SocketAddr};

const DNS_PORT: u16 = 53;
/// glibc reads no more (`MAXNS`).
const NAMESERVER_COUNT_MAX: usize = 3;

/// The name servers of a `resolv.conf`, without those that would lead back to `own`.
#[must_use]
pub fn upstreams(resolv_conf: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("nameserver")?
                .split_whitespace()
                .next()
        })
        .filter_map(|word| word.split('%').next()?.parse().ok())
        .filter(|ip| !own.contains(ip))
        .take(NAMESERVER_COUNT_MAX)
        .map(|ip| SocketAddr::new(ip, DNS_PORT))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_address_is_no_upstream() {
        let text = "# made by hand\nsearch lan\nnameserver 10.0.128.10\n nameserver 127.0.0.53\nnameserver 2001:db8::1\nnameserver x\n";
        let own = ["10.0.128.10".parse().expect("an address")];
        let expected: Vec<SocketAddr> = ["127.0.0.53:53", "[2001:db8::1]:53"]
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect();
        assert_eq!(upstreams(text, &own), expected);
    }
}
