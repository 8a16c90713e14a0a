//! Watching over the nodes that come before this one, to announce in their place as soon as one is gone.
//!
//! The API notices a lost node after 40 s, and may be lost with it; understudies ask its health port themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use knarr_netproxy_plan::PROXY_HEALTH_PORT;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    peer::{self, Answer, Known, judge},
    state::Published,
};

/// How often a node that comes first is asked. It is given up after two silences of half a second each.
const ASK_INTERVAL: Duration = Duration::from_millis(400);
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
    fn mine(&self, gone: &BTreeSet<String>) -> BTreeSet<IpAddr> {
        let mine = self
            .ips
            .iter()
            .filter(|(_, before)| before.iter().all(|node| gone.contains(node)));
        mine.map(|(ip, _)| *ip).collect()
    }

    /// The nodes to ask: of those before this one, all up to the first that is there.
    fn watched(&self, gone: &BTreeSet<String>) -> BTreeMap<String, SocketAddr> {
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

/// Says what to announce until shutdown: nothing while a front does, and else what nobody better is there for.
pub(crate) async fn run(
    mut states: watch::Receiver<Arc<Published>>,
    mut fronts: watch::Receiver<bool>,
    announced: watch::Sender<BTreeSet<IpAddr>>,
    shutdown: CancellationToken,
) {
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    loop {
        let claims = states.borrow_and_update().claims.clone();
        let front_announces = *fronts.borrow_and_update();
        let watched = if front_announces {
            BTreeMap::new()
        } else {
            claims.watched(&gone(&known))
        };
        look(&watched, &mut known).await;
        let wanted = if front_announces {
            BTreeSet::new()
        } else {
            claims.mine(&gone(&known))
        };
        announced.send_if_modified(|mine| {
            let differs = *mine != wanted;
            *mine = wanted;
            differs
        });
        let doubted = known
            .values()
            .any(|known| matches!(known, Known::Well { silences: 1.. }));
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = states.changed() => if changed.is_err() { return },
            changed = fronts.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(ASK_INTERVAL), if !watched.is_empty() && !doubted => {}
            () = std::future::ready(()), if doubted => {}
        }
    }
}

fn gone(known: &BTreeMap<String, Known>) -> BTreeSet<String> {
    let gone = known.iter().filter(|(_, known)| **known == Known::Failing);
    gone.map(|(node, _)| node.clone()).collect()
}

/// Asks everybody once; who has not been asked before is there until two silences say otherwise.
async fn look(watched: &BTreeMap<String, SocketAddr>, known: &mut BTreeMap<String, Known>) {
    known.retain(|node, _| watched.contains_key(node));
    let answers = join_all(watched.values().map(|at| peer::ask(*at))).await;
    for (node, answer) in watched.keys().zip(answers) {
        // Who says that it is not well announces all the same.
        let answer = match answer {
            Answer::Ill => Answer::Well,
            Answer::Well | Answer::Absent | Answer::Silence => answer,
        };
        let before = known.get(node).copied();
        let now = judge(before.or(Some(Known::Well { silences: 0 })), answer);
        let is_gone = now == Known::Failing;
        if is_gone != (before == Some(Known::Failing)) {
            let news = if is_gone { "is gone" } else { "is back" };
            tracing::info!("node {node} {news}, as far as load-balancer IPs go");
        }
        known.insert(node.clone(), now);
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
