//! The host's resolvers, as `resolv.conf` names them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use nix::net::if_::if_nametoindex;

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
        .filter_map(place)
        .filter(|place| !own.contains(&place.ip()))
        .take(NAMESERVER_COUNT_MAX)
        .collect()
}

/// An address may name its link, as in `fe80::1%eth0`: home routers advertise themselves so.
fn place(word: &str) -> Option<SocketAddr> {
    let (ip, link) = word.split_once('%').unwrap_or((word, ""));
    Some(match ip.parse().ok()? {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), DNS_PORT),
        IpAddr::V6(ip) => {
            let index = link.parse().or_else(|_| if_nametoindex(link));
            SocketAddrV6::new(ip, DNS_PORT, 0, index.unwrap_or(0)).into()
        }
    })
}

/// Whether only the stub of systemd-resolved is named, behind which are the host's resolvers.
#[must_use]
pub(super) fn names_only_the_stub(resolv_conf: &str) -> bool {
    const STUBS: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)),
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54)),
    ];
    let named = upstreams(resolv_conf, &[]);
    !named.is_empty() && named.iter().all(|place| STUBS.contains(&place.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_among_others_is_a_resolver_like_any() {
        for (text, expected) in [
            ("nameserver 127.0.0.53\noptions edns0\n", true),
            ("nameserver 127.0.0.53\nnameserver 192.0.2.1\n", false),
            ("nameserver 192.0.2.1\n", false),
            ("", false),
        ] {
            assert_eq!(names_only_the_stub(text), expected, "{text}");
        }
    }

    #[test]
    fn a_resolver_on_a_link_is_asked_there() {
        crate::own_netns::run(|| {
            let text = "nameserver fe80::1%lo\nnameserver fe80::2%7\nnameserver fe80::3%nowhere\n";
            let found = upstreams(text, &[]);
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, ["[fe80::1%1]:53", "[fe80::2%7]:53", "[fe80::3]:53"]);
        });
    }

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
