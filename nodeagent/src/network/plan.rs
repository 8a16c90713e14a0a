//! Plans the steps from the observed network to the desired one. Pure.

use ipnet::IpNet;

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
    for address in &desired.anchor {
        let net = IpNet::from(*address);
        let is_there = |found: &super::Address| {
            found.net == net && link.is_some_and(|link| link.index == found.link_index)
        };
        if !observed.addresses.iter().any(is_there) {
            steps.push(Step::AddAddress {
                link: ANCHOR.to_owned(),
                net,
            });
        }
    }
    steps
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

/// Routes to another node's pod CIDRs: direct where `node_addresses` has one on a link of ours.
pub(crate) fn peer_routes(
    pod_cidrs: &[IpNet],
    node_addresses: &[std::net::IpAddr],
    observed: &Observed,
) -> Vec<Route> {
    let on_link = |gateway: &&std::net::IpAddr| {
        observed.addresses.iter().any(|own| {
            own.net.prefix_len() < own.net.max_prefix_len() && own.net.contains(*gateway)
        })
    };
    let route = |cidr: &IpNet| {
        let gateway = node_addresses
            .iter()
            .filter(|address| address.is_ipv4() == cidr.addr().is_ipv4())
            .find(on_link)?;
        Some(Route {
            destination: cidr.trunc(),
            link: None,
            gateway: Some(*gateway),
            source: None,
        })
    };
    pod_cidrs.iter().filter_map(route).collect()
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
                    },
                ),
                (
                    ANCHOR.to_owned(),
                    Link {
                        index: 3,
                        state: LinkState::Up,
                    },
                ),
                (
                    "kn0000000000001".to_owned(),
                    Link {
                        index: 4,
                        state: LinkState::Up,
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
    fn a_peer_is_routed_only_over_a_shared_link() {
        let mut observed = settled();
        observed.addresses.push(Address {
            link_index: 2,
            net: "192.168.7.1/24".parse().unwrap(),
        });
        let cidrs = ["10.42.1.0/24".parse().unwrap()];
        let near = peer_routes(&cidrs, &["192.168.7.2".parse().unwrap()], &observed);
        assert_eq!(near.len(), 1);
        assert_eq!(near[0].gateway, Some("192.168.7.2".parse().unwrap()));
        assert_eq!(
            peer_routes(&cidrs, &["192.168.8.2".parse().unwrap()], &observed),
            []
        );
    }
}
