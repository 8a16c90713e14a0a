//! The replicaset controller: as many pods of one template as the spec says.

mod plan;
mod rank;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::claim::controller_of;
use super::cluster::Cluster;
use super::queue::{Next, Queue};
use super::replicas;
use super::store::Key;
use super::write::{Error, perform};

const COMPONENT: &str = "replicaset-controller";

/// Adds the controller's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    let own = Arc::clone(&queue);
    cluster.replica_sets.observe(move |old, new| {
        if let Some(set) = new.or(old) {
            own.add(Key::of(set.as_ref()));
        }
    });
    replicas::observe_pods(cluster, &queue, "ReplicaSet", |cluster, pod| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut sets = cluster.replica_sets.in_namespace(namespace);
        sets.retain(|set| replicas::selects(&set.spec.selector, pod));
        sets.iter().map(|set| Key::of(set.as_ref())).collect()
    });
    let (cluster, shutdown) = (Arc::clone(cluster), shutdown.clone());
    tasks.spawn(async move {
        cluster.wait_synced().await;
        let reconcile = |key| reconcile(Arc::clone(&cluster), key);
        queue.run("replicaset", shutdown.clone(), reconcile).await;
    });
}

async fn reconcile(cluster: Arc<Cluster>, key: Key) -> Result<Next, Error> {
    let mut failure = None;
    if let Some(set) = cluster.replica_sets.get_key(&key) {
        let plan = plan::plan_pods(&snapshot(&cluster, &set));
        let outcome = replicas::apply(&cluster, COMPONENT, set.as_ref(), plan).await;
        failure = outcome.err();
    }
    let Some(set) = cluster.replica_sets.get_key(&key) else {
        return Ok(Next::OnChange);
    };
    let failed = failure.as_ref().map(|failure| failure.condition());
    let (status, next) = plan::plan_status(&snapshot(&cluster, &set), failed);
    if let Some(write) = status {
        perform(&cluster.client, &cluster.replica_sets, write).await?;
    }
    match failure {
        Some(failure) => Err(failure.into_error()),
        None => Ok(next),
    }
}

fn snapshot<'a>(cluster: &Cluster, set: &'a ReplicaSet) -> plan::Snapshot<'a> {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let pods = cluster.pods.in_namespace(namespace);
    plan::Snapshot {
        set,
        related: related(cluster, set, &pods),
        pods,
        now: Timestamp::now(),
    }
}

/// The pods of every ReplicaSet of the same owner, by which crowded nodes are recognised.
fn related(cluster: &Cluster, set: &ReplicaSet, pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let uid_of_owner =
        |set: &ReplicaSet| controller_of(&set.metadata).map(|owner| owner.uid.clone());
    let owner = uid_of_owner(set);
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let siblings = cluster.replica_sets.in_namespace(namespace);
    let family: Vec<&str> = siblings
        .iter()
        .filter(|other| {
            other.metadata.uid == set.metadata.uid
                || (owner.is_some() && uid_of_owner(other) == owner)
        })
        .filter_map(|other| other.metadata.uid.as_deref())
        .collect();
    let belongs = |pod: &&Arc<Pod>| {
        controller_of(&pod.metadata).is_some_and(|owner| family.contains(&owner.uid.as_str()))
    };
    pods.iter().filter(belongs).cloned().collect()
}
