//! Which nodes are well: asks their health ports again and again, and tells when an answer changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;
use ipnet::IpNet;
use knarr_netproxy_plan::PROXY_HEALTH_PORT;
use tokio::{net::TcpSocket, sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::link::Links;
use crate::peer::{self, Answer, Known, judge};

/// How often each health port is asked: what dies is noticed after at most three of these.
const ASK_INTERVAL: Duration = Duration::from_millis(500);
/// Many checks are asked less often, so that asking costs no more than this each.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// Rounds between two looks at the way back.
const RETURN_ROUNDS: u32 = 10;
/// An address that nobody has, valid as a source (RFC 7600): what nodes send to it takes their default route.
const FAR_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
/// The same for IPv6: of the prefix that is discarded everywhere (RFC 6666).
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 8);

/// What a front knows besides what the API says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// Every check that these are the answers to.
    pub(super) asked: BTreeSet<SocketAddr>,
    /// Health checks that answer well.
    pub(super) passing: BTreeSet<SocketAddr>,
    /// Networks of the front's own links that nodes are on, too.
    pub(super) near: BTreeSet<IpNet>,
    /// Nodes whose answers to an address beyond all networks come back here.
    pub(super) returning: BTreeSet<IpAddr>,
}

type Record<K> = BTreeMap<K, Known>;

fn passing<K: Ord + Copy>(record: &Record<K>) -> BTreeSet<K> {
    let passing = record.iter().filter(|(_, known)| **known != Known::Failing);
    passing.map(|(key, _)| *key).collect()
}

/// Asks the checks until shutdown.
pub(super) async fn run(
    mut checks: watch::Receiver<BTreeSet<SocketAddr>>,
    found: watch::Sender<Surroundings>,
    shutdown: CancellationToken,
) -> Result<(), crate::Error> {
    let links = Links::open()?;
    let mut health: Record<SocketAddr> = BTreeMap::new();
    let mut returns: Record<IpAddr> = BTreeMap::new();
    for round in 0_u32.. {
        let asked = checks.borrow_and_update().clone();
        let nodes: BTreeSet<IpAddr> = asked.iter().map(SocketAddr::ip).collect();
        health.retain(|check, _| asked.contains(check));
        returns.retain(|node, _| nodes.contains(node));
        let near = links.networks_with(&nodes).await;
        let answers = join_all(asked.iter().map(|check| peer::ask(*check))).await;
        for (check, answer) in asked.iter().zip(answers) {
            let known = judge(health.get(check).copied(), answer);
            health.insert(*check, known);
        }
        // Only Services with a check of their own care for clients' addresses.
        let matters = asked.iter().any(|check| check.port() != PROXY_HEALTH_PORT);
        let unknown = nodes.iter().any(|node| !returns.contains_key(node));
        if matters && (unknown || round % RETURN_ROUNDS == 0) {
            look_at_returns(&links, &nodes, &mut returns).await;
        }
        let now = Surroundings {
            passing: passing(&health),
            near,
            returning: passing(&returns),
            asked,
        };
        // Who was silent once is asked again at once: either a packet was lost, or every moment counts.
        let doubted = health
            .values()
            .any(|known| matches!(known, Known::Well { silences: 1.. }));
        let pause =
            ASK_INTERVAL.max(CHECK_INTERVAL * u32::try_from(health.len()).unwrap_or(u32::MAX));
        found.send_if_modified(|known| {
            let differs = *known != now;
            *known = now;
            differs
        });
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(pause), if !doubted => {}
            () = std::future::ready(()), if doubted => {}
            changed = checks.changed() => if changed.is_err() { break },
        }
    }
    if let Err(error) = links.remove().await {
        tracing::warn!("the front's link stays: {error}");
    }
    Ok(())
}

/// Asks nodes from an address beyond all networks: who answers has its way to clients through here.
async fn look_at_returns(links: &Links, nodes: &BTreeSet<IpAddr>, returns: &mut Record<IpAddr>) {
    if let Err(error) = links.add(&[FAR_V4.into(), FAR_V6.into()]).await {
        tracing::warn!("no client keeps its address: {error}");
        return;
    }
    let answers = join_all(nodes.iter().map(|node| comes_back(*node))).await;
    for (node, answer) in nodes.iter().zip(answers) {
        let known = judge(returns.get(node).copied(), answer);
        returns.insert(*node, known);
    }
}

async fn comes_back(node: IpAddr) -> Answer {
    let connect = async {
        let socket = if node.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        let far: IpAddr = if node.is_ipv4() {
            FAR_V4.into()
        } else {
            FAR_V6.into()
        };
        socket.bind(SocketAddr::new(far, 0))?;
        socket
            .connect(SocketAddr::new(node, PROXY_HEALTH_PORT))
            .await
    };
    match timeout(peer::ANSWER_TIME_MAX, connect).await {
        Ok(Ok(_)) => Answer::Well,
        Ok(Err(_)) => Answer::Ill,
        Err(_) => Answer::Silence,
    }
}
