//! The controllers: loops that make status match spec, reading the server's memory and writing through the API.
//!
//! Every one observes shared [`stores`](store), plans with a pure function, and applies the plan. None of them touches the
//! database, a socket of its own, or the clock inside a plan.

mod addresses;
mod aggregation;
mod claim;
mod cluster;
mod cronjob;
mod daemonset;
mod deployment;
mod endpoints;
mod endpointslice;
mod event;
mod follow;
mod gc;
mod history;
mod inventory;
mod ipaddress;
mod job;
mod loadbalancer;
mod mirroring;
mod namespace;
mod node;
mod partial;
mod podcidr;
mod podgc;
mod pods;
mod queue;
mod replicas;
mod replicaset;
mod scheduler;
mod selection;
mod selector;
mod serviceaccount;
mod servicecidr;
mod statefulset;
#[cfg(test)]
mod stop_test;
mod store;
mod template;
mod terms;
mod well_known;
mod write;

use ipnet::IpNet;
use kube::Client;
use tokio_util::sync::CancellationToken;

pub use addresses::{AddressRange, NotARange};

use cluster::Cluster;
use follow::Turn;
use inventory::Inventory;

use crate::storage;

/// What the controllers must be told; everything else they read from the API.
#[derive(Clone, Debug)]
pub struct Config {
    /// Ranges that nodes get their pod CIDRs from, at most one per family.
    pub cluster_cidrs: Vec<IpNet>,
    /// Load-balancer IPs, in the order they are given out.
    pub load_balancer_pool: Vec<AddressRange>,
    /// PEM of the cluster's CA, published in every namespace as `kube-root-ca.crt`.
    pub root_ca: String,
}

/// Runs every controller until `shutdown`: they read `storage`, and write by way of `client`.
pub async fn run(
    client: Client,
    storage: storage::Store,
    config: Config,
    shutdown: CancellationToken,
) {
    let turn = Turn::default();
    let (cluster, followers) = Cluster::new(client, &storage, &turn);
    let mut tasks = tokio::task::JoinSet::new();
    endpointslice::spawn(&cluster, &shutdown, &mut tasks);
    endpoints::spawn(&cluster, &shutdown, &mut tasks);
    replicaset::spawn(&cluster, &shutdown, &mut tasks);
    daemonset::spawn(&cluster, &shutdown, &mut tasks);
    statefulset::spawn(&cluster, &shutdown, &mut tasks);
    job::spawn(&cluster, &shutdown, &mut tasks);
    cronjob::spawn(&cluster, &shutdown, &mut tasks);
    aggregation::spawn(&cluster, &shutdown, &mut tasks);
    servicecidr::spawn(&cluster, &shutdown, &mut tasks);
    ipaddress::spawn(&cluster, &shutdown, &mut tasks);
    deployment::spawn(&cluster, &shutdown, &mut tasks);
    scheduler::spawn(&cluster, &shutdown, &mut tasks);
    node::spawn(&cluster, &shutdown, &mut tasks);
    mirroring::spawn(&cluster, &shutdown, &mut tasks);
    loadbalancer::spawn(&cluster, config.load_balancer_pool, &shutdown, &mut tasks);
    podcidr::spawn(&cluster, config.cluster_cidrs, &shutdown, &mut tasks);
    podgc::spawn(&cluster, &shutdown, &mut tasks);
    let inventory = Inventory::new();
    gc::spawn(&cluster, &inventory, &shutdown, &mut tasks);
    namespace::spawn(&cluster, &inventory, &shutdown, &mut tasks);
    serviceaccount::spawn(&cluster, config.root_ca, &shutdown, &mut tasks);
    inventory.spawn(&storage, &turn, &shutdown, &mut tasks);
    drop(storage);
    followers.spawn(&cluster, &shutdown, &mut tasks);
    let complete = async {
        cluster.wait_synced().await;
        inventory.wait_synced().await;
    };
    tokio::select! {
        () = complete => {}
        // Stores that nobody fills any more would be waited for in vain, and nothing has been decided yet.
        () = shutdown.cancelled() => tasks.abort_all(),
    }
    while tasks.join_next().await.is_some() {}
}
