//! The plan for one Job: what its pods add up to, and which to make or remove.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::count::{Counts, FINALIZER, count, has_finalizer, is_indexed};
use super::per_index::{self, Failures};
use super::status::{self, COMPLETE, FAILED, FAILURE, SUCCESS, SUSPENDED, Verdict};
use super::{index, policy};
use crate::controllers::event::Notice;
use crate::controllers::pods;
use crate::controllers::queue::Next;
use crate::controllers::template;

const BACKOFF_FIRST: SignedDuration = SignedDuration::from_secs(10);
const BACKOFF_MAX: SignedDuration = SignedDuration::from_mins(10);
const BURST_MAX: usize = 500;
const BACKOFF_LIMIT: &str = "BackoffLimitExceeded";
/// The other reasons a Job fails for.
const FAILURE_REASONS: [&str; 4] = [
    "DeadlineExceeded",
    "PodFailurePolicy",
    "FailedIndexes",
    "MaxFailedIndexesExceeded",
];
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// Everything one Job's plan looks at.
pub(super) struct Snapshot<'a> {
    pub(super) job: &'a Job,
    pub(super) spec: &'a JobSpec,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) now: Timestamp,
}

/// Whether the Job outlived its time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    Now,
    No,
}

pub(super) struct Plan {
    pub(super) status: Option<Job>,
    /// Pods that need not be held any longer once the status is written.
    pub(super) released: Vec<Arc<Pod>>,
    pub(super) deleted: Vec<Arc<Pod>>,
    pub(super) created: Vec<Pod>,
    pub(super) expired: Expired,
    pub(super) notices: Vec<Notice>,
    pub(super) next: Next,
}

/// Plans one pass.
pub(super) fn plan(snapshot: &Snapshot<'_>) -> Plan {
    let mut plan = Plan {
        status: None,
        released: Vec::new(),
        deleted: Vec::new(),
        created: Vec::new(),
        expired: Expired::No,
        notices: Vec::new(),
        next: Next::OnChange,
    };
    let old = snapshot.job.status.clone().unwrap_or_default();
    if snapshot.job.metadata.deletion_timestamp.is_some() {
        plan.released = held(snapshot.pods);
        return plan;
    }
    if let Some(end) = status::finished(&old) {
        plan.released = held(snapshot.pods);
        live_on(snapshot, end, &mut plan);
        return plan;
    }
    let counts = count(snapshot.spec, &old, snapshot.pods);
    let mut new = old.clone();
    start(snapshot, &mut new, &mut plan);
    let verdict = judge(snapshot, &counts, &mut new);
    match &verdict {
        Some(_) => {
            plan.deleted.clone_from(&counts.active);
            plan.released.clone_from(&counts.awaiting_replacement);
        }
        None if snapshot.spec.suspend == Some(true) => plan.deleted.clone_from(&counts.active),
        None => size(snapshot, &counts, &mut plan),
    }
    write_counts(snapshot, &counts, &plan, &mut new);
    conclude(&counts, verdict, &mut new, &mut plan, snapshot.now);
    plan.released.extend(counts.released);
    if new != old {
        let mut job = snapshot.job.clone();
        job.status = Some(new);
        plan.status = Some(job);
    }
    plan
}

fn held(pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    pods.iter()
        .filter(|pod| has_finalizer(pod))
        .cloned()
        .collect()
}

fn live_on(snapshot: &Snapshot<'_>, end: Timestamp, plan: &mut Plan) {
    let Some(seconds) = snapshot.spec.ttl_seconds_after_finished else {
        return;
    };
    let left = SignedDuration::from_secs(seconds.into()) - snapshot.now.duration_since(end);
    if left.is_positive() {
        plan.next = Next::After(Duration::try_from(left).unwrap_or_default());
    } else {
        plan.expired = Expired::Now;
    }
}

/// Starts, suspends or resumes the clock.
fn start(snapshot: &Snapshot<'_>, new: &mut JobStatus, plan: &mut Plan) {
    let now = snapshot.now;
    if snapshot.spec.suspend == Some(true) {
        let verdict = Verdict::new("JobSuspended", "Job suspended");
        if status::set(new, SUSPENDED, "True", &verdict, now) {
            plan.notices
                .push(Notice::normal("Suspended", "Job suspended"));
        }
        return;
    }
    if status::verdict(new, SUSPENDED).is_some() {
        let verdict = Verdict::new("JobResumed", "Job resumed");
        status::set(new, SUSPENDED, "False", &verdict, now);
        plan.notices.push(Notice::normal("Resumed", "Job resumed"));
        new.start_time = Some(Time(now));
    }
    if new.start_time.is_none() {
        new.start_time = Some(Time(now));
    }
}

#[derive(Clone, Debug)]
enum Outcome {
    Complete(Verdict),
    Failed(Verdict),
}

/// Says whether the Job's fate is settled.
fn judge(snapshot: &Snapshot<'_>, counts: &Counts, status: &mut JobStatus) -> Option<Outcome> {
    if let Some(verdict) = status::verdict(status, SUCCESS) {
        return Some(Outcome::Complete(verdict));
    }
    if let Some(verdict) = status::verdict(status, FAILURE) {
        return Some(Outcome::Failed(verdict));
    }
    let spec = snapshot.spec;
    if let Some(why) = &counts.job_failure {
        return Some(Outcome::Failed(Verdict::new("PodFailurePolicy", why)));
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    if counts.failed > limit || restarts_exceed(spec, &counts.active, limit) {
        let message = "Job has reached the specified backoff limit";
        return Some(Outcome::Failed(Verdict::new(BACKOFF_LIMIT, message)));
    }
    if time_left(snapshot, status).is_some_and(|left| !left.is_positive()) {
        let message = "Job was active longer than specified deadline";
        return Some(Outcome::Failed(Verdict::new("DeadlineExceeded", message)));
    }
    if spec.suspend == Some(true) {
        return None;
    }
    if let Some(outcome) = judge_indexes(spec, counts) {
        return Some(outcome);
    }
    let complete = match spec.completions {
        None => counts.succeeded > 0 && counts.active.is_empty() && counts.terminating == 0,
        Some(completions) => counts.succeeded >= completions,
    };
    let message = "Reached expected number of succeeded pods";
    complete.then(|| Outcome::Complete(Verdict::new("CompletionsReached", message)))
}

/// What the indexes that succeeded and failed come to.
fn judge_indexes(spec: &JobSpec, counts: &Counts) -> Option<Outcome> {
    let failed = i32::try_from(counts.failed_indexes.len()).unwrap_or(i32::MAX);
    if spec.max_failed_indexes.is_some_and(|max| failed > max) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        let verdict = Verdict::new("MaxFailedIndexesExceeded", message);
        return Some(Outcome::Failed(verdict));
    }
    if is_indexed(spec)
        && let Some(message) = policy::success(spec, &counts.completed_indexes)
    {
        return Some(Outcome::Complete(Verdict::new("SuccessPolicy", message)));
    }
    let ended = counts.succeeded.saturating_add(failed);
    let over = failed > 0
        && spec
            .completions
            .is_some_and(|completions| ended >= completions);
    over.then(|| Outcome::Failed(Verdict::new("FailedIndexes", "Job has failed indexes")))
}

fn restarts_exceed(spec: &JobSpec, active: &[Arc<Pod>], limit: i32) -> bool {
    let policy = spec
        .template
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let statuses = active.iter().filter_map(|pod| pod.status.as_ref());
    let restarts: i32 = statuses
        .flat_map(|status| {
            status
                .container_statuses
                .iter()
                .flatten()
                .chain(status.init_container_statuses.iter().flatten())
        })
        .map(|container| container.restart_count)
        .sum();
    if limit == 0 {
        restarts > 0
    } else {
        restarts >= limit
    }
}

fn time_left(snapshot: &Snapshot<'_>, status: &JobStatus) -> Option<SignedDuration> {
    if snapshot.spec.suspend == Some(true) {
        return None;
    }
    let limit = SignedDuration::from_secs(snapshot.spec.active_deadline_seconds?);
    let started = status.start_time.as_ref()?.0;
    Some(limit - snapshot.now.duration_since(started))
}

/// Makes and removes pods until as many are at work as should be.
fn size(snapshot: &Snapshot<'_>, counts: &Counts, plan: &mut Plan) {
    let spec = snapshot.spec;
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let active = i32::try_from(counts.active.len()).unwrap_or(i32::MAX);
    let wanted = match spec.completions {
        None if counts.succeeded > 0 => active.min(parallelism),
        None => parallelism,
        Some(completions) => {
            let failed = i32::try_from(counts.failed_indexes.len()).unwrap_or(i32::MAX);
            parallelism.min((completions - counts.succeeded - failed).max(0))
        }
    };
    let deadline = snapshot
        .job
        .status
        .as_ref()
        .and_then(|status| time_left(snapshot, status));
    if let Some(left) = deadline {
        plan.next = Next::After(Duration::try_from(left).unwrap_or_default());
    }
    if active > wanted {
        let surplus = usize::try_from(active - wanted).unwrap_or(0);
        let mut order = counts.active.clone();
        order.sort_by_key(|pod| {
            (
                pods::is_ready(pod),
                std::cmp::Reverse(pod.metadata.creation_timestamp.as_ref().map(|t| t.0)),
            )
        });
        plan.deleted.extend(order.into_iter().take(surplus));
        return;
    }
    let replaced_late = spec.pod_replacement_policy.as_deref() == Some("Failed");
    let taken = active + if replaced_late { counts.terminating } else { 0 };
    let missing = usize::try_from(wanted - taken).unwrap_or(0).min(BURST_MAX);
    if missing == 0 {
        return;
    }
    if spec.backoff_limit_per_index.is_none()
        && let Some(left) = backoff(snapshot)
    {
        wait_at_most(plan, left);
        return;
    }
    if is_indexed(spec) {
        create_indexed(snapshot, counts, missing, plan);
    } else {
        plan.created = vec![pod(snapshot); missing];
    }
}

fn wait_at_most(plan: &mut Plan, left: Duration) {
    plan.next = match plan.next {
        Next::After(sooner) => Next::After(sooner.min(left)),
        Next::OnChange => Next::After(left),
    };
}

/// Makes pods for the first indexes that nobody works on and that need not wait.
fn create_indexed(snapshot: &Snapshot<'_>, counts: &Counts, missing: usize, plan: &mut Plan) {
    let spec = snapshot.spec;
    let working = counts.active.iter().filter_map(|pod| index::of(pod));
    let mut taken: BTreeSet<i32> = working.collect();
    taken.extend(&counts.completed_indexes);
    taken.extend(&counts.failed_indexes);
    let last_failed = match spec.backoff_limit_per_index {
        Some(_) => per_index::last_failed(snapshot.pods),
        None => BTreeMap::new(),
    };
    for index in (0..spec.completions.unwrap_or(0)).filter(|index| !taken.contains(index)) {
        if plan.created.len() == missing {
            return;
        }
        let mut failures = Failures::default();
        if let Some(failed) = last_failed.get(&index) {
            let left;
            (failures, left) = per_index::replacement(spec, failed, snapshot.now, delay);
            if let Some(left) = left {
                wait_at_most(plan, Duration::try_from(left).unwrap_or_default());
                continue;
            }
        }
        let mut pod = indexed_pod(snapshot, index);
        if spec.backoff_limit_per_index.is_some() {
            failures.annotate(&mut pod);
        }
        plan.created.push(pod);
    }
}

/// How long after the last of so many failures in a row the next pod is made.
fn delay(failures: u32) -> SignedDuration {
    const DOUBLINGS_MAX: u32 = 10;
    let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
    BACKOFF_FIRST
        .saturating_mul(1 << doublings)
        .min(BACKOFF_MAX)
}

/// How long to wait before replacing pods that failed one after another.
fn backoff(snapshot: &Snapshot<'_>) -> Option<Duration> {
    let with_phase = |phase: &'static str| {
        snapshot
            .pods
            .iter()
            .filter(move |pod| pods::phase(pod) == phase)
    };
    let last_success = with_phase("Succeeded")
        .filter_map(|pod| pods::ended(pod))
        .max();
    let failures: Vec<Timestamp> = with_phase("Failed")
        .filter_map(|pod| pods::ended(pod))
        .filter(|end| Some(*end) > last_success)
        .collect();
    let last = failures.iter().max()?;
    let delay = delay(u32::try_from(failures.len()).unwrap_or(u32::MAX));
    let left = delay - snapshot.now.duration_since(*last);
    left.is_positive()
        .then(|| Duration::try_from(left).unwrap_or_default())
}

fn pod(snapshot: &Snapshot<'_>) -> Pod {
    let mut pod = template::pod(snapshot.job, &snapshot.spec.template);
    pod.metadata
        .finalizers
        .get_or_insert_default()
        .push(FINALIZER.to_owned());
    pod
}

fn indexed_pod(snapshot: &Snapshot<'_>, index: i32) -> Pod {
    let mut pod = pod(snapshot);
    let name = format!(
        "{}-{index}",
        snapshot.job.metadata.name.as_deref().unwrap_or_default()
    );
    pod.metadata.generate_name = Some(format!("{name}-"));
    for map in [&mut pod.metadata.annotations, &mut pod.metadata.labels] {
        map.get_or_insert_default()
            .insert(index::ANNOTATION.to_owned(), index.to_string());
    }
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    let containers = spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten());
    for container in containers {
        let variables = container.env.get_or_insert_default();
        if !variables
            .iter()
            .any(|variable| variable.name == INDEX_VARIABLE)
        {
            variables.push(EnvVar {
                name: INDEX_VARIABLE.to_owned(),
                value: Some(index.to_string()),
                value_from: None,
            });
        }
    }
    pod
}

fn write_counts(snapshot: &Snapshot<'_>, counts: &Counts, plan: &Plan, new: &mut JobStatus) {
    let positive = |count: i32| Some(count).filter(|count| *count > 0);
    let changed = i32::try_from(counts.active.len() + plan.created.len()).unwrap_or(i32::MAX)
        - i32::try_from(plan.deleted.len()).unwrap_or(0);
    new.active = positive(changed);
    new.ready = Some(counts.ready);
    new.terminating = Some(counts.terminating);
    new.succeeded = positive(counts.counted_succeeded);
    new.failed = positive(counts.counted_failed);
    new.uncounted_terminated_pods = Some(counts.uncounted.clone());
    if is_indexed(snapshot.spec) {
        new.completed_indexes =
            Some(index::format(&counts.completed_indexes)).filter(|text| !text.is_empty());
    }
    if snapshot.spec.backoff_limit_per_index.is_some() {
        new.failed_indexes = Some(index::format(&counts.failed_indexes));
    }
}

/// Says first what the Job comes to, and that it is over once its last pod is.
fn conclude(
    counts: &Counts,
    verdict: Option<Outcome>,
    new: &mut JobStatus,
    plan: &mut Plan,
    now: Timestamp,
) {
    let over = counts.active.is_empty()
        && counts.terminating == 0
        && counts.released.is_empty()
        && counts.uncounted.succeeded.is_none()
        && counts.uncounted.failed.is_none();
    match verdict {
        None => {}
        Some(Outcome::Complete(verdict)) => {
            status::set(new, SUCCESS, "True", &verdict, now);
            if over {
                status::set(new, COMPLETE, "True", &verdict, now);
                new.completion_time = Some(Time(now));
                plan.notices
                    .push(Notice::normal("Completed", "Job completed"));
            }
        }
        Some(Outcome::Failed(verdict)) => {
            status::set(new, FAILURE, "True", &verdict, now);
            if over && status::set(new, FAILED, "True", &verdict, now) {
                let known = FAILURE_REASONS.into_iter();
                let reason = known.chain([BACKOFF_LIMIT]).find(|r| *r == verdict.reason);
                let reason = reason.unwrap_or(BACKOFF_LIMIT);
                plan.notices.push(Notice::warning(reason, verdict.message));
            }
        }
    }
}

#[cfg(test)]
mod tests;
