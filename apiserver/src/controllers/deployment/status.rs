//! The Deployment's status: counts, conditions, and whether it moves.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::draft::{Draft, Member};
use crate::controllers::event::Notice;
use crate::controllers::queue::Next;

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const DONE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

fn get<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_.as_deref() == Some(kind))
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_.as_deref() != Some(kind));
    }
    status.conditions = status
        .conditions
        .take()
        .filter(|conditions| !conditions.is_empty());
}

/// Sets a condition; the same status for the same reason is no news.
fn set(
    status: &mut DeploymentStatus,
    kind: &str,
    value: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let current = get(status, kind);
    if current
        .is_some_and(|c| c.status.as_deref() == Some(value) && c.reason.as_deref() == Some(reason))
    {
        return;
    }
    let since = current
        .filter(|c| c.status.as_deref() == Some(value))
        .and_then(|c| c.last_transition_time.clone());
    remove(status, kind);
    status
        .conditions
        .get_or_insert_default()
        .push(DeploymentCondition {
            type_: Some(kind.to_owned()),
            status: Some(value.to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_update_time: Some(Time(now)),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        });
}

fn positive(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count > 0)
}

fn sum(
    members: &[Member],
    count: impl Fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> Option<i32>,
) -> i32 {
    let statuses = members
        .iter()
        .filter_map(|member| member.set.status.as_ref());
    statuses.filter_map(count).sum()
}

impl Draft<'_> {
    fn has_deadline(&self) -> bool {
        self.spec
            .progress_deadline_seconds
            .is_some_and(|seconds| seconds != i32::MAX)
    }

    fn condition_message(&self, text: &str) -> String {
        match self.current() {
            Some(current) => format!("ReplicaSet \"{}\" {text}", current.name()),
            None => {
                let name = self.deployment.metadata.name.as_deref().unwrap_or_default();
                format!("Deployment \"{name}\" {text}")
            }
        }
    }

    /// Notes that the Deployment was paused or resumed, which stops and restarts the progress clock.
    pub(super) fn note_pause(&mut self, now: Timestamp) {
        if !self.has_deadline() {
            return;
        }
        let paused = self.spec.paused == Some(true);
        let status = self.deployment.status.get_or_insert_default();
        let reason = get(status, PROGRESSING).and_then(|c| c.reason.clone());
        match reason.as_deref() {
            Some(TIMED_OUT) => {}
            Some("DeploymentPaused") if !paused => {
                let message = "Deployment is resumed".to_owned();
                set(
                    status,
                    PROGRESSING,
                    "Unknown",
                    "DeploymentResumed",
                    message,
                    now,
                );
            }
            Some("DeploymentPaused") => {}
            Some(_) | None if paused => {
                let message = "Deployment is paused".to_owned();
                set(
                    status,
                    PROGRESSING,
                    "Unknown",
                    "DeploymentPaused",
                    message,
                    now,
                );
            }
            Some(_) | None => {}
        }
    }

    /// Notes that the current set was found or made.
    pub(super) fn note_current(&mut self, now: Timestamp) {
        let Some(current) = self.current() else {
            return;
        };
        if !self.has_deadline() {
            return;
        }
        let name = current.name().to_owned();
        let created = current.origin.is_none();
        let status = self.deployment.status.get_or_insert_default();
        if created {
            let message = format!("Created new replica set \"{name}\"");
            set(
                status,
                PROGRESSING,
                "True",
                "NewReplicaSetCreated",
                message,
                now,
            );
        } else if get(status, PROGRESSING).is_none() {
            let message = format!("Found new replica set \"{name}\"");
            set(
                status,
                PROGRESSING,
                "True",
                "FoundNewReplicaSet",
                message,
                now,
            );
        }
    }

    /// Counts and availability, with the other conditions kept.
    pub(super) fn counted(&self, now: Timestamp) -> DeploymentStatus {
        let old = self.deployment.status.clone().unwrap_or_default();
        let available = self.total_available();
        let wanted = self.wanted();
        let updated = self
            .current()
            .and_then(|m| m.set.status.as_ref())
            .map_or(0, |s| s.replicas);
        let terminating = sum(&self.sets, |status| status.terminating_replicas);
        let mut status = DeploymentStatus {
            available_replicas: positive(available),
            collision_count: old.collision_count,
            conditions: old.conditions,
            observed_generation: self.deployment.metadata.generation,
            ready_replicas: positive(sum(&self.sets, |status| status.ready_replicas)),
            replicas: positive(sum(&self.sets, |status| Some(status.replicas))),
            terminating_replicas: Some(terminating),
            unavailable_replicas: positive(self.total_replicas() - available),
            updated_replicas: positive(updated),
        };
        if available >= wanted - self.bounds().unavailable {
            let message = "Deployment has minimum availability.".to_owned();
            set(
                &mut status,
                AVAILABLE,
                "True",
                "MinimumReplicasAvailable",
                message,
                now,
            );
        } else {
            let message = "Deployment does not have minimum availability.".to_owned();
            set(
                &mut status,
                AVAILABLE,
                "False",
                "MinimumReplicasUnavailable",
                message,
                now,
            );
        }
        status
    }

    /// The status of a Deployment that rolls: counts, progress and failures.
    pub(super) fn progressed(&self, now: Timestamp) -> DeploymentStatus {
        let mut status = self.counted(now);
        if self.has_deadline() {
            self.set_progress(&mut status, now);
        } else {
            remove(&mut status, PROGRESSING);
        }
        let current = self.current().into_iter();
        let failure = current.chain(self.old()).find_map(|member| {
            let conditions = member.set.status.as_ref()?.conditions.as_ref()?;
            conditions
                .iter()
                .find(|condition| condition.type_.as_deref() == Some(REPLICA_FAILURE))
        });
        match failure {
            Some(failure) => {
                let value = failure.status.as_deref().unwrap_or("True");
                let reason = failure.reason.clone().unwrap_or_default();
                let message = failure.message.clone().unwrap_or_default();
                set(&mut status, REPLICA_FAILURE, value, &reason, message, now);
            }
            None => remove(&mut status, REPLICA_FAILURE),
        }
        status
    }

    fn set_progress(&self, status: &mut DeploymentStatus, now: Timestamp) {
        let current = get(status, PROGRESSING).cloned();
        let was_done = current
            .as_ref()
            .is_some_and(|c| c.reason.as_deref() == Some(DONE));
        if was_done && status.replicas == status.updated_replicas {
            return;
        }
        if self.is_complete(status) {
            let message = self.condition_message("has successfully progressed.");
            set(status, PROGRESSING, "True", DONE, message, now);
        } else if self.is_moving(status) {
            let message = self.condition_message("is progressing.");
            let since = current
                .filter(|c| c.status.as_deref() == Some("True"))
                .and_then(|c| c.last_transition_time);
            remove(status, PROGRESSING);
            status
                .conditions
                .get_or_insert_default()
                .push(DeploymentCondition {
                    type_: Some(PROGRESSING.to_owned()),
                    status: Some("True".to_owned()),
                    reason: Some("ReplicaSetUpdated".to_owned()),
                    message: Some(message),
                    last_update_time: Some(Time(now)),
                    last_transition_time: Some(since.unwrap_or(Time(now))),
                });
        } else if self
            .time_left(status, now)
            .is_some_and(|left| left.is_negative() || left.is_zero())
        {
            let message = self.condition_message("has timed out progressing.");
            set(status, PROGRESSING, "False", TIMED_OUT, message, now);
        }
    }

    pub(super) fn is_complete(&self, status: &DeploymentStatus) -> bool {
        let wanted = Some(self.wanted()).filter(|count| *count > 0);
        status.updated_replicas == wanted
            && status.replicas == wanted
            && status.available_replicas == wanted
            && status.observed_generation >= self.deployment.metadata.generation
    }

    fn is_moving(&self, status: &DeploymentStatus) -> bool {
        let old = self.deployment.status.as_ref();
        let count = |read: fn(&DeploymentStatus) -> Option<i32>| {
            (read(status).unwrap_or(0), old.and_then(read).unwrap_or(0))
        };
        let (replicas, replicas_before) = count(|s| s.replicas);
        let (updated, updated_before) = count(|s| s.updated_replicas);
        let (ready, ready_before) = count(|s| s.ready_replicas);
        let (available, available_before) = count(|s| s.available_replicas);
        updated > updated_before
            || replicas - updated < replicas_before - updated_before
            || ready > ready_before
            || available > available_before
    }

    /// What is left of the progress deadline; `None` when no clock runs.
    fn time_left(&self, status: &DeploymentStatus, now: Timestamp) -> Option<SignedDuration> {
        let condition = get(status, PROGRESSING)?;
        if matches!(condition.reason.as_deref(), Some(DONE | TIMED_OUT)) {
            return None;
        }
        let deadline = self.spec.progress_deadline_seconds?;
        let started = condition.last_update_time.as_ref()?.0;
        Some(SignedDuration::from_secs(deadline.into()) - now.duration_since(started))
    }

    /// When to look again although nothing happens: at the end of the progress deadline.
    pub(super) fn next(&self, status: &DeploymentStatus, now: Timestamp) -> Next {
        if !self.has_deadline() || self.is_complete(status) || self.spec.paused == Some(true) {
            return Next::OnChange;
        }
        match self.time_left(status, now) {
            Some(left) => {
                let left = Duration::try_from(left).unwrap_or_default();
                // A second more, because condition times have whole seconds.
                Next::After(left + Duration::from_secs(1))
            }
            None => Next::OnChange,
        }
    }
}

/// The Deployment with one more hash collision, so that the next hash is another.
pub(super) fn with_collision(deployment: &Deployment) -> Deployment {
    let mut changed = deployment.clone();
    let status = changed.status.get_or_insert_default();
    status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
    changed
}

/// The Deployment saying that its new set could not be made.
pub(super) fn with_create_error(
    deployment: &Deployment,
    new: &ReplicaSet,
    error: &str,
    now: Timestamp,
) -> (Deployment, Notice) {
    let mut changed = deployment.clone();
    let name = new.metadata.name.as_deref().unwrap_or_default();
    let message = format!("Failed to create new replica set \"{name}\": {error}");
    let status = changed.status.get_or_insert_default();
    let reason = "ReplicaSetCreateError";
    set(status, PROGRESSING, "False", reason, message.clone(), now);
    (changed, Notice::warning(reason, message))
}
