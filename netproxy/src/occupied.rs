//! Node ports that a process of the host listens on: packets of others never reach it, so an Event says so.
//!
//! Looks after the node ports have changed and at long intervals. Changes nothing.

mod listeners;
mod process;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use knarr_netproxy_plan::{Family, FrontendKey, ServiceKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::listeners::{Listener, listeners};
use crate::{
    SocketError,
    events::{Happening, Recorder, Regarding},
    state::{NodePorts, Published},
};

/// Kubernetes has no reason for it: kube-proxy does not look.
const REASON: &str = "NodePortInUse";
/// A process that starts to listen later is noticed within this time.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Looks until shutdown.
pub(crate) async fn run(
    mut states: watch::Receiver<Arc<Published>>,
    recorder: Recorder,
    shutdown: CancellationToken,
) {
    let mut told = BTreeSet::new();
    loop {
        let node_ports = states.borrow_and_update().node_ports.clone();
        if !node_ports.services.is_empty() {
            let wanted = node_ports.clone();
            let found = tokio::task::spawn_blocking(move || happenings(&wanted)).await;
            match found {
                Ok(Ok(found)) => {
                    for happening in found.difference(&told) {
                        recorder.record(happening.clone());
                    }
                    told = found;
                }
                Ok(Err(error)) => {
                    tracing::debug!("who listens on node ports: {error}: {}", error.cause);
                }
                Err(_) => return,
            }
        }
        let differs = |state: &Arc<Published>| !Arc::ptr_eq(&state.node_ports, &node_ports);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RECHECK_INTERVAL), if !node_ports.services.is_empty() => {}
            changed = states.wait_for(differs) => if changed.is_err() { return },
        }
    }
}

fn happenings(node_ports: &NodePorts) -> Result<BTreeSet<Happening>, SocketError> {
    let listeners = listeners()?;
    let hidden = hidden(node_ports, &listeners);
    if hidden.is_empty() {
        return Ok(BTreeSet::new());
    }
    let own = process::own_sockets();
    let foreign = hidden
        .into_iter()
        .filter(|(_, _, listener)| !own.contains(&listener.inode));
    Ok(foreign
        .map(|(key, service, listener)| Happening {
            regarding: Regarding::Service(service),
            reason: REASON,
            message: message(
                &key,
                &listener,
                process::owner_of(listener.inode).as_deref(),
            ),
        })
        .collect())
}

/// Listeners that packets for a node port pass by.
fn hidden(
    node_ports: &NodePorts,
    listeners: &[Listener],
) -> Vec<(FrontendKey, Arc<ServiceKey>, Listener)> {
    let hides = |key: &FrontendKey, listener: &Listener| {
        listener.protocol == key.protocol
            && listener.address.port() == key.port
            && listener.hears(key.address.family())
            && (listener.address.ip().is_unspecified() || {
                let mut accepting = node_ports.addresses.iter();
                accepting.any(|range| range.contains(&listener.address.ip()))
            })
    };
    let of_port = |(key, service): (&FrontendKey, &Arc<ServiceKey>)| {
        let listener = listeners.iter().find(|listener| hides(key, listener))?;
        Some((*key, service.clone(), *listener))
    };
    let mut hidden: Vec<_> = node_ports.services.iter().filter_map(of_port).collect();
    // One socket for both families is one happening.
    hidden.dedup_by(|a, b| a.2.inode == b.2.inode && a.0.port == b.0.port);
    hidden
}

fn message(key: &FrontendKey, listener: &Listener, process: Option<&str>) -> String {
    let process = process.unwrap_or("a process of the host");
    format!(
        "node port {}/{} is in use: {process} listens on {}, and is not reached on this node's address while the Service exists",
        key.port, key.protocol, listener.address,
    )
}

impl Listener {
    /// Whether packets of a family come to it.
    fn hears(&self, family: Family) -> bool {
        let own = Family::of(&self.address.ip());
        own == family || (self.takes_v4 && family == Family::V4)
    }
}

#[cfg(test)]
mod tests {
    use knarr_netproxy_plan::{Address, Protocol};

    use super::*;

    fn listener(address: &str, protocol: Protocol) -> Listener {
        let address: std::net::SocketAddr = address.parse().expect("an address");
        Listener {
            address,
            protocol,
            takes_v4: address.ip().is_ipv6() && address.ip().is_unspecified(),
            inode: 7,
        }
    }

    #[test]
    fn only_listeners_in_a_node_ports_way_are_hidden() {
        let service = Arc::new(ServiceKey::new("default", "web"));
        let key = |family| FrontendKey {
            address: Address::Node(family),
            protocol: Protocol::Tcp,
            port: 30_080,
        };
        let node_ports = NodePorts {
            services: Family::BOTH
                .map(|family| (key(family), service.clone()))
                .into(),
            addresses: ["192.168.7.1/32".parse().expect("a range")].into(),
        };
        for (address, protocol, expected) in [
            ("0.0.0.0:30080", Protocol::Tcp, 1),
            ("[::]:30080", Protocol::Tcp, 1),
            ("192.168.7.1:30080", Protocol::Tcp, 1),
            ("192.168.7.2:30080", Protocol::Tcp, 0),
            ("127.0.0.1:30080", Protocol::Tcp, 0),
            ("0.0.0.0:30081", Protocol::Tcp, 0),
            ("0.0.0.0:30080", Protocol::Udp, 0),
        ] {
            let found = hidden(&node_ports, &[listener(address, protocol)]);
            assert_eq!(found.len(), expected, "{address} {protocol}");
        }
    }

    #[test]
    fn a_listener_is_named_with_its_process() {
        crate::own_netns::run(|| {
            let socket = std::net::TcpListener::bind("0.0.0.0:30080").expect("a socket");
            let udp = std::net::UdpSocket::bind("[::]:30081").expect("a socket");
            let found = listeners().expect("the kernel tells");
            let expected = [
                (socket.local_addr().expect("bound"), Protocol::Tcp),
                (udp.local_addr().expect("bound"), Protocol::Udp),
            ];
            for (address, protocol) in expected {
                let listener = found
                    .iter()
                    .find(|listener| (listener.address, listener.protocol) == (address, protocol))
                    .unwrap_or_else(|| panic!("{address} is in {found:?}"));
                assert!(process::own_sockets().contains(&listener.inode));
                let owner = process::owner_of(listener.inode).expect("this process");
                assert!(
                    owner.ends_with(&format!("(pid {})", std::process::id())),
                    "{owner}"
                );
                assert_eq!(listener.takes_v4, address.is_ipv6());
            }
        });
    }
}
