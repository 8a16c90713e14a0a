//! The StatefulSet's status, and when an update counts as complete.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};

use super::identity::revision;
use super::plan::Snapshot;
use crate::controllers::pods::{self, Availability, availability};
use crate::controllers::write::Write;

/// Plans the status; `None` when it is right.
pub(super) fn plan(snapshot: &Snapshot<'_>) -> Option<Write<StatefulSet>> {
    let set = snapshot.set;
    let old = set.status.clone().unwrap_or_default();
    let (current_name, update_name) = (
        snapshot.revisions.current_name(),
        snapshot.revisions.update_name(),
    );
    let seconds = set.spec.min_ready_seconds.unwrap_or(0);
    let (mut replicas, mut ready, mut available, mut current, mut updated) = (0, 0, 0, 0, 0);
    for pod in &snapshot.pods {
        replicas += 1;
        let running = pods::phase(pod) == "Running" && pods::is_ready(pod);
        ready += i32::from(running);
        available += i32::from(
            running && availability(pod, seconds, snapshot.now) == Availability::Available,
        );
        if !pods::is_terminating(pod) {
            current += i32::from(revision(pod) == Some(current_name));
            updated += i32::from(revision(pod) == Some(update_name));
        }
    }
    let wanted = set.spec.replicas.unwrap_or(1);
    let mut current_revision = current_name;
    let complete = [updated, ready, replicas]
        .into_iter()
        .all(|count| count == wanted);
    if snapshot.is_rolling() && complete {
        current = updated;
        current_revision = update_name;
    }
    let positive = |count: i32| Some(count).filter(|count| *count > 0);
    let status = StatefulSetStatus {
        available_replicas: Some(available),
        collision_count: Some(old.collision_count.unwrap_or(0)),
        conditions: old.conditions,
        current_replicas: positive(current),
        current_revision: Some(current_revision.to_owned()),
        observed_generation: set.metadata.generation,
        ready_replicas: positive(ready),
        replicas,
        update_revision: Some(update_name.to_owned()),
        updated_replicas: positive(updated),
    };
    if set.status.as_ref() == Some(&status) {
        return None;
    }
    let mut changed = set.clone();
    changed.status = Some(status);
    Some(Write::ReplaceStatus(changed))
}
