//! Gives Services of type LoadBalancer their addresses from the pool, and takes them back.
//!
//! Who answers at an address is the proxy's business; without a node that runs one, no address is given.

mod plan;
mod pool;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Namespace, Service};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::addresses::AddressRange;
use super::cluster::{Cluster, HEARTBEATS};
use super::event::Notice;
use super::queue::{Next, Queue};
use super::store::Key;
use super::terms::{BALANCED, everywhere};
use super::write::{Error, Write, perform};

use plan::{Answering, Step};
use pool::Pools;

const COMPONENT: &str = "service-controller";

/// Services are served together, so that no two get the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct All;

/// What was last refused to each Service, by uid, so that it is told once.
type Refused = Arc<Mutex<HashMap<String, String>>>;

/// Adds the controller's observers and its loop.
pub(super) fn spawn(
    cluster: &Arc<Cluster>,
    pool: Vec<AddressRange>,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let queue = Queue::new();
    let changed = Arc::clone(&queue);
    cluster.services.observe(move |old, new| {
        if [old, new]
            .into_iter()
            .flatten()
            .any(|service| plan::concerns(service))
        {
            changed.add(All);
        }
    });
    let answering = Arc::clone(&queue);
    cluster.leases.observe(move |old, new| {
        if old.is_some() != new.is_some() {
            answering.add(All);
        }
    });
    let annotated = Arc::clone(&queue);
    cluster.namespaces.observe(move |old, new| {
        let pool = |namespace: Option<&Arc<Namespace>>| {
            pool::annotation_of(namespace?.as_ref()).map(str::to_owned)
        };
        if pool(old) != pool(new) {
            annotated.add(All);
        }
    });
    let (cluster, shutdown) = (Arc::clone(cluster), shutdown.clone());
    tasks.spawn(async move {
        cluster.wait_synced().await;
        let (pool, refused): (Arc<[AddressRange]>, Refused) = (pool.into(), Refused::default());
        let reconcile = |_| {
            reconcile(
                Arc::clone(&cluster),
                Arc::clone(&pool),
                Arc::clone(&refused),
            )
        };
        queue.run("loadbalancer", shutdown.clone(), reconcile).await;
    });
}

async fn reconcile(
    cluster: Arc<Cluster>,
    pool: Arc<[AddressRange]>,
    refused: Refused,
) -> Result<Next, Error> {
    let steps = {
        let services = cluster
            .services
            .found_by("", &everywhere(BALANCED), plan::concerns);
        let heartbeats = cluster.leases.in_namespace(HEARTBEATS);
        let beats = |name: &str| {
            heartbeats
                .iter()
                .any(|lease| lease.metadata.name.as_deref() == Some(name))
        };
        let nodes = cluster.nodes.all();
        let answered = nodes
            .iter()
            .any(|node| node.metadata.name.as_deref().is_some_and(beats));
        let answering = if answered {
            Answering::Somebody
        } else {
            Answering::Nobody
        };
        let namespaces = cluster.namespaces.all();
        let pools = Pools::new(&pool, namespaces.iter().map(AsRef::as_ref));
        plan::plan(&services, &pools, answering)
    };
    let outcomes = steps
        .into_iter()
        .map(|step| apply(&cluster, &refused, step));
    let outcomes = futures_util::future::join_all(outcomes).await;
    outcomes
        .into_iter()
        .collect::<Result<(), Error>>()
        .map(|()| Next::OnChange)
}

async fn apply(cluster: &Cluster, refused: &Refused, step: Step) -> Result<(), Error> {
    let told = |uid: &str| {
        refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid)
    };
    match step {
        Step::Give {
            service,
            addresses,
            ignored,
        } => {
            told(service.metadata.uid.as_deref().unwrap_or_default());
            let tell = |notice| cluster.recorder.record(COMPONENT, service.as_ref(), notice);
            tell(Notice::normal(
                "EnsuringLoadBalancer",
                "Ensuring load balancer",
            ));
            if let Some(ignored) = ignored {
                tell(Notice::warning("LoadBalancerIPIgnored", ignored));
            }
            if let Some(finalizers) = plan::with_finalizer(&service) {
                set_finalizers(cluster, &service, finalizers).await?;
            }
            let ingress: Vec<_> = addresses
                .iter()
                .map(|ip| json!({"ip": ip, "ipMode": "VIP"}))
                .collect();
            let write = Write::MergeStatus {
                key: Key::of(service.as_ref()),
                patch: json!({"metadata": {"uid": service.metadata.uid}, "status": {"loadBalancer": {"ingress": ingress}}}),
            };
            perform::<Service>(&cluster.client, write).await?;
            tell(Notice::normal(
                "EnsuredLoadBalancer",
                "Ensured load balancer",
            ));
        }
        Step::Take { service } => {
            told(service.metadata.uid.as_deref().unwrap_or_default());
            let tell = |notice| cluster.recorder.record(COMPONENT, service.as_ref(), notice);
            tell(Notice::normal(
                "DeletingLoadBalancer",
                "Deleting load balancer",
            ));
            set_finalizers(cluster, &service, plan::without_finalizer(&service)).await?;
            tell(Notice::normal(
                "DeletedLoadBalancer",
                "Deleted load balancer",
            ));
        }
        Step::Refuse { service, why } => {
            let uid = service.metadata.uid.clone().unwrap_or_default();
            let earlier = refused
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(uid, why.clone());
            if earlier.as_ref() != Some(&why) {
                let message =
                    format!("Error syncing load balancer: failed to ensure load balancer: {why}");
                let notice = Notice::warning("SyncLoadBalancerFailed", message);
                cluster.recorder.record(COMPONENT, service.as_ref(), notice);
            }
        }
    }
    Ok(())
}

async fn set_finalizers(
    cluster: &Cluster,
    service: &Service,
    finalizers: Vec<String>,
) -> Result<(), Error> {
    let finalizers = Some(finalizers).filter(|finalizers| !finalizers.is_empty());
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": service.metadata.resource_version}});
    match perform(&cluster.client, Write::merge(service, patch)).await {
        Err(error) if !error.is_not_found() => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
