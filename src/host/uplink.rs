//! Which of the host's addresses others reach it at. Pure.

use std::net::IpAddr;

use super::{Address, Carries, Host, Route, State};

/// What speaks for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The host's way out bears it, or it was chosen before and nothing speaks against it.
    Sure,
    /// It is merely there.
    Guess,
}

/// An address that the host may be known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) address: IpAddr,
    pub(crate) choice: Choice,
}

impl Host {
    /// One address a family, IPv4 first; none on a host with no network. Of several that would do, those in `known` stay.
    pub(crate) fn uplink(&self, known: &[IpAddr]) -> Vec<Found> {
        let of_family = |v4| {
            let global = |a: &&Address| a.state == State::Global && is_of(v4, a.network.addr());
            let usable: Vec<&Address> = self.addresses.iter().filter(global).collect();
            let known = known.iter().find(|ip| is_of(v4, **ip));
            choose(&usable, self.way_out(v4, &usable), known.copied())
        };
        [true, false].into_iter().filter_map(of_family).collect()
    }

    /// The best default route that bears an address, and the address that it bears.
    fn way_out<'a>(&self, v4: bool, usable: &[&'a Address]) -> Option<(&Route, &'a Address)> {
        let defaults = self
            .routes
            .iter()
            .filter(|r| r.destination.prefix_len() == 0 && is_of(v4, r.destination.addr()));
        let bearing = defaults.filter_map(|route| {
            let of_source = |a: &&&Address| Some(a.network.addr()) == route.source;
            let on_link = |a: &&&Address| a.link == route.link;
            let address = usable.iter().find(of_source);
            let address = address.or_else(|| usable.iter().find(on_link))?;
            Some((route, *address))
        });
        bearing.min_by_key(|(route, _)| route.metric)
    }
}

fn is_of(v4: bool, address: IpAddr) -> bool {
    address.is_ipv4() == v4
}

fn choose(
    usable: &[&Address],
    way_out: Option<(&Route, &Address)>,
    known: Option<IpAddr>,
) -> Option<Found> {
    let sure = |address: &Address| Found {
        address: address.network.addr(),
        choice: Choice::Sure,
    };
    let known = usable.iter().find(|a| Some(a.network.addr()) == known);
    match (known, way_out) {
        (Some(known), Some((route, address))) => {
            let is_as_good = route.link == known.link && route.source.is_none();
            // Whoever starts a VPN does not move the machine into it.
            let is_aside =
                address.carries == Carries::OneEnd && known.carries == Carries::Neighbours;
            Some(sure(if is_as_good || is_aside {
                known
            } else {
                address
            }))
        }
        (Some(known), None) => Some(sure(known)),
        (None, Some((_, address))) => Some(sure(address)),
        (None, None) => usable.first().map(|address| Found {
            address: address.network.addr(),
            choice: Choice::Guess,
        }),
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a CIDR")
    }

    /// Links 1 to 6 lead to neighbours, others to one end.
    fn address(link: u32, network: &str) -> Address {
        Address {
            link,
            network: net(network),
            state: State::Global,
            carries: match link {
                ..=6 => Carries::Neighbours,
                7.. => Carries::OneEnd,
            },
        }
    }

    fn default(link: u32, metric: u32) -> Route {
        Route {
            link,
            destination: net("0.0.0.0/0"),
            source: None,
            metric,
        }
    }

    /// Expects addresses, a guess marked by `?`.
    fn check(addresses: &[Address], routes: &[Route], known: &[&str], expected: &[&str]) {
        let host = Host {
            addresses: addresses.to_vec(),
            routes: routes.to_vec(),
            ..Host::default()
        };
        let known: Vec<IpAddr> = known
            .iter()
            .map(|ip| ip.parse().expect("an address"))
            .collect();
        let found: Vec<String> = host
            .uplink(&known)
            .iter()
            .map(|found| match found.choice {
                Choice::Sure => found.address.to_string(),
                Choice::Guess => format!("{}?", found.address),
            })
            .collect();
        assert_eq!(found, expected, "{known:?}");
    }

    const WIRED: &str = "192.0.2.5/24";
    const WIRELESS: &str = "198.51.100.7/24";

    #[test]
    fn the_uplink_is_where_the_best_default_route_leaves() {
        let both = [address(2, WIRED), address(3, WIRELESS)];
        let routes = [default(2, 600), default(3, 100)];
        check(&both, &routes, &[], &["198.51.100.7"]);
        check(&both, &routes, &["192.0.2.5"], &["198.51.100.7"]);
        check(&both, &routes[..1], &["198.51.100.7"], &["192.0.2.5"]);
        check(&both[..1], &routes, &["198.51.100.7"], &["192.0.2.5"]);
    }

    #[test]
    fn a_known_address_stays_while_nothing_speaks_against_it() {
        let two = [address(2, WIRED), address(2, "192.0.2.6/24")];
        check(&two, &[default(2, 100)], &["192.0.2.6"], &["192.0.2.6"]);
        check(&two, &[], &["192.0.2.6"], &["192.0.2.6"]);
        let preferred = Route {
            source: Some(net(WIRED).addr()),
            ..default(2, 100)
        };
        check(&two, &[preferred], &["192.0.2.6"], &["192.0.2.5"]);
    }

    #[test]
    fn a_vpn_moves_nobody_who_has_an_address_outside_of_it() {
        let both = [address(2, WIRED), address(7, "10.8.0.2/24")];
        let routes = [default(2, 600), default(7, 50)];
        check(&both, &routes, &["192.0.2.5"], &["192.0.2.5"]);
        check(&both[1..], &routes, &["192.0.2.5"], &["10.8.0.2"]);
    }

    #[test]
    fn an_address_that_no_default_route_bears_is_a_guess() {
        let both = [address(4, "172.17.0.1/16"), address(2, WIRED)];
        check(&both[..1], &[], &["192.0.2.5"], &["172.17.0.1?"]);
        check(&both[..1], &[default(2, 100)], &[], &["172.17.0.1?"]);
        check(&both, &[default(2, 100)], &["203.0.113.9"], &["192.0.2.5"]);
    }

    #[test]
    fn each_family_has_an_uplink_of_its_own() {
        let both = [address(2, "2001:db8::7/64"), address(3, WIRED)];
        let v6 = Route {
            destination: net("::/0"),
            ..default(2, 1024)
        };
        check(&both, &[v6], &["192.0.2.5"], &["192.0.2.5", "2001:db8::7"]);
    }

    #[test]
    fn neither_loopback_nor_a_link_that_is_down_is_an_uplink() {
        let mut addresses = [address(1, "127.0.0.1/8"), address(2, WIRED)];
        addresses[0].state = State::Local;
        addresses[1].state = State::Down;
        check(&addresses, &[], &["192.0.2.5"], &[]);
    }
}
