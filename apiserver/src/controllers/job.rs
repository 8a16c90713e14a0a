//! The job controller: pods that run to completion, each counted exactly once.
//!
//! A pod keeps a finalizer until the status says that it is counted; that order is what makes counting exact.

mod count;
mod index;
mod per_index;
mod plan;
mod policy;
mod status;

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::claim::{candidates, claim, controller_of};
use super::cluster::Cluster;
use super::queue::Next;
use super::replicas::{self, PodWrites};
use super::store::Key;
use super::terms;
use super::write::{Error, Write, perform, perform_all};

const COMPONENT: &str = "job-controller";

/// Adds the controller's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = replicas::observe(
        cluster,
        |cluster| &cluster.jobs,
        |job| job.spec.as_ref()?.selector.as_ref(),
    );
    cluster.reconcile("job", queue, reconcile, shutdown, tasks);
}

async fn reconcile(cluster: Arc<Cluster>, key: Key) -> Result<Next, Error> {
    let Some(job) = cluster.jobs.get_key(&key) else {
        release(&cluster, abandoned(&cluster, &key)).await?;
        return Ok(Next::OnChange);
    };
    let Some(spec) = &job.spec else {
        return Ok(Next::OnChange);
    };
    let selector = spec.selector.clone().unwrap_or_default();
    let pods = candidates(job.as_ref(), &selector, &cluster.pods);
    let claim = claim(job.as_ref(), &selector, pods);
    perform_all(&cluster.client, claim.writes(job.as_ref())).await?;
    let pods: Vec<Arc<Pod>> = claim.owned.into_iter().chain(claim.adopted).collect();
    let plan = plan::plan(&plan::Snapshot {
        job: &job,
        spec,
        pods: &pods,
        now: Timestamp::now(),
    });
    apply(&cluster, &job, plan).await
}

/// The status goes first, so that a pod whose finalizer is gone has certainly been counted.
async fn apply(cluster: &Cluster, job: &Job, plan: plan::Plan) -> Result<Next, Error> {
    let plan::Plan {
        status,
        released,
        deleted,
        created,
        expired,
        notices,
        next,
    } = plan;
    if expired == plan::Expired::Now {
        let write = Write::Delete {
            key: Key::of(job),
            uid: job.metadata.uid.clone().unwrap_or_default(),
            propagation: super::write::Propagation::Foreground,
        };
        perform::<Job>(&cluster.client, write).await?;
        return Ok(Next::OnChange);
    }
    if let Some(status) = status {
        perform(&cluster.client, Write::ReplaceStatus(status)).await?;
    }
    cluster.tell(COMPONENT, job, notices);
    let freed: Vec<Arc<Pod>> = released
        .into_iter()
        .chain(deleted.iter().cloned())
        .collect();
    release(cluster, freed).await?;
    let writes = PodWrites {
        patched: Vec::new(),
        created,
        deleted,
    };
    match replicas::apply(cluster, COMPONENT, job, writes).await {
        Ok(()) => Ok(next),
        Err(failure) => Err(failure.into_error()),
    }
}

async fn release(cluster: &Cluster, pods: Vec<Arc<Pod>>) -> Result<(), Error> {
    let writes = pods.iter().filter_map(|pod| count::without_finalizer(pod));
    let writes = writes.map(|write| async move {
        match perform(&cluster.client, write).await {
            Err(error) if !error.is_not_found() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    });
    join_all(writes).await.into_iter().collect()
}

/// Pods of a Job that is gone: nobody will count them any more.
fn abandoned(cluster: &Cluster, key: &Key) -> Vec<Arc<Pod>> {
    let term = terms::controller("Job", &key.name);
    cluster.pods.found_by(&key.namespace, &term, |pod| {
        controller_of(&pod.metadata)
            .is_some_and(|owner| owner.kind == "Job" && owner.name == key.name)
    })
}
