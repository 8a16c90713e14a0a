//! Keeps the host's links and routes as they should be: once at start, after every wish, after every change by others.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::watch;

use crate::host::Host;
use crate::ipam;
use crate::netlink::{self, Monitor, Socket};
use crate::network::peers::{self, Own, Peer};
use crate::network::{self, ANCHOR, Desired, Observed, Route};
use crate::resolved::{Teller, Watch, Wish};

/// Keeps the network until dropped.
pub(super) async fn keep(
    host: Arc<Host>,
    monitor: Monitor,
    mut peers: watch::Receiver<Vec<Peer>>,
    networks: watch::Sender<BTreeSet<IpNet>>,
) {
    /// A burst of changes is looked at once; a repair is still well within a second.
    const SETTLE: Duration = Duration::from_millis(50);
    const RETRY: Duration = Duration::from_secs(1);
    super::forwarding::enable(&host);
    let (mut cluster, mut node_ips) = (host.cluster.clone(), host.node_ips.clone());
    let teller = Arc::new(Mutex::new(Teller::default()));
    let mut resolved = Watch::default();
    loop {
        resolved.open().await;
        let (shared, known_peers) = (host.clone(), peers.borrow_and_update().clone());
        let own_teller = teller.clone();
        let synced = tokio::task::spawn_blocking(move || {
            let outcome = sync(&shared, &known_peers);
            tell_resolver(&shared, &own_teller);
            outcome
        })
        .await;
        let failed = match synced {
            Ok(Ok((errors, found))) => {
                networks.send_if_modified(|known| {
                    let changed = *known != found;
                    *known = found;
                    changed
                });
                !errors.is_empty()
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    error = format!("{:#}", anyhow::Error::from(error)),
                    "observing the network"
                );
                true
            }
            Err(_) => true,
        };
        let retry = if failed { RETRY } else { Duration::MAX };
        tokio::select! {
            _ = monitor.changed() => {}
            () = host.network.changed.notified() => {}
            () = resolved.returned() => teller.lock().unwrap_or_else(PoisonError::into_inner).forget(),
            changed = peers.changed() => if changed.is_err() { return },
            changed = cluster.changed() => if changed.is_err() { return },
            changed = node_ips.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(retry) => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// The host's resolver hears of cluster DNS once the link is there.
fn tell_resolver(host: &Host, teller: &Mutex<Teller>) {
    let cluster = host.cluster.borrow().clone();
    let servers = cluster.dns.iter().filter_map(|server| server.parse().ok());
    let wish = Wish {
        servers: servers.collect(),
        domain: cluster.domain,
    };
    teller
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .tell(wish);
}

/// One pass: observe, plan, apply. Gives what failed, and the networks of the host's links.
fn sync(host: &Host, peers: &[Peer]) -> Result<(Vec<String>, BTreeSet<IpNet>), netlink::Error> {
    let _one_at_a_time = host.network.lock.lock();
    let mut socket = Socket::open()?;
    let observed = network::observe::observe(&mut socket)?;
    let desired = desired(host, peers, &observed);
    let steps = network::plan::plan(&desired, &observed);
    if !steps.is_empty() {
        tracing::debug!(?steps, "repairing the network");
    }
    let errors = network::apply::apply(&mut socket, &steps);
    let errors: Vec<String> = errors
        .into_iter()
        .map(|error| format!("{:#}", anyhow::Error::from(error)))
        .collect();
    for error in &errors {
        tracing::warn!(error, "repairing the network");
    }
    Ok((errors, peers::networks(&observed)))
}

fn desired(host: &Host, peers: &[Peer], observed: &Observed) -> Desired {
    let own: Vec<IpAddr> = host
        .pod_cidrs
        .borrow()
        .iter()
        .map(|cidr| ipam::node_address(*cidr))
        .collect();
    let cluster = host.cluster.borrow();
    let to_anchor = |net: &IpNet| Route {
        destination: net.trunc(),
        link: Some(ANCHOR.to_owned()),
        gateway: None,
        source: source(host, &own, observed, *net),
    };
    let services = cluster.service_cidrs.iter().chain(&cluster.lb_pool);
    let mut routes: Vec<Route> = services
        .filter(|net| {
            own.iter()
                .any(|address| address.is_ipv4() == net.addr().is_ipv4())
        })
        .map(to_anchor)
        .collect();
    let node_ips = host.node_ips.borrow().clone();
    let me = Own {
        name: &host.node_name,
        addresses: &node_ips,
        among_pods: &own,
    };
    let ways = peers::ways(peers, me, observed);
    routes.extend(ways.routes);
    Desired {
        anchor: own,
        pods: host.links(),
        tunnels: ways.tunnels,
        entries: ways.entries,
        routes,
    }
}

/// The node's address where it has one on this host: others can always answer that.
fn source(host: &Host, own: &[IpAddr], observed: &Observed, to: IpNet) -> Option<IpAddr> {
    let same_family = |address: &&IpAddr| address.is_ipv4() == to.addr().is_ipv4();
    let is_here = |address: &&IpAddr| {
        observed
            .addresses
            .iter()
            .any(|found| found.net.addr() == **address)
    };
    let node_ips = host.node_ips.borrow();
    let node_ip = node_ips.iter().filter(same_family).find(is_here);
    node_ip.or_else(|| own.iter().find(same_family)).copied()
}
