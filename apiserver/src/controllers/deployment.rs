//! The deployment controller: one ReplicaSet per revision of the template, and the roll from one to the next.

mod draft;
mod plan;
mod proportion;
mod revision;
mod rolling;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::claim::{candidates, claim, controlled_by, controller_of, is_controlled_by};
use super::cluster::Cluster;
use super::queue::{Next, Queue};
use super::selector;
use super::store::Key;
use super::write::{Error, Write, perform, perform_all};

const COMPONENT: &str = "deployment-controller";

/// Adds the controller's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    let own = Arc::clone(&queue);
    cluster.deployments.observe(move |old, new| {
        if let Some(deployment) = new.or(old) {
            own.add(Key::of(deployment.as_ref()));
        }
    });
    observe_sets(cluster, &queue);
    observe_last_pods(cluster, &queue);
    cluster.reconcile("deployment", queue, reconcile, shutdown, tasks);
}

fn observe_sets(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>) {
    let (known, queue) = (Arc::downgrade(cluster), Arc::clone(queue));
    cluster.replica_sets.observe(move |old, new| {
        let mut owned = false;
        for set in [old, new].into_iter().flatten() {
            if let Some(owner) = controller_of(&set.metadata) {
                owned = true;
                let namespace = set.metadata.namespace.clone().unwrap_or_default();
                queue.add(Key::new(namespace, owner.name.clone()));
            }
        }
        if let (false, Some(set), Some(cluster)) = (owned, new, known.upgrade()) {
            let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
            for deployment in cluster.deployments.in_namespace(namespace) {
                if selector::matches(&deployment.spec.selector, set.metadata.labels.as_ref()) {
                    queue.add(Key::of(deployment.as_ref()));
                }
            }
        }
    });
}

/// `Recreate` waits for the last old pod to be gone, which no ReplicaSet's status tells.
fn observe_last_pods(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>) {
    let (known, queue) = (Arc::downgrade(cluster), Arc::clone(queue));
    cluster.pods.observe(move |old, new| {
        let (Some(pod), None, Some(cluster)) = (old, new, known.upgrade()) else {
            return;
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let Some(owner) = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")
        else {
            return;
        };
        let Some(set) = cluster.replica_sets.get(namespace, &owner.name) else {
            return;
        };
        if let Some(owner) = controller_of(&set.metadata) {
            queue.add(Key::new(namespace, owner.name.clone()));
        }
    });
}

async fn reconcile(cluster: Arc<Cluster>, key: Key) -> Result<Next, Error> {
    let Some(deployment) = cluster.deployments.get_key(&key) else {
        return Ok(Next::OnChange);
    };
    let spec = &deployment.spec;
    let candidates = || candidates(deployment.as_ref(), &spec.selector, &cluster.replica_sets);
    let claim = claim(deployment.as_ref(), &spec.selector, candidates());
    perform_all(&cluster.client, claim.writes(deployment.as_ref())).await?;
    let is_mine = |set: &Arc<ReplicaSet>| {
        is_controlled_by(&set.metadata, deployment.as_ref())
            && selector::matches(&spec.selector, set.metadata.labels.as_ref())
    };
    let mut sets = candidates();
    sets.retain(is_mine);
    let pods = sets
        .iter()
        .flat_map(|set| controlled_by(set.as_ref(), &cluster.pods));
    let pods: Vec<Arc<Pod>> = pods.collect();
    let plan = plan::plan(&plan::Snapshot {
        deployment: &deployment,
        sets: &sets,
        pods: &pods,
        now: Timestamp::now(),
    });
    // Whole objects are in flight here, too many bytes for every queue entry to hold.
    Box::pin(apply(&cluster, &deployment, plan)).await
}

async fn apply(
    cluster: &Cluster,
    deployment: &Deployment,
    plan: plan::Plan,
) -> Result<Next, Error> {
    let plan::Plan {
        created,
        written,
        status,
        notices,
        next,
    } = plan;
    if let Some(set) = created
        && let Err(error) = perform(&cluster.client, Write::Create(set.clone())).await
    {
        return refused(cluster, deployment, &set, error).await;
    }
    perform_all(&cluster.client, written).await?;
    cluster.tell(COMPONENT, deployment, notices);
    if let Some(status) = status {
        perform(&cluster.client, Write::ReplaceStatus(status)).await?;
    }
    Ok(next)
}

/// The server would not take the new ReplicaSet: a taken name calls for another hash, anything else for a condition.
async fn refused(
    cluster: &Cluster,
    deployment: &Deployment,
    set: &ReplicaSet,
    error: Error,
) -> Result<Next, Error> {
    if error.is_namespace_terminating() {
        return Ok(Next::OnChange);
    }
    let taken = cluster.replica_sets.get_key(&Key::of(set));
    let (status, notice) = if error.is_already_exists() {
        // Our own set that the watch has not told yet, or somebody else's.
        let foreign = taken.is_some_and(|taken| {
            !is_controlled_by(&taken.metadata, deployment) || !revision::same_template(&taken, set)
        });
        if !foreign {
            return Err(error);
        }
        (status::with_collision(deployment), None)
    } else {
        let (status, notice) =
            status::with_create_error(deployment, set, &error.message(), Timestamp::now());
        (status, Some(notice))
    };
    cluster.tell(COMPONENT, deployment, notice.into_iter().collect());
    perform(&cluster.client, Write::ReplaceStatus(status)).await?;
    Err(error)
}
