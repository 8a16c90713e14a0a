//! The post office: turns Services into rewritten packets on this node.
//!
//! Owns the nftables tables `knarr`, conntrack entries of Services, and announcements of
//! load-balancer IPs. Never touches links, routes or pods, but for the one link of a front.

pub mod announce;
mod census;
mod claims;
mod connections;
mod conntrack;
pub mod dns;
mod events;
pub mod explain;
pub mod front;
mod health;
mod legacy;
mod localhost;
mod metrics;
mod netlink;
pub mod nftables;
mod occupied;
#[cfg(test)]
mod own_netns;
mod peer;
#[cfg(test)]
mod run_test;
mod state;
mod store;
mod sync;
mod walls;

use std::{collections::BTreeSet, io, sync::Arc};

use ipnet::IpNet;
use kube::Client;
use tokio::{
    sync::{Notify, watch},
    task::JoinError,
};
use tokio_util::sync::CancellationToken;

pub use knarr_netproxy_plan::NodePortAddresses;
pub use netlink::SocketError;
pub use state::Published;
pub use walls::{Wall, walls};

/// What a proxy is told when it starts; all else it learns from the API.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this node.
    pub node_name: String,
    /// Which of the node's addresses accept node ports.
    pub node_port_addresses: NodePortAddresses,
    /// Whether they answer on localhost too.
    pub localhost_node_ports: LocalhostNodePorts,
    /// Where pods are seen under their own addresses, besides the cluster itself.
    pub non_masquerade_cidrs: BTreeSet<IpNet>,
}

/// Whether node ports answer on 127.0.0.1 and ::1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalhostNodePorts {
    /// They do, for TCP and UDP.
    #[default]
    Answered,
    /// Whoever listens there, it is not this proxy.
    LeftAlone,
}

/// Why a proxy ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's nf_tables are not there or not ours to use.
    #[error("nftables")]
    Nftables(#[from] nftables::Error),
    /// A socket could not be set up.
    #[error("a socket")]
    Socket(#[from] io::Error),
    /// A sync panicked.
    #[error("a sync")]
    Sync(#[from] JoinError),
    /// Packet sockets cannot be had.
    #[error("announcing load-balancer IPs")]
    Announce(#[from] announce::Error),
}

/// Serves packets until shutdown, and leaves them served.
///
/// # Errors
/// When the kernel lacks what it takes.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let node_name = config.node_name.clone();
    let store = store::Store::new(&config);
    let zone = dns::shared("cluster.local");
    let (resident, sockets) = dns::resident::Resident::new(zone.clone());
    let proxy = sync::Proxy::new(store, nftables::Nftables::open()?, resident);
    let (published, states) = watch::channel(Arc::new(Published::default()));
    let (recorder, happenings) = events::Recorder::new();
    let (census, questions) = census::channel();
    let vitals = Arc::new(health::Vitals::default());
    let watched = health::Watched {
        states: states.clone(),
        vitals: vitals.clone(),
        census,
    };
    let walls = Arc::new(Notify::new());
    let reports = sync::Reports {
        published,
        vitals,
        recorder: recorder.clone(),
        walls: walls.clone(),
    };
    let (announced, mine) = watch::channel(BTreeSet::new());
    let (present, fronts) = watch::channel(false);
    tokio::try_join!(
        sync::run(client.clone(), proxy, reports, questions, shutdown.clone()),
        async {
            // Nodes settle by rank who announces; only a front's right to it can run out unheard.
            let nobody_asks = Arc::default();
            Ok(announce::run(mine, nobody_asks, shutdown.clone()).await?)
        },
        async {
            tokio::join!(
                health::run(
                    watched,
                    node_name.clone(),
                    recorder.clone(),
                    shutdown.clone()
                ),
                announce::follow_fronts(client.clone(), present, shutdown.clone()),
                announce::keep_vigil(states.clone(), fronts, announced, shutdown.clone()),
                occupied::run(states.clone(), recorder.clone(), shutdown.clone()),
                walls::run(walls, recorder.clone(), shutdown.clone()),
                events::run(client, node_name.clone(), happenings, shutdown.clone()),
            );
            Ok(())
        },
        async {
            match config.localhost_node_ports {
                LocalhostNodePorts::Answered => {
                    localhost::run(states.clone(), shutdown.clone()).await;
                }
                LocalhostNodePorts::LeftAlone => {}
            }
            Ok(())
        },
        async {
            dns::resident::run(sockets, zone, shutdown.clone()).await;
            Ok(())
        },
    )?;
    Ok(())
}

/// Removes what the proxy put on the host, and only that.
///
/// # Errors
/// When the kernel refuses.
pub async fn teardown() -> Result<(), Error> {
    let front = front::teardown().await;
    let tables = tokio::task::spawn_blocking(|| nftables::Nftables::open()?.remove()).await?;
    tables.map_err(Error::from).and(front)
}
