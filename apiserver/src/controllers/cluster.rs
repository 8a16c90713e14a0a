//! The cluster as the controllers see it: one store a kind, fed by one reflector each, shared by all.

use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Client;
use kube::runtime::watcher;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::event::{self, Notice, Pending, Recorder};
use super::store::{Object, Store};
use super::{endpointslice, selection};

/// Every store, the client, and the event recorder.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) recorder: Recorder,
    pub(super) cluster_roles: Store<ClusterRole>,
    pub(super) config_maps: Store<ConfigMap>,
    pub(super) controller_revisions: Store<ControllerRevision>,
    pub(super) cron_jobs: Store<CronJob>,
    pub(super) daemon_sets: Store<DaemonSet>,
    pub(super) deployments: Store<Deployment>,
    pub(super) endpoint_slices: Store<EndpointSlice>,
    pub(super) endpoints: Store<Endpoints>,
    pub(super) ip_addresses: Store<IPAddress>,
    pub(super) jobs: Store<Job>,
    pub(super) leases: Store<Lease>,
    pub(super) namespaces: Store<Namespace>,
    pub(super) nodes: Store<Node>,
    pub(super) pods: Store<Pod>,
    pub(super) replica_sets: Store<ReplicaSet>,
    pub(super) service_accounts: Store<ServiceAccount>,
    pub(super) service_cidrs: Store<ServiceCIDR>,
    pub(super) services: Store<Service>,
    pub(super) stateful_sets: Store<StatefulSet>,
}

/// The reflectors, to be started once every observer is in place.
pub(super) struct Reflectors {
    pending: Pending,
}

impl Cluster {
    pub(super) fn new(client: Client) -> (Arc<Cluster>, Reflectors) {
        let (recorder, pending) = Recorder::new();
        let cluster = Cluster {
            client,
            recorder,
            cluster_roles: Store::new(),
            config_maps: Store::new(),
            controller_revisions: Store::new(),
            cron_jobs: Store::new(),
            daemon_sets: Store::new(),
            deployments: Store::new(),
            endpoint_slices: Store::indexed(endpointslice::slice_terms),
            endpoints: Store::new(),
            ip_addresses: Store::new(),
            jobs: Store::new(),
            leases: Store::new(),
            namespaces: Store::new(),
            nodes: Store::new(),
            pods: Store::indexed(selection::pod_terms),
            replica_sets: Store::new(),
            service_accounts: Store::new(),
            service_cidrs: Store::new(),
            services: Store::indexed(selection::service_terms),
            stateful_sets: Store::new(),
        };
        (Arc::new(cluster), Reflectors { pending })
    }

    /// Records `notices` about `object` as said by `component`.
    pub(super) fn tell<K: Object>(
        &self,
        component: &'static str,
        object: &K,
        notices: Vec<Notice>,
    ) {
        for notice in notices {
            self.recorder.record(component, object, notice);
        }
    }

    /// Returns once every store is complete; a plan made earlier would mistake "not listed yet" for "does not exist".
    pub(super) async fn wait_synced(&self) {
        self.cluster_roles.wait_synced().await;
        self.config_maps.wait_synced().await;
        self.controller_revisions.wait_synced().await;
        self.cron_jobs.wait_synced().await;
        self.daemon_sets.wait_synced().await;
        self.deployments.wait_synced().await;
        self.endpoint_slices.wait_synced().await;
        self.endpoints.wait_synced().await;
        self.ip_addresses.wait_synced().await;
        self.jobs.wait_synced().await;
        self.leases.wait_synced().await;
        self.namespaces.wait_synced().await;
        self.nodes.wait_synced().await;
        self.pods.wait_synced().await;
        self.replica_sets.wait_synced().await;
        self.service_accounts.wait_synced().await;
        self.service_cidrs.wait_synced().await;
        self.services.wait_synced().await;
        self.stateful_sets.wait_synced().await;
    }
}

impl Reflectors {
    /// Starts one reflector a kind, and the writer of events.
    pub(super) fn spawn(
        self,
        cluster: &Arc<Cluster>,
        shutdown: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) {
        tasks.spawn(event::write(
            cluster.client.clone(),
            self.pending,
            shutdown.clone(),
        ));
        let everything = watcher::Config::default;
        reflect(cluster, |c| &c.cluster_roles, everything(), shutdown, tasks);
        let root_ca = everything().fields("metadata.name=kube-root-ca.crt");
        reflect(cluster, |c| &c.config_maps, root_ca, shutdown, tasks);
        reflect(
            cluster,
            |c| &c.controller_revisions,
            everything(),
            shutdown,
            tasks,
        );
        reflect(cluster, |c| &c.cron_jobs, everything(), shutdown, tasks);
        reflect(cluster, |c| &c.daemon_sets, everything(), shutdown, tasks);
        reflect(cluster, |c| &c.deployments, everything(), shutdown, tasks);
        reflect(
            cluster,
            |c| &c.endpoint_slices,
            everything(),
            shutdown,
            tasks,
        );
        reflect(cluster, |c| &c.endpoints, everything(), shutdown, tasks);
        reflect(cluster, |c| &c.ip_addresses, everything(), shutdown, tasks);
        reflect(cluster, |c| &c.jobs, everything(), shutdown, tasks);
        let heartbeats = everything().fields("metadata.namespace=kube-node-lease");
        reflect(cluster, |c| &c.leases, heartbeats, shutdown, tasks);
        reflect(cluster, |c| &c.namespaces, everything(), shutdown, tasks);
        reflect(cluster, |c| &c.nodes, everything(), shutdown, tasks);
        reflect(cluster, |c| &c.pods, everything(), shutdown, tasks);
        reflect(cluster, |c| &c.replica_sets, everything(), shutdown, tasks);
        reflect(
            cluster,
            |c| &c.service_accounts,
            everything(),
            shutdown,
            tasks,
        );
        reflect(cluster, |c| &c.service_cidrs, everything(), shutdown, tasks);
        reflect(cluster, |c| &c.services, everything(), shutdown, tasks);
        reflect(cluster, |c| &c.stateful_sets, everything(), shutdown, tasks);
    }
}

fn reflect<K: Object>(
    cluster: &Arc<Cluster>,
    store: fn(&Cluster) -> &Store<K>,
    config: watcher::Config,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let cluster = Arc::clone(cluster);
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        let events = knarr_client::watch(cluster.client.clone(), None, config);
        let fill = fill(store(&cluster), events);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = fill => {}
        }
    });
}

async fn fill<K: Object>(
    store: &Store<K>,
    mut events: impl Stream<Item = watcher::Event<K>> + Unpin,
) {
    let mut listing = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            watcher::Event::Init => listing.clear(),
            watcher::Event::InitApply(object) => listing.push(object),
            watcher::Event::InitDone => store.replaced(std::mem::take(&mut listing)),
            watcher::Event::Apply(object) => store.applied(object),
            watcher::Event::Delete(object) => store.deleted(&object),
        }
    }
}
