//! The daemonset controller: one pod on every node that should run it.

mod node;
mod plan;
mod snapshot;
mod update;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::claim::{candidates, claim};
use super::cluster::Cluster;
use super::history::{self, HASH_LABEL, Naming};
use super::queue::Next;
use super::replicas;
use super::store::Key;
use super::write::{Error, perform, perform_all};
use snapshot::Snapshot;

const COMPONENT: &str = "daemonset-controller";

/// Adds the controller's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = replicas::observe(
        cluster,
        |cluster| &cluster.daemon_sets,
        |set| Some(&set.spec.selector),
    );
    let (known, everywhere) = (Arc::downgrade(cluster), Arc::clone(&queue));
    cluster.nodes.observe(move |old, new| {
        let shown = |node: Option<&Arc<Node>>| {
            node.map(|node| (node.metadata.labels.clone(), node.spec.clone()))
        };
        if shown(old) == shown(new) {
            return;
        }
        let Some(cluster) = known.upgrade() else {
            return;
        };
        for set in cluster.daemon_sets.all() {
            everywhere.add(Key::of(set.as_ref()));
        }
    });
    cluster.reconcile("daemonset", queue, reconcile, shutdown, tasks);
}

async fn reconcile(cluster: Arc<Cluster>, key: Key) -> Result<Next, Error> {
    let Some(set) = cluster.daemon_sets.get_key(&key) else {
        return Ok(Next::OnChange);
    };
    let naming = Naming {
        hash_label: HASH_LABEL,
        collision_count: set
            .status
            .as_ref()
            .and_then(|status| status.collision_count),
    };
    let revisions = || history::owned(set.as_ref(), &cluster.controller_revisions);
    let current = history::current(set.as_ref(), &set.spec.template, &revisions(), &naming);
    if set.metadata.deletion_timestamp.is_none()
        && let Some(write) = current.write
    {
        match perform(&cluster.client, write).await {
            Err(error) if error.is_namespace_terminating() => return Ok(Next::OnChange),
            outcome => drop(outcome?),
        }
    }
    let labels = current.revision.metadata.labels.as_ref();
    let hash = labels
        .and_then(|labels| labels.get(HASH_LABEL))
        .cloned()
        .unwrap_or_default();
    let plan = plan::plan_pods(&snapshot(&cluster, &set, &hash));
    cluster.tell(COMPONENT, set.as_ref(), plan.notices);
    let failure = replicas::apply(&cluster, COMPONENT, set.as_ref(), plan.writes)
        .await
        .err();
    let snapshot = snapshot(&cluster, &set, &hash);
    let (status, next) = plan::plan_status(&snapshot);
    if let Some(write) = status {
        perform(&cluster.client, write).await?;
    }
    if let Some(failure) = failure {
        return Err(failure.into_error());
    }
    let used: Vec<&str> = snapshot
        .pods
        .iter()
        .filter_map(|pod| node::hash(pod))
        .chain([hash.as_str()])
        .collect();
    let surplus = history::surplus(&revisions(), &used, set.spec.revision_history_limit);
    perform_all(&cluster.client, surplus).await?;
    Ok(next)
}

fn snapshot<'a>(
    cluster: &Cluster,
    set: &'a k8s_openapi::api::apps::v1::DaemonSet,
    hash: &'a str,
) -> Snapshot<'a> {
    let selector = &set.spec.selector;
    let claim = claim(set, selector, candidates(set, selector, &cluster.pods));
    let claimed = claim.writes(set);
    let pods: Vec<Arc<Pod>> = claim.owned.into_iter().chain(claim.adopted).collect();
    Snapshot {
        set,
        hash,
        claimed,
        pods,
        nodes: cluster.nodes.all(),
        now: Timestamp::now(),
    }
}
