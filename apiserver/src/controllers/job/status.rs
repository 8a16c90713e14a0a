//! A Job's conditions.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(super) const SUCCESS: &str = "SuccessCriteriaMet";
pub(super) const COMPLETE: &str = "Complete";
pub(super) const FAILURE: &str = "FailureTarget";
pub(super) const FAILED: &str = "Failed";
pub(super) const SUSPENDED: &str = "Suspended";

/// A condition that holds, or no longer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) reason: String,
    pub(super) message: String,
}

impl Verdict {
    pub(super) fn new(reason: &str, message: impl Into<String>) -> Verdict {
        Verdict {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

pub(super) fn get<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == kind)
}

/// The verdict of a condition that is true.
pub(super) fn verdict(status: &JobStatus, kind: &str) -> Option<Verdict> {
    let condition = get(status, kind).filter(|condition| condition.status == "True")?;
    Some(Verdict {
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    })
}

/// When the Job ended, if it did.
pub(super) fn finished(status: &JobStatus) -> Option<Timestamp> {
    let ended = |kind| get(status, kind).filter(|condition| condition.status == "True");
    let condition = ended(COMPLETE).or_else(|| ended(FAILED))?;
    condition.last_transition_time.as_ref().map(|time| time.0)
}

/// Sets a condition; says whether that was news.
pub(super) fn set(
    status: &mut JobStatus,
    kind: &str,
    value: &str,
    verdict: &Verdict,
    now: Timestamp,
) -> bool {
    if get(status, kind).is_some_and(|condition| condition.status == value) {
        return false;
    }
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != kind);
    conditions.push(JobCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(verdict.reason.clone()),
        message: Some(verdict.message.clone()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    });
    true
}
