//! The cluster as the controllers see it: one store a kind, shared by all.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::sync::Arc;

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
use knarr_api::kinds::{
    configmap::CONFIG_MAP,
    controllerrevision::CONTROLLER_REVISION,
    cronjob::CRON_JOB,
    daemonset::DAEMON_SET,
    deployment::DEPLOYMENT,
    endpoints::ENDPOINTS,
    endpointslice::ENDPOINT_SLICE,
    job::JOB,
    lease::LEASE,
    namespace::NAMESPACE,
    networking::{IP_ADDRESS, SERVICE_CIDR},
    node::NODE,
    pod::POD,
    rbac::CLUSTER_ROLE,
    replicaset::REPLICA_SET,
    service::SERVICE,
    serviceaccount::SERVICE_ACCOUNT,
    statefulset::STATEFUL_SET,
};
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::event::{self, Notice, Pending, Recorder};
use super::follow::{Scope, Source, Turn};
use super::queue::{Next, Queue};
use super::store::{Object, Store};
use super::terms;
use super::well_known::ROOT_CA;
use crate::storage;

/// Where nodes say that they live.
pub(super) const HEARTBEATS: &str = "kube-node-lease";

/// Every store, the client, and the event recorder.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) recorder: Recorder,
    clock: knarr_clock::Settings,
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

/// What tells the observers, to be started once every one is in place.
pub(super) struct Followers {
    pending: Pending,
}

impl Cluster {
    pub(super) fn new(
        client: Client,
        storage: &storage::Store,
        turn: &Turn,
    ) -> (Arc<Cluster>, Followers) {
        let (recorder, pending) = Recorder::new();
        let within = |kind, scope| Source::new(storage.clone(), turn.clone(), kind, scope);
        let all = |kind| within(kind, Scope::Everything);
        let cluster = Cluster {
            client,
            recorder,
            clock: knarr_clock::follow(),
            cluster_roles: Store::new(all(&CLUSTER_ROLE)),
            config_maps: Store::new(within(&CONFIG_MAP, Scope::Name(ROOT_CA))),
            controller_revisions: Store::indexed(all(&CONTROLLER_REVISION), terms::of_owned),
            cron_jobs: Store::new(all(&CRON_JOB)),
            daemon_sets: Store::new(all(&DAEMON_SET)),
            deployments: Store::new(all(&DEPLOYMENT)),
            endpoint_slices: Store::indexed(all(&ENDPOINT_SLICE), terms::of_slice),
            endpoints: Store::new(all(&ENDPOINTS)),
            ip_addresses: Store::new(all(&IP_ADDRESS)),
            jobs: Store::indexed(all(&JOB), terms::of_owned),
            leases: Store::new(within(&LEASE, Scope::Namespace(HEARTBEATS))),
            namespaces: Store::new(all(&NAMESPACE)),
            nodes: Store::new(all(&NODE)),
            pods: Store::indexed(all(&POD), terms::of_pod),
            replica_sets: Store::indexed(all(&REPLICA_SET), terms::of_owned),
            service_accounts: Store::new(all(&SERVICE_ACCOUNT)),
            service_cidrs: Store::new(all(&SERVICE_CIDR)),
            services: Store::indexed(all(&SERVICE), terms::of_service),
            stateful_sets: Store::new(all(&STATEFUL_SET)),
        };
        (Arc::new(cluster), Followers { pending })
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

    /// Reconciles what `queue` names, once every store is complete, until `shutdown`.
    pub(super) fn reconcile<T, R, E>(
        self: &Arc<Self>,
        controller: &'static str,
        queue: Arc<Queue<T>>,
        reconcile: fn(Arc<Cluster>, T) -> R,
        shutdown: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) where
        T: Clone + Debug + Ord + Hash + Send + 'static,
        R: Future<Output = Result<Next, E>> + Send + 'static,
        E: Display + 'static,
    {
        let (cluster, shutdown) = (Arc::clone(self), shutdown.clone());
        tasks.spawn(async move {
            cluster.wait_synced().await;
            let reconcile = |key| reconcile(Arc::clone(&cluster), key);
            let running = Arc::clone(&queue).run(controller, shutdown, reconcile);
            tokio::select! {
                () = running => {}
                () = hurried(&queue, cluster.clock.clone()) => {}
            }
        });
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

impl Followers {
    /// Starts one a kind, and the writer of events.
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
        follow(cluster, |c| &c.cluster_roles, shutdown, tasks);
        follow(cluster, |c| &c.config_maps, shutdown, tasks);
        follow(cluster, |c| &c.controller_revisions, shutdown, tasks);
        follow(cluster, |c| &c.cron_jobs, shutdown, tasks);
        follow(cluster, |c| &c.daemon_sets, shutdown, tasks);
        follow(cluster, |c| &c.deployments, shutdown, tasks);
        follow(cluster, |c| &c.endpoint_slices, shutdown, tasks);
        follow(cluster, |c| &c.endpoints, shutdown, tasks);
        follow(cluster, |c| &c.ip_addresses, shutdown, tasks);
        follow(cluster, |c| &c.jobs, shutdown, tasks);
        follow(cluster, |c| &c.leases, shutdown, tasks);
        follow(cluster, |c| &c.namespaces, shutdown, tasks);
        follow(cluster, |c| &c.nodes, shutdown, tasks);
        follow(cluster, |c| &c.pods, shutdown, tasks);
        follow(cluster, |c| &c.replica_sets, shutdown, tasks);
        follow(cluster, |c| &c.service_accounts, shutdown, tasks);
        follow(cluster, |c| &c.service_cidrs, shutdown, tasks);
        follow(cluster, |c| &c.services, shutdown, tasks);
        follow(cluster, |c| &c.stateful_sets, shutdown, tasks);
    }
}

fn follow<K: Object>(
    cluster: &Arc<Cluster>,
    store: fn(&Cluster) -> &Store<K>,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let (cluster, shutdown) = (Arc::clone(cluster), shutdown.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = store(&cluster).follow() => {}
        }
    });
}

/// What waits for a time of day is looked at whenever the clock is set, for as long as somebody waits here.
async fn hurried<T>(queue: &Queue<T>, mut clock: knarr_clock::Settings)
where
    T: Clone + Debug + Ord + Hash + Send + 'static,
{
    while clock.changed().await.is_ok() {
        queue.hurry();
    }
    std::future::pending().await
}
