//! The statefulset controller: pods with lasting names, made and replaced one after another.

mod identity;
mod plan;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::claim::{candidates, claim};
use super::cluster::Cluster;
use super::event::Notice;
use super::history::{self, Naming};
use super::queue::Next;
use super::replicas;
use super::store::Key;
use super::write::{Error, Write, perform, perform_all};

const COMPONENT: &str = "statefulset-controller";
const REVISION_HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// Adds the controller's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = replicas::observe(
        cluster,
        |cluster| &cluster.stateful_sets,
        |set| Some(&set.spec.selector),
    );
    cluster.reconcile("statefulset", queue, reconcile, shutdown, tasks);
}

async fn reconcile(cluster: Arc<Cluster>, key: Key) -> Result<Next, Error> {
    let Some(set) = cluster.stateful_sets.get_key(&key) else {
        return Ok(Next::OnChange);
    };
    let naming = Naming {
        hash_label: REVISION_HASH_LABEL,
        collision_count: set
            .status
            .as_ref()
            .and_then(|status| status.collision_count),
    };
    let owned = || history::owned(set.as_ref(), &cluster.controller_revisions);
    let known = owned();
    let update = history::current(set.as_ref(), &set.spec.template, &known, &naming);
    if set.metadata.deletion_timestamp.is_none()
        && let Some(write) = update.write
    {
        match perform(&cluster.client, write).await {
            Err(error) if error.is_namespace_terminating() => return Ok(Next::OnChange),
            outcome => drop(outcome?),
        }
    }
    let old_name = set
        .status
        .as_ref()
        .and_then(|status| status.current_revision.clone());
    let old = known
        .iter()
        .find(|revision| revision.metadata.name == old_name);
    let revisions = plan::Revisions::new(&set, &update.revision, old.map(Arc::as_ref));
    let selector = &set.spec.selector;
    let pods = candidates(set.as_ref(), selector, &cluster.pods);
    let claim = claim(set.as_ref(), selector, pods);
    perform_all(&cluster.client, claim.writes(set.as_ref())).await?;
    let step = plan::plan(&snapshot(&cluster, &set, &revisions));
    let outcome = apply(&cluster, &set, step.writes).await;
    let snapshot = snapshot(&cluster, &set, &revisions);
    if let Some(write) = status::plan(&snapshot) {
        perform(&cluster.client, write).await?;
    }
    outcome?;
    let used: Vec<&str> = snapshot
        .pods
        .iter()
        .filter_map(|pod| identity::revision(pod))
        .chain([revisions.current_name(), revisions.update_name()])
        .collect();
    let surplus = history::surplus(&owned(), &used, set.spec.revision_history_limit);
    perform_all(&cluster.client, surplus).await?;
    Ok(step.next)
}

fn snapshot<'a>(
    cluster: &Cluster,
    set: &'a StatefulSet,
    revisions: &'a plan::Revisions,
) -> plan::Snapshot<'a> {
    let selector = &set.spec.selector;
    let claim = claim(set, selector, candidates(set, selector, &cluster.pods));
    plan::Snapshot {
        set,
        revisions,
        pods: claim.owned,
        now: Timestamp::now(),
    }
}

/// Performs the writes in order: a later pod must not come before an earlier one was taken.
async fn apply(cluster: &Cluster, set: &StatefulSet, writes: Vec<Write<Pod>>) -> Result<(), Error> {
    let set_name = set.metadata.name.as_deref().unwrap_or_default();
    for write in writes {
        let (name, verb, reasons) = match &write {
            Write::Create(pod) => (
                pod.metadata.name.clone(),
                "Create",
                ("SuccessfulCreate", "FailedCreate"),
            ),
            Write::Delete { key, .. } => (
                Some(key.name.clone()),
                "Delete",
                ("SuccessfulDelete", "FailedDelete"),
            ),
            _ => (None, "Update", ("SuccessfulUpdate", "FailedUpdate")),
        };
        let name = name.unwrap_or_default();
        let outcome = perform(&cluster.client, write).await;
        let notice = match &outcome {
            Ok(_) => Notice::normal(
                reasons.0,
                format!("{verb} Pod {name} in StatefulSet {set_name} successful"),
            ),
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) => {
                let message = error.message();
                Notice::warning(
                    reasons.1,
                    format!("{verb} Pod {name} in StatefulSet {set_name} failed error: {message}"),
                )
            }
        };
        cluster.recorder.record(COMPONENT, set, notice);
        outcome?;
    }
    Ok(())
}
