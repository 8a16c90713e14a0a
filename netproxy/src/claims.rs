//! The load-balancer IPs that a node may have to announce, and the nodes that come before it. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use knarr_netproxy_plan::PROXY_HEALTH_PORT;

/// Understudies of an IP; were there one per node, every node would ask every other.
const UNDERSTUDIES_MAX: usize = 2;

/// What this node may have to announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Load-balancer IPs, with the nodes that come before this one, the best first.
    ips: BTreeMap<IpAddr, Vec<String>>,
    /// Where those nodes are.
    peers: BTreeMap<String, IpAddr>,
}

impl Claims {
    /// Collects the IPs for which this node is first or an understudy.
    pub fn new<'a>(
        own_name: &str,
        ranked: impl IntoIterator<Item = (IpAddr, Vec<&'a str>)>,
        address_of: impl Fn(&str) -> Option<IpAddr>,
    ) -> Self {
        let mut claims = Self::default();
        for (ip, nodes) in ranked {
            let Some(place) = nodes.iter().position(|node| *node == own_name) else {
                continue;
            };
            if place > UNDERSTUDIES_MAX {
                continue;
            }
            let before: Vec<String> = nodes[..place]
                .iter()
                .map(|node| (*node).to_owned())
                .collect();
            for node in &before {
                if let Some(address) = address_of(node) {
                    claims.peers.insert(node.clone(), address);
                }
            }
            claims.ips.insert(ip, before);
        }
        claims
    }

    /// The IPs to announce, given who is gone.
    pub(crate) fn mine(&self, gone: &BTreeSet<String>) -> BTreeSet<IpAddr> {
        let mine = self
            .ips
            .iter()
            .filter(|(_, before)| before.iter().all(|node| gone.contains(node)));
        mine.map(|(ip, _)| *ip).collect()
    }

    /// The nodes to ask: of those before this one, all up to the first that is there.
    pub(crate) fn watched(&self, gone: &BTreeSet<String>) -> BTreeMap<String, SocketAddr> {
        let mut watched = BTreeMap::new();
        for before in self.ips.values() {
            let present = before.iter().position(|node| !gone.contains(node));
            let until = present.map_or(before.len(), |place| place + 1);
            for node in before.iter().take(until) {
                if let Some(ip) = self.peers.get(node) {
                    watched.insert(node.clone(), SocketAddr::new(*ip, PROXY_HEALTH_PORT));
                }
            }
        }
        watched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two IPs: `10.0.0.1` is a's before b's before c's, `10.0.0.2` is c's before this node's.
    fn claims(own: &str) -> Claims {
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        let ranked = [(ip(1), vec!["a", "b", "c", "d"]), (ip(2), vec!["c", own])];
        Claims::new(own, ranked, |node| {
            Some([192, 0, 2, node.as_bytes()[0]].into())
        })
    }

    fn check(own: &str, gone: &[&str], mine: &[&str], watched: &[&str]) {
        let gone = gone.iter().map(|node| (*node).to_owned()).collect();
        let seen: Vec<String> = claims(own)
            .mine(&gone)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(seen, mine);
        let seen: Vec<String> = claims(own).watched(&gone).into_keys().collect();
        assert_eq!(seen, watched);
    }

    #[test]
    fn the_first_announces_and_asks_nobody_about_it() {
        check("a", &[], &["10.0.0.1"], &["c"]);
    }

    #[test]
    fn an_understudy_announces_when_everybody_better_is_gone() {
        check("b", &[], &[], &["a", "c"]);
        check("b", &["a"], &["10.0.0.1"], &["a", "c"]);
        check("b", &["a", "c"], &["10.0.0.1", "10.0.0.2"], &["a", "c"]);
    }

    #[test]
    fn the_second_understudy_asks_the_first_only_when_the_best_is_gone() {
        let ranked = [([10, 0, 0, 1].into(), vec!["a", "b", "c"])];
        let claims = Claims::new("c", ranked, |_| Some([192, 0, 2, 1].into()));
        let watched = |gone: &[&str]| -> Vec<String> {
            let gone = gone.iter().map(|node| (*node).to_owned()).collect();
            claims.watched(&gone).into_keys().collect()
        };
        assert_eq!(watched(&[]), ["a"]);
        assert_eq!(watched(&["a"]), ["a", "b"]);
        assert_eq!(watched(&["b"]), ["a"]);
    }

    #[test]
    fn who_comes_later_leaves_it_to_the_understudies() {
        let ranked = [([10, 0, 0, 1].into(), vec!["a", "b", "c", "d"])];
        let claims = Claims::new("d", ranked, |_| None);
        assert_eq!(claims, Claims::default());
    }
}
