//! The agent itself: prepares the host, registers the node, and keeps network, pods and lease going until shutdown.

mod cluster;
mod forwarding;
mod nodes;
mod own_node;
mod pods;
mod wires;

pub use forwarding::forward_packets;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cgroup::Cgroups;
use crate::events::Recorder;
use crate::host::{Host, Network};
use crate::node::Description;
use crate::paths::{self, Paths};
use crate::pod::sandbox;
use crate::server::{self, Server, ServingIdentity};
use crate::services::Services;
use crate::{netns, node};

/// What an agent needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    pub node_name: String,
    /// Addresses others reach this node at, at any time; empty on a host without network.
    pub node_ips: watch::Receiver<Vec<IpAddr>>,
    /// For what must vanish with the machine.
    pub run_dir: PathBuf,
    /// For logs and empty directories.
    pub data_dir: PathBuf,
    /// The port of logs, exec and attach.
    pub port: u16,
    /// Without it the agent serves no logs and no exec.
    pub serving: Option<ServingIdentity>,
}

/// What stops an agent from starting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("preparing {}", .0.display())]
    Prepare(PathBuf, #[source] io::Error),
    #[error("preparing the place of network namespaces")]
    Netns(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("listening for changes of links and routes")]
    Monitor(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("registering the node")]
    Register(#[source] Box<kube::Error>),
    #[error("a part of the agent ended early")]
    Ended,
}

/// Runs the agent until shutdown. Pods and packets stay as they are when it ends.
///
/// # Errors
/// Only what makes starting impossible; afterwards every failure is retried.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    tokio::select! {
        result = run_parts(client, config) => result,
        () = shutdown.cancelled() => Ok(()),
    }
}

#[expect(clippy::too_many_lines, reason = "the wiring, part by part")]
async fn run_parts(client: Client, config: Config) -> Result<(), Error> {
    let Config {
        node_name,
        node_ips,
        run_dir,
        data_dir,
        port,
        serving,
    } = config;
    let paths = Paths { run_dir, data_dir };
    prepare(&paths)?;
    let (cgroups, refused) = Cgroups::open(&paths.run_dir);
    for error in refused {
        tracing::warn!(
            error = format!("{:#}", anyhow::Error::from(error)),
            "limits are not enforced there"
        );
    }
    let capacity = node::capacity();
    let server = match serving {
        Some(identity) => listen(&identity, port).await,
        None => None,
    };
    let port = server.as_ref().map_or(port, Server::port);
    let description = Description {
        name: node_name.clone(),
        port,
        capacity,
    };
    let registered = register(&client, &description).await;
    let pod_cidrs = wait_for_pod_cidrs(&client, &node_name, registered.clone()).await;
    let first = node::addresses(&node_ips.borrow(), &pod_cidrs);
    let (own_ips_sender, own_ips) = watch::channel(first);
    let services = Services::default();
    let (cluster_sender, cluster) = watch::channel(cluster::read(&client).await);
    let following = own_node::follow_addresses(node_ips, pod_cidrs.clone(), own_ips_sender);
    let (_pod_cidr_sender, pod_cidrs) = watch::channel(pod_cidrs);
    let host = Arc::new(Host {
        events: Recorder::start(client.clone(), node_name.clone()),
        client: client.clone(),
        node_name: node_name.clone(),
        node_ips: own_ips.clone(),
        paths,
        cgroups,
        capacity,
        services: services.clone(),
        cluster,
        pod_cidrs,
        network: Network::default(),
        clock: knarr_clock::follow(),
    });
    adopt_links(&host);
    if let Err(error) = pods::retract(&host).await {
        tracing::warn!(%error, "taking back the readiness of pods that are gone");
    }
    let monitor =
        crate::netlink::Monitor::open().map_err(|error| Error::Monitor(Box::new(error)))?;
    let mut parts = JoinSet::new();
    let node_uid = registered.metadata.uid.unwrap_or_default();
    let (peers_sender, peers) = watch::channel(Vec::new());
    let (said_sender, said) = watch::channel(None);
    parts.spawn(following);
    parts.spawn(own_node::keep(client.clone(), description, own_ips, said));
    parts.spawn(node::renew(client.clone(), node_name.clone(), node_uid));
    parts.spawn(follow_services(services, client.clone()));
    parts.spawn(cluster::follow(client.clone(), cluster_sender));
    parts.spawn(nodes::follow(
        client.clone(),
        node_name.clone(),
        peers_sender,
        said_sender,
    ));
    let (networks_sender, networks) = watch::channel(BTreeSet::new());
    parts.spawn(node::tell_networks(client, node_name, networks));
    parts.spawn(wires::keep(host.clone(), monitor, peers, networks_sender));
    parts.spawn(pods::follow(host.clone()));
    if let Some(server) = server {
        parts.spawn(server.serve(host));
    }
    parts.join_next().await;
    Err(Error::Ended)
}

/// A server that cannot start takes logs and exec away, not the pods.
async fn listen(identity: &ServingIdentity, port: u16) -> Option<Server> {
    server::listen(identity, port)
        .await
        .inspect_err(|error| tracing::error!(?error, "logs and exec are not served"))
        .ok()
}

async fn follow_services(services: Services, client: Client) {
    services.follow(client).await;
}

fn prepare(paths: &Paths) -> Result<(), Error> {
    let failed = |path: &PathBuf| {
        let path = path.clone();
        move |error| Error::Prepare(path, error)
    };
    for directory in [
        &paths.run_dir,
        &paths.data_dir,
        &paths.pods(),
        &paths.run_dir.join("bin"),
    ] {
        fs::create_dir_all(directory).map_err(failed(directory))?;
    }
    let note = paths::data_dir_note(&paths.run_dir);
    fs::write(&note, paths.data_dir.as_os_str().as_encoded_bytes()).map_err(failed(&note))?;
    let link = paths.executable_link();
    if !link.exists() {
        fs::write(&link, "").map_err(failed(&link))?;
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&link, executable).map_err(failed(&link))?;
    }
    netns::prepare(&paths.netns_directory()).map_err(|error| Error::Netns(Box::new(error)))
}

/// Registers the node, waiting for a server that is not there yet.
async fn register(client: &Client, description: &Description) -> Node {
    const RETRY: Duration = Duration::from_millis(200);
    loop {
        match node::register(client, description).await {
            Ok(node) => return node,
            Err(error) => tracing::warn!(%error, "registering the node"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn wait_for_pod_cidrs(client: &Client, name: &str, first: Node) -> Vec<IpNet> {
    const RETRY: Duration = Duration::from_millis(20);
    const RETRY_MAX: Duration = Duration::from_secs(1);
    let api = knarr_client::Api::<Node>::all(client.clone());
    let (mut node, mut pause) = (Some(first), RETRY);
    loop {
        let cidrs = node.as_ref().map(nodes::pod_cidrs).unwrap_or_default();
        if !cidrs.is_empty() {
            return cidrs;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
        node = api
            .get(name)
            .await
            .inspect_err(|error| tracing::warn!(%error, "reading the node"))
            .ok();
    }
}

/// What earlier agents left wired is wanted until the API says otherwise.
fn adopt_links(host: &Host) {
    for record in sandbox::records(&host.paths) {
        host.keep_addresses(&record.uid, &record.addresses);
        let held = netns::is_held(&host.paths.netns(&record.uid));
        if let Some(link) = record.link(&host.paths).filter(|_| held) {
            host.want_link(&record.uid, link);
        }
    }
}
