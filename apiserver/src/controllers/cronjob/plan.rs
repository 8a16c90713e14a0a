//! The plan for one CronJob: whether a Job is due, which old ones go, and when to look again.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use knarr_api::cron::Schedule;

use super::zone;
use crate::controllers::claim::controller_reference;
use crate::controllers::event::Notice;
use crate::controllers::queue::Next;

const SCHEDULED_ANNOTATION: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Missed moments looked through; a clock that jumped by years must not stop the controller.
const MISSED_MAX: usize = 100;

pub(super) struct Plan {
    pub(super) created: Option<Job>,
    pub(super) deleted: Vec<Arc<Job>>,
    pub(super) status: Option<CronJob>,
    pub(super) notices: Vec<Notice>,
    pub(super) next: Next,
}

/// Plans one pass; `jobs` are those the CronJob controls, `zone` is the one its spec names.
pub(super) fn plan(
    cron_job: &CronJob,
    jobs: &[Arc<Job>],
    zone: Result<TimeZone, zone::Error>,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan {
        created: None,
        deleted: surplus(cron_job, jobs),
        status: None,
        notices: Vec::new(),
        next: Next::OnChange,
    };
    let old = cron_job.status.clone().unwrap_or_default();
    let mut status = followed(&old, jobs, &mut plan.notices);
    let spec = &cron_job.spec;
    let leaving = cron_job.metadata.deletion_timestamp.is_some();
    if !leaving && spec.suspend != Some(true) {
        match clock(cron_job, zone) {
            Ok((schedule, zone)) => run(cron_job, &schedule, &zone, &mut status, &mut plan, now),
            Err(notice) => plan.notices.push(notice),
        }
    }
    if status != old {
        let mut changed = cron_job.clone();
        changed.status = Some(status);
        plan.status = Some(changed);
    }
    plan
}

fn clock(
    cron_job: &CronJob,
    zone: Result<TimeZone, zone::Error>,
) -> Result<(Schedule, TimeZone), Notice> {
    let spec = &cron_job.spec;
    let schedule = Schedule::parse(&spec.schedule).map_err(|error| {
        Notice::warning(
            "UnparseableSchedule",
            format!("unparseable schedule: {:?} : {error}", spec.schedule),
        )
    })?;
    let zone = zone.map_err(|error| {
        let name = spec.time_zone.as_deref().unwrap_or_default();
        Notice::warning(
            "UnknownTimeZone",
            format!("invalid timeZone: {name:?}: {error}"),
        )
    })?;
    Ok((schedule, zone))
}

/// The moment to look again, and the Job that is due, if one is.
fn run(
    cron_job: &CronJob,
    schedule: &Schedule,
    zone: &TimeZone,
    status: &mut CronJobStatus,
    plan: &mut Plan,
    now: Timestamp,
) {
    let after = |time: Timestamp| {
        schedule
            .next(&time.to_zoned(zone.clone()))
            .map(|next| next.timestamp())
    };
    if let Some(next) = after(now) {
        let left = Duration::try_from(next.duration_since(now)).unwrap_or_default();
        plan.next = Next::After(left);
    }
    let spec = &cron_job.spec;
    let limit = spec
        .starting_deadline_seconds
        .map(SignedDuration::from_secs);
    let created = cron_job
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, |time| time.0);
    let mut earliest = status
        .last_schedule_time
        .as_ref()
        .map_or(created, |time| time.0);
    if let Some(limit) = limit {
        earliest = earliest.max(now - limit);
    }
    let mut due = None;
    let mut time = earliest;
    for missed in 0.. {
        let Some(next) = after(time).filter(|next| *next <= now && *next > time) else {
            break;
        };
        if missed == MISSED_MAX {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            plan.notices
                .push(Notice::warning("TooManyMissedTimes", message));
            due = last_before(&after, next, now);
            break;
        }
        due = Some(next);
        time = next;
    }
    let Some(due) = due else { return };
    let active = status
        .active
        .as_ref()
        .is_some_and(|active| !active.is_empty());
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if active => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.notices
                .push(Notice::normal("JobAlreadyActive", message));
            return;
        }
        Some("Replace") => {
            let running = status.active.take().unwrap_or_default();
            plan.deleted.extend(
                running
                    .iter()
                    .filter_map(|reference| job_of(reference, cron_job)),
            );
        }
        Some(_) | None => {}
    }
    plan.created = Some(job(cron_job, due, zone));
    status.last_schedule_time = Some(Time(due));
}

/// Halves the way to `now` until the last moment due is near.
fn last_before(
    after: &impl Fn(Timestamp) -> Option<Timestamp>,
    first: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let mut best = first;
    let mut reach = now.duration_since(first);
    while reach > SignedDuration::from_secs(1) {
        reach /= 2;
        if let Some(next) = after(now - reach).filter(|next| *next <= now) {
            best = best.max(next);
        }
    }
    Some(best)
}

/// A stand-in that names a running Job well enough to delete it.
fn job_of(reference: &ObjectReference, cron_job: &CronJob) -> Option<Arc<Job>> {
    Some(Arc::new(Job {
        metadata: ObjectMeta {
            name: Some(reference.name.clone()?),
            namespace: cron_job.metadata.namespace.clone(),
            uid: Some(reference.uid.clone()?),
            ..ObjectMeta::default()
        },
        ..Job::default()
    }))
}

fn job(cron_job: &CronJob, due: Timestamp, zone: &TimeZone) -> Job {
    let template = &cron_job.spec.job_template;
    let given = template.metadata.as_ref();
    let name = cron_job.metadata.name.as_deref().unwrap_or_default();
    let mut annotations = given
        .and_then(|meta| meta.annotations.clone())
        .unwrap_or_default();
    let moment = due.to_zoned(zone.clone());
    annotations.insert(SCHEDULED_ANNOTATION.to_owned(), rfc3339(&moment));
    Job {
        metadata: ObjectMeta {
            // The name is the same for the same moment, so that no moment gets two Jobs.
            name: Some(format!("{name}-{}", due.as_second() / 60)),
            namespace: cron_job.metadata.namespace.clone(),
            labels: given.and_then(|meta| meta.labels.clone()),
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(cron_job)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

fn rfc3339(moment: &jiff::Zoned) -> String {
    let format = if moment.offset().seconds() == 0 {
        "%Y-%m-%dT%H:%M:%SZ"
    } else {
        "%Y-%m-%dT%H:%M:%S%:z"
    };
    moment.strftime(format).to_string()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Complete,
    Failed,
}

fn ended(job: &Job) -> Option<Ended> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let held = |kind: &str| {
        conditions
            .iter()
            .any(|c| c.type_ == kind && c.status == "True")
    };
    if held("Complete") {
        Some(Ended::Complete)
    } else if held("Failed") {
        Some(Ended::Failed)
    } else {
        None
    }
}

/// The status as the Jobs have it.
fn followed(old: &CronJobStatus, jobs: &[Arc<Job>], notices: &mut Vec<Notice>) -> CronJobStatus {
    let mut status = old.clone();
    let was_active = |job: &Job| {
        old.active
            .iter()
            .flatten()
            .any(|reference| reference.uid == job.metadata.uid)
    };
    let mut active: Vec<ObjectReference> = Vec::new();
    for job in jobs {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        match ended(job) {
            None => active.push(reference(job)),
            Some(outcome) => {
                if was_active(job) {
                    let message = format!("Saw completed job: {name}, condition: {outcome:?}");
                    notices.push(Notice::normal("SawCompletedJob", message));
                }
                let completed = job
                    .status
                    .as_ref()
                    .and_then(|status| status.completion_time.clone());
                if outcome == Ended::Complete && completed > status.last_successful_time {
                    status.last_successful_time = completed;
                }
            }
        }
    }
    status.active = Some(active).filter(|active| !active.is_empty());
    status
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        namespace: job.metadata.namespace.clone(),
        name: job.metadata.name.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        field_path: None,
    }
}

/// Ended Jobs beyond the history limits, oldest first.
fn surplus(cron_job: &CronJob, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let spec = &cron_job.spec;
    let limits = [
        (
            Ended::Complete,
            spec.successful_jobs_history_limit.unwrap_or(3),
        ),
        (Ended::Failed, spec.failed_jobs_history_limit.unwrap_or(1)),
    ];
    let surplus = limits.into_iter().flat_map(|(outcome, limit)| {
        let mut ended: Vec<Arc<Job>> = jobs
            .iter()
            .filter(|job| ended(job) == Some(outcome))
            .cloned()
            .collect();
        ended.sort_by_key(|job| {
            job.status
                .as_ref()
                .and_then(|status| status.start_time.as_ref())
                .map(|time| time.0)
        });
        let count = ended
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(0));
        ended.truncate(count);
        ended
    });
    surplus.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cron_job(spec: Value, status: Value) -> CronJob {
        let mut full = json!({"schedule": "*/10 * * * *", "jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}}});
        for (key, value) in spec.as_object().into_iter().flatten() {
            full[key] = value.clone();
        }
        let cron_job = json!({"metadata": {"name": "c", "namespace": "ns", "uid": "c", "creationTimestamp": "2026-06-01T12:00:00Z"}, "spec": full, "status": status});
        serde_json::from_value(cron_job).expect("a CronJob")
    }

    fn job(name: &str, condition: Option<&str>, minute: u8) -> Arc<Job> {
        let conditions: Vec<Value> = condition
            .map(|kind| json!({"type": kind, "status": "True"}))
            .into_iter()
            .collect();
        let time = format!("2026-06-01T11:{minute:02}:00Z");
        let job = json!({"metadata": {"name": name, "namespace": "ns", "uid": name}, "status": {"startTime": time, "completionTime": time, "conditions": conditions}});
        Arc::new(serde_json::from_value(job).expect("a Job"))
    }

    fn check(cron_job: &CronJob, jobs: &[Arc<Job>], at: &str, expected: Value) {
        let now = format!("2026-06-01T{at}Z").parse().expect("a time");
        let zone = match cron_job.spec.time_zone.as_deref() {
            None => Ok(TimeZone::UTC),
            // Two hours ahead, as central Europe is in June.
            Some("Ahead") => Ok(TimeZone::fixed(jiff::tz::offset(2))),
            Some(name) => Err(zone::Error::Unknown(name.to_owned())),
        };
        let plan = plan(cron_job, jobs, zone, now);
        let names = |jobs: &[Arc<Job>]| -> Vec<String> {
            jobs.iter()
                .filter_map(|job| job.metadata.name.clone())
                .collect()
        };
        let created = plan.created.as_ref().and_then(|job| {
            job.metadata
                .annotations
                .as_ref()?
                .get(SCHEDULED_ANNOTATION)
                .cloned()
        });
        let next = match plan.next {
            Next::After(delay) => json!(delay.as_secs()),
            Next::OnChange => json!(null),
        };
        assert_eq!(
            json!({"created": created, "deleted": names(&plan.deleted), "next": next}),
            expected
        );
    }

    #[test]
    fn a_job_is_made_at_every_moment_named() {
        let fresh = cron_job(json!({}), json!({}));
        check(
            &fresh,
            &[],
            "12:09:00",
            json!({"created": null, "deleted": [], "next": 60}),
        );
        check(
            &fresh,
            &[],
            "12:10:00",
            json!({"created": "2026-06-01T12:10:00Z", "deleted": [], "next": 600}),
        );
        check(
            &fresh,
            &[],
            "12:35:00",
            json!({"created": "2026-06-01T12:30:00Z", "deleted": [], "next": 300}),
        );
        let seen = cron_job(
            json!({}),
            json!({"lastScheduleTime": "2026-06-01T12:30:00Z"}),
        );
        check(
            &seen,
            &[],
            "12:35:00",
            json!({"created": null, "deleted": [], "next": 300}),
        );
    }

    #[test]
    fn the_schedule_goes_by_its_time_zone() {
        let noon = |zone: Value| {
            cron_job(
                json!({"schedule": "0 18 * * *", "timeZone": zone}),
                json!({}),
            )
        };
        let hours = |hours: u64| hours * 60 * 60;
        let waits = |seconds: u64| json!({"created": null, "deleted": [], "next": seconds});
        check(&noon(json!(null)), &[], "13:00:00", waits(hours(5)));
        check(&noon(json!("Ahead")), &[], "13:00:00", waits(hours(3)));
        let nothing = json!({"created": null, "deleted": [], "next": null});
        check(&noon(json!("No/Where")), &[], "13:00:00", nothing);
    }

    #[test]
    fn suspension_deadlines_and_bad_schedules_start_nothing() {
        let nothing = json!({"created": null, "deleted": [], "next": null});
        check(
            &cron_job(json!({"suspend": true}), json!({})),
            &[],
            "12:30:00",
            nothing.clone(),
        );
        check(
            &cron_job(json!({"schedule": "x"}), json!({})),
            &[],
            "12:30:00",
            nothing,
        );
        let strict = cron_job(json!({"startingDeadlineSeconds": 60}), json!({}));
        check(
            &strict,
            &[],
            "12:35:00",
            json!({"created": null, "deleted": [], "next": 300}),
        );
        check(
            &strict,
            &[],
            "12:30:30",
            json!({"created": "2026-06-01T12:30:00Z", "deleted": [], "next": 570}),
        );
    }

    #[test]
    fn the_concurrency_policy_decides_about_running_jobs() {
        let running = [job("running", None, 0)];
        let with = |policy: &str| cron_job(json!({"concurrencyPolicy": policy}), json!({}));
        let made = |deleted: Value| json!({"created": "2026-06-01T12:10:00Z", "deleted": deleted, "next": 600});
        check(&with("Allow"), &running, "12:10:00", made(json!([])));
        check(
            &with("Replace"),
            &running,
            "12:10:00",
            made(json!(["running"])),
        );
        check(
            &with("Forbid"),
            &running,
            "12:10:00",
            json!({"created": null, "deleted": [], "next": 600}),
        );
    }

    #[test]
    fn old_ended_jobs_go_oldest_first() {
        let jobs = [
            job("s1", Some("Complete"), 1),
            job("s2", Some("Complete"), 2),
            job("f1", Some("Failed"), 1),
            job("f2", Some("Failed"), 2),
        ];
        let kept = cron_job(json!({"successfulJobsHistoryLimit": 1}), json!({}));
        check(
            &kept,
            &jobs,
            "12:05:00",
            json!({"created": null, "deleted": ["s1", "f1"], "next": 300}),
        );
    }

    #[test]
    fn the_status_follows_the_jobs() {
        let before = json!({"active": [{"uid": "done", "name": "done"}]});
        let now = "2026-06-01T12:05:00Z".parse().expect("a time");
        let plan = plan(
            &cron_job(json!({}), before),
            &[job("done", Some("Complete"), 1), job("going", None, 2)],
            Ok(TimeZone::UTC),
            now,
        );
        let status = plan
            .status
            .and_then(|cron_job| cron_job.status)
            .expect("a status");
        let active: Vec<_> = status
            .active
            .iter()
            .flatten()
            .filter_map(|reference| reference.name.clone())
            .collect();
        assert_eq!(active, ["going"]);
        assert!(status.last_successful_time.is_some());
        assert_eq!(
            plan.notices[0].message,
            "Saw completed job: done, condition: Complete"
        );
    }
}
