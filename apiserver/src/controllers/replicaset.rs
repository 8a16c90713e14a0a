//! The replicaset controller: as many pods of one template as the spec says.

mod plan;
mod rank;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::claim::{candidates, controlled_by, controller_of};
use super::cluster::Cluster;
use super::queue::Next;
use super::replicas;
use super::store::Key;
use super::terms;
use super::write::{Error, perform};

const COMPONENT: &str = "replicaset-controller";

/// Adds the controller's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = replicas::observe(
        cluster,
        |cluster| &cluster.replica_sets,
        |set| Some(&set.spec.selector),
    );
    cluster.reconcile("replicaset", queue, reconcile, shutdown, tasks);
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
        perform(&cluster.client, write).await?;
    }
    match failure {
        Some(failure) => Err(failure.into_error()),
        None => Ok(next),
    }
}

fn snapshot<'a>(cluster: &Cluster, set: &'a ReplicaSet) -> plan::Snapshot<'a> {
    plan::Snapshot {
        set,
        related: related(cluster, set),
        pods: candidates(set, &set.spec.selector, &cluster.pods),
        now: Timestamp::now(),
    }
}

/// The pods of every ReplicaSet of the same owner, by which crowded nodes are recognised.
fn related(cluster: &Cluster, set: &ReplicaSet) -> Vec<Arc<Pod>> {
    let Some(owner) = controller_of(&set.metadata) else {
        return controlled_by(set, &cluster.pods);
    };
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let term = terms::controller(&owner.kind, &owner.name);
    let family = cluster.replica_sets.found_by(namespace, &term, |other| {
        controller_of(&other.metadata).is_some_and(|reference| reference.uid == owner.uid)
    });
    let pods = family
        .iter()
        .map(|set| controlled_by(set.as_ref(), &cluster.pods));
    pods.flatten().collect()
}
