//! What every pod of a node shares: the client, the roots, the addresses, the wanted network. One lock a thing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use kube::Client;
use tokio::sync::{Notify, watch};

use crate::cgroup::Cgroups;
use crate::events::Recorder;
use crate::ipam;
use crate::network::PodLink;
use crate::paths::Paths;
use crate::pod::env::Capacity;
use crate::pod::files::{self, Resolver};
use crate::services::Services;

/// Settings of the cluster that the agent reads from the ConfigMap `kube-system/knarr`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) service_cidrs: Vec<IpNet>,
    pub(crate) lb_pool: Vec<IpNet>,
    pub(crate) dns: Vec<String>,
    pub(crate) domain: String,
}

/// The node as its pods see it.
pub(crate) struct Host {
    pub(crate) client: Client,
    pub(crate) node_name: String,
    /// The addresses others reach the node at.
    pub(crate) node_ips: watch::Receiver<Vec<IpAddr>>,
    pub(crate) paths: Paths,
    pub(crate) cgroups: Cgroups,
    pub(crate) capacity: Capacity,
    pub(crate) services: Services,
    pub(crate) events: Recorder,
    pub(crate) cluster: watch::Receiver<Cluster>,
    /// The node's pod CIDRs, empty until the API has given them.
    pub(crate) pod_cidrs: watch::Receiver<Vec<IpNet>>,
    pub(crate) network: Network,
    /// What waits for a time of day looks again when the clock is set.
    pub(crate) clock: knarr_clock::Settings,
}

/// What pods want of the node's network.
#[derive(Default)]
pub(crate) struct Network {
    /// Says that it changed.
    pub(crate) changed: Notify,
    /// Held while links are made, so that repair and creation do not meet.
    pub(crate) lock: Mutex<()>,
    links: Mutex<BTreeMap<String, PodLink>>,
    addresses: Mutex<Addresses>,
}

#[derive(Debug, Default)]
struct Addresses {
    taken: BTreeMap<String, Vec<IpAddr>>,
    last: BTreeMap<IpNet, IpAddr>,
}

impl Host {
    /// The node's addresses as status and environment show them.
    pub(crate) fn node_ip_texts(&self) -> Vec<String> {
        let node_ips = self.node_ips.borrow();
        node_ips.iter().map(ToString::to_string).collect()
    }

    /// The pod's addresses: those it has, or fresh ones; none if the pod CIDRs are used up.
    pub(crate) fn addresses_of(&self, uid: &str) -> Option<Vec<IpAddr>> {
        let mut addresses = lock(&self.network.addresses);
        if let Some(own) = addresses.taken.get(uid) {
            return Some(own.clone());
        }
        let taken: BTreeSet<IpAddr> = addresses.taken.values().flatten().copied().collect();
        let mut own = Vec::new();
        for cidr in self.pod_cidrs.borrow().iter() {
            let address = ipam::allocate(*cidr, &taken, addresses.last.get(cidr).copied())?;
            addresses.last.insert(*cidr, address);
            own.push(address);
        }
        if own.is_empty() {
            return None;
        }
        addresses.taken.insert(uid.to_owned(), own.clone());
        Some(own)
    }

    /// Notes addresses that a pod was observed to have.
    pub(crate) fn keep_addresses(&self, uid: &str, own: &[IpAddr]) {
        if !own.is_empty() {
            lock(&self.network.addresses)
                .taken
                .insert(uid.to_owned(), own.to_vec());
        }
    }

    /// Gives a pod's addresses back.
    pub(crate) fn release_addresses(&self, uid: &str) {
        lock(&self.network.addresses).taken.remove(uid);
    }

    /// Wants a pod's veth from now on.
    pub(crate) fn want_link(&self, uid: &str, link: PodLink) {
        lock(&self.network.links).insert(uid.to_owned(), link);
    }

    /// Wants a pod's veth no longer.
    pub(crate) fn drop_link(&self, uid: &str) {
        lock(&self.network.links).remove(uid);
    }

    /// All veths wanted.
    pub(crate) fn links(&self) -> Vec<PodLink> {
        lock(&self.network.links).values().cloned().collect()
    }

    /// How names resolve at this moment.
    pub(crate) fn resolver(&self) -> Resolver {
        let cluster = self.cluster.borrow().clone();
        // A name server nobody serves would only cost every look-up a time-out.
        let served = |address: &String| self.services.has_cluster_ip(address);
        Resolver {
            cluster_servers: cluster.dns.into_iter().filter(served).collect(),
            cluster_domain: cluster.domain,
            host: files::host_resolv_conf(),
        }
    }
}

/// Nothing behind these locks can be left half-done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
