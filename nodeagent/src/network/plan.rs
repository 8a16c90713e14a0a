//! Plans the steps from the observed network to the desired one. Pure.

use ipnet::IpNet;

use super::tunnel::{self, Entry, Tunnel};
use super::{ANCHOR, Desired, LinkState, Observed, ObservedRoute, PodLink, Route, is_pod_link};

/// One step towards the desired network; steps are applied in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    DeleteLink(String),
    DeleteRoute(ObservedRoute),
    MakeAnchor,
    RaiseLink(String),
    AddAddress {
        link: String,
        net: IpNet,
    },
    MakeTunnel(Tunnel),
    AddEntry(Entry),
    RemoveEntry(Entry),
    /// Makes the veth, both ends, whatever is left of it.
    MakePodLink(PodLink),
    /// Raises the host end and restores its permanent neighbours.
    RaisePodLink(PodLink),
    ReplaceRoute(Route),
}

/// Plans everything that differs; an empty plan means there is nothing to do.
pub(crate) fn plan(desired: &Desired, observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend(stale_links(desired, observed));
    steps.extend(stale_routes(desired, observed));
    steps.extend(anchor(desired, observed));
    for tunnel in &desired.tunnels {
        steps.extend(tunnel_steps(tunnel, desired, observed));
    }
    steps.extend(entries(desired, observed));
    for pod in &desired.pods {
        match observed.links.get(&pod.name).map(|link| link.state) {
            None => steps.push(Step::MakePodLink(pod.clone())),
            Some(LinkState::Down) => steps.push(Step::RaisePodLink(pod.clone())),
            Some(LinkState::Up) => {}
        }
    }
    let missing = wanted_routes(desired).filter(|route| !is_present(route, observed));
    steps.extend(missing.map(Step::ReplaceRoute));
    steps
}

fn stale_links(desired: &Desired, observed: &Observed) -> Vec<Step> {
    let wanted = |name: &String| {
        if name == ANCHOR {
            return !desired.anchor.is_empty();
        }
        if tunnel::is_name(name) {
            return desired
                .tunnels
                .iter()
                .any(|tunnel| tunnel.name() == name && observed.tunnels.contains(tunnel));
        }
        !is_pod_link(name) || desired.pods.iter().any(|pod| pod.name == *name)
    };
    observed
        .links
        .keys()
        .filter(|name| !wanted(name))
        .cloned()
        .map(Step::DeleteLink)
        .collect()
}

fn stale_routes(desired: &Desired, observed: &Observed) -> Vec<Step> {
    let wanted: Vec<Route> = wanted_routes(desired).collect();
    let is_stale = |route: &&ObservedRoute| {
        !wanted
            .iter()
            .any(|wanted| wanted.destination == route.destination)
    };
    observed
        .routes
        .iter()
        .filter(is_stale)
        .cloned()
        .map(Step::DeleteRoute)
        .collect()
}

fn anchor(desired: &Desired, observed: &Observed) -> Vec<Step> {
    if desired.anchor.is_empty() {
        return Vec::new();
    }
    let mut steps = Vec::new();
    let link = observed.links.get(ANCHOR);
    match link.map(|link| link.state) {
        None => steps.extend([Step::MakeAnchor, Step::RaiseLink(ANCHOR.to_owned())]),
        Some(LinkState::Down) => steps.push(Step::RaiseLink(ANCHOR.to_owned())),
        Some(LinkState::Up) => {}
    }
    steps.extend(missing_addresses(ANCHOR, link.copied(), desired, observed));
    steps
}

/// The node's addresses among its pods that a link lacks.
fn missing_addresses(
    name: &str,
    link: Option<super::Link>,
    desired: &Desired,
    observed: &Observed,
) -> Vec<Step> {
    let is_there = |net: &IpNet| {
        observed.addresses.iter().any(|found| {
            found.net == *net && link.is_some_and(|link| link.index == found.link_index)
        })
    };
    let nets = desired.anchor.iter().copied().map(IpNet::from);
    nets.filter(|net| !is_there(net))
        .map(|net| Step::AddAddress {
            link: name.to_owned(),
            net,
        })
        .collect()
}

/// A tunnel bears the node's addresses among its pods, so that its own packets to other pods find their way back.
fn tunnel_steps(tunnel: &Tunnel, desired: &Desired, observed: &Observed) -> Vec<Step> {
    let name = tunnel.name();
    let as_wanted = observed.tunnels.contains(tunnel);
    let link = observed.links.get(name).copied().filter(|_| as_wanted);
    let raise = Step::RaiseLink(name.to_owned());
    let mut steps = match link.map(|link| link.state) {
        None => vec![Step::MakeTunnel(tunnel.clone()), raise],
        Some(LinkState::Down) => vec![raise],
        Some(LinkState::Up) => Vec::new(),
    };
    steps.extend(missing_addresses(name, link, desired, observed));
    steps
}

/// What a tunnel that is made anew knew is gone with it.
fn entries(desired: &Desired, observed: &Observed) -> Vec<Step> {
    let stays = |entry: &&Entry| {
        let link = match entry {
            Entry::Forwarding { link, .. } | Entry::Neighbour { link, .. } => link,
        };
        let mut wanted = desired.tunnels.iter();
        wanted.any(|tunnel| tunnel.name() == *link && observed.tunnels.contains(tunnel))
    };
    let known: Vec<&Entry> = observed.entries.iter().filter(stays).collect();
    let stale = known
        .iter()
        .filter(|entry| !desired.entries.contains(**entry));
    let missing = desired
        .entries
        .iter()
        .filter(|entry| !known.contains(entry));
    let stale = stale.map(|entry| Step::RemoveEntry((*entry).clone()));
    stale
        .chain(missing.map(|entry| Step::AddEntry(entry.clone())))
        .collect()
}

fn wanted_routes(desired: &Desired) -> impl Iterator<Item = Route> {
    desired
        .pods
        .iter()
        .flat_map(PodLink::routes)
        .chain(desired.routes.iter().cloned())
}

fn is_present(route: &Route, observed: &Observed) -> bool {
    let link_index = route
        .link
        .as_ref()
        .map(|name| observed.links.get(name).map(|link| link.index));
    observed.routes.iter().any(|found| {
        found.destination == route.destination
            && found.gateway == route.gateway
            && link_index.is_none_or(|index| index.is_some() && index == found.link_index)
            && (route.source.is_none() || found.source == route.source)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Address, Link};
    use super::*;

    fn pod(name: &str, address: &str) -> PodLink {
        PodLink {
            name: name.into(),
            netns: "/run/t/netns/a".into(),
            addresses: vec![address.parse().unwrap()],
        }
    }

    fn desired() -> Desired {
        Desired {
            anchor: vec!["10.42.0.1".parse().unwrap()],
            pods: vec![pod("kn0000000000001", "10.42.0.2")],
            routes: vec![Route {
                destination: "10.0.128.0/17".parse().unwrap(),
                link: Some(ANCHOR.into()),
                gateway: None,
                source: Some("10.42.0.1".parse().unwrap()),
            }],
            ..Desired::default()
        }
    }

    fn route(destination: &str, link_index: u32, source: Option<&str>) -> ObservedRoute {
        ObservedRoute {
            destination: destination.parse().unwrap(),
            link_index: Some(link_index),
            gateway: None,
            source: source.map(|text| text.parse().unwrap()),
        }
    }

    fn settled() -> Observed {
        Observed {
            links: [
                (
                    "eth0".to_owned(),
                    Link {
                        index: 2,
                        state: LinkState::Up,
                        mtu: 1500,
                    },
                ),
                (
                    ANCHOR.to_owned(),
                    Link {
                        index: 3,
                        state: LinkState::Up,
                        mtu: 1500,
                    },
                ),
                (
                    "kn0000000000001".to_owned(),
                    Link {
                        index: 4,
                        state: LinkState::Up,
                        mtu: 1500,
                    },
                ),
            ]
            .into(),
            addresses: vec![Address {
                link_index: 3,
                net: "10.42.0.1/32".parse().unwrap(),
            }],
            routes: vec![
                route("10.42.0.2/32", 4, None),
                route("10.0.128.0/17", 3, Some("10.42.0.1")),
            ],
            ..Observed::default()
        }
    }

    fn check(damage: impl FnOnce(&mut Observed), expected: &[Step]) {
        let mut observed = settled();
        damage(&mut observed);
        assert_eq!(plan(&desired(), &observed), expected);
    }

    #[test]
    fn a_settled_network_needs_nothing() {
        check(|_| (), &[]);
    }

    #[test]
    fn what_was_deleted_is_made_again() {
        let link = pod("kn0000000000001", "10.42.0.2");
        check(
            |observed| {
                observed.links.remove("kn0000000000001");
                observed.routes.remove(0);
            },
            &[
                Step::MakePodLink(link.clone()),
                Step::ReplaceRoute(link.routes()[0].clone()),
            ],
        );
        check(
            |observed| {
                observed.routes.remove(1);
            },
            &[Step::ReplaceRoute(desired().routes[0].clone())],
        );
        check(
            |observed| {
                observed.links.remove(ANCHOR);
                observed.addresses.clear();
                observed.routes.remove(1);
            },
            &[
                Step::MakeAnchor,
                Step::RaiseLink(ANCHOR.into()),
                Step::AddAddress {
                    link: ANCHOR.into(),
                    net: "10.42.0.1/32".parse().unwrap(),
                },
                Step::ReplaceRoute(desired().routes[0].clone()),
            ],
        );
    }

    #[test]
    fn what_nobody_wants_goes_and_foreign_links_stay() {
        let stale = route("10.42.0.9/32", 9, None);
        check(
            |observed| {
                let link = Link {
                    index: 9,
                    state: LinkState::Up,
                    mtu: 1500,
                };
                observed.links.insert("kn00000000000ff".into(), link);
                observed.links.insert("knot".into(), link);
                observed.routes.push(stale.clone());
            },
            &[
                Step::DeleteLink("kn00000000000ff".into()),
                Step::DeleteRoute(stale.clone()),
            ],
        );
    }

    #[test]
    fn a_tunnel_and_its_entries_follow_the_wish() {
        let tunnel = |mtu| Tunnel {
            underlay: "192.168.7.1".parse().unwrap(),
            mac: [6, 0, 0, 0, 0, 1],
            mtu,
        };
        let entry = |last| Entry::Forwarding {
            link: "knarr-vxlan",
            mac: [6, 0, 0, 0, 0, last],
            to: "192.168.8.2".parse().unwrap(),
        };
        let mut desired = desired();
        desired.tunnels = vec![tunnel(1450)];
        desired.entries = [entry(2)].into();
        let address = Step::AddAddress {
            link: "knarr-vxlan".into(),
            net: "10.42.0.1/32".parse().unwrap(),
        };
        let mut observed = settled();
        let fresh = [
            Step::MakeTunnel(tunnel(1450)),
            Step::RaiseLink("knarr-vxlan".into()),
            address,
            Step::AddEntry(entry(2)),
        ];
        assert_eq!(plan(&desired, &observed), fresh);

        let link = Link {
            index: 7,
            state: LinkState::Up,
            mtu: 1450,
        };
        observed.links.insert("knarr-vxlan".into(), link);
        observed.addresses.push(Address {
            link_index: 7,
            net: "10.42.0.1/32".parse().unwrap(),
        });
        observed.tunnels = vec![tunnel(1450)];
        observed.entries = [entry(2), entry(3)].into();
        assert_eq!(plan(&desired, &observed), [Step::RemoveEntry(entry(3))]);

        observed.tunnels = vec![tunnel(1400)];
        let anew = [&[Step::DeleteLink("knarr-vxlan".into())], &fresh[..]].concat();
        assert_eq!(plan(&desired, &observed), anew);
    }
}
