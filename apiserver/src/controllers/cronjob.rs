//! The cronjob controller: a Job at every moment a schedule names.

mod plan;
mod zone;

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::claim::{controlled_by, controller_of};
use super::cluster::Cluster;
use super::event::Notice;
use super::queue::{Next, Queue};
use super::store::Key;
use super::write::{Error, Propagation, Write, perform};

const COMPONENT: &str = "cronjob-controller";

/// Adds the controller's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    let (own, by_job) = (Arc::clone(&queue), Arc::clone(&queue));
    cluster.cron_jobs.observe(move |old, new| {
        if let Some(cron_job) = new.or(old) {
            own.add(Key::of(cron_job.as_ref()));
        }
    });
    cluster.jobs.observe(move |old, new| {
        for job in [old, new].into_iter().flatten() {
            if let Some(owner) =
                controller_of(&job.metadata).filter(|owner| owner.kind == "CronJob")
            {
                let namespace = job.metadata.namespace.clone().unwrap_or_default();
                by_job.add(Key::new(namespace, owner.name.clone()));
            }
        }
    });
    cluster.reconcile("cronjob", queue, reconcile, shutdown, tasks);
}

async fn reconcile(cluster: Arc<Cluster>, key: Key) -> Result<Next, Error> {
    let Some(cron_job) = cluster.cron_jobs.get_key(&key) else {
        return Ok(Next::OnChange);
    };
    let jobs = controlled_by(cron_job.as_ref(), &cluster.jobs);
    let zone = match cron_job.spec.time_zone.as_deref() {
        Some(name) => zone::read(name),
        None => Ok(TimeZone::UTC),
    };
    let plan = plan::plan(&cron_job, &jobs, zone, Timestamp::now());
    cluster.tell(COMPONENT, cron_job.as_ref(), plan.notices);
    for job in plan.deleted {
        delete(&cluster, &cron_job, &job).await?;
    }
    if let Some(job) = plan.created
        && !create(&cluster, &cron_job, job).await?
    {
        return Ok(Next::OnChange);
    }
    if let Some(status) = plan.status {
        perform(&cluster.client, Write::ReplaceStatus(status)).await?;
        // The new Job is among the active ones only after it is seen.
        return Ok(Next::After(std::time::Duration::ZERO));
    }
    Ok(plan.next)
}

async fn delete(cluster: &Cluster, cron_job: &CronJob, job: &Job) -> Result<(), Error> {
    let name = job.metadata.name.clone().unwrap_or_default();
    let write = Write::Delete {
        key: Key::of(job),
        uid: job.metadata.uid.clone().unwrap_or_default(),
        propagation: Propagation::Background,
    };
    perform::<Job>(&cluster.client, write).await?;
    let notice = Notice::normal("SuccessfulDelete", format!("Deleted job {name}"));
    cluster.recorder.record(COMPONENT, cron_job, notice);
    Ok(())
}

/// Says whether the Job exists now; a namespace that is going away takes none.
async fn create(cluster: &Cluster, cron_job: &CronJob, job: Job) -> Result<bool, Error> {
    let name = job.metadata.name.clone().unwrap_or_default();
    match perform(&cluster.client, Write::Create(job)).await {
        Ok(_) => {
            let notice = Notice::normal("SuccessfulCreate", format!("Created job {name}"));
            cluster.recorder.record(COMPONENT, cron_job, notice);
            Ok(true)
        }
        Err(error) if error.is_already_exists() => Ok(true),
        Err(error) if error.is_namespace_terminating() => Ok(false),
        Err(error) => {
            let message = format!("Error creating job: {}", error.message());
            cluster.recorder.record(
                COMPONENT,
                cron_job,
                Notice::warning("FailedCreate", message),
            );
            Err(error)
        }
    }
}
