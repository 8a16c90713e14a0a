//! The plan for one StatefulSet: the next pods to make, replace or remove.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::identity::{corrected, ordinal, pod, revision};
use crate::controllers::history::template_of;
use crate::controllers::pods::{self, Availability, availability};
use crate::controllers::queue::Next;
use crate::controllers::write::Write;

/// The two templates a set may have pods of at a time.
pub(super) struct Revisions {
    current: (String, PodTemplateSpec),
    update: (String, PodTemplateSpec),
}

impl Revisions {
    /// `current` is what the status names, as far as it still exists.
    pub(super) fn new(
        set: &StatefulSet,
        update: &ControllerRevision,
        current: Option<&ControllerRevision>,
    ) -> Revisions {
        let pair = |revision: &ControllerRevision| {
            let template = template_of(revision).unwrap_or_else(|| set.spec.template.clone());
            (revision.metadata.name.clone().unwrap_or_default(), template)
        };
        Revisions {
            current: pair(current.unwrap_or(update)),
            update: pair(update),
        }
    }

    pub(super) fn current_name(&self) -> &str {
        &self.current.0
    }

    pub(super) fn update_name(&self) -> &str {
        &self.update.0
    }
}

/// Everything one StatefulSet's plan looks at.
pub(super) struct Snapshot<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) revisions: &'a Revisions,
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) now: Timestamp,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) writes: Vec<Write<Pod>>,
    pub(super) next: Next,
}

impl Snapshot<'_> {
    /// The ordinals the set should have.
    pub(super) fn ordinals(&self) -> std::ops::Range<i32> {
        let start = self
            .set
            .spec
            .ordinals
            .as_ref()
            .and_then(|ordinals| ordinals.start)
            .unwrap_or(0);
        start..start.saturating_add(self.set.spec.replicas.unwrap_or(1).max(0))
    }

    pub(super) fn by_ordinal(&self) -> BTreeMap<i32, &Arc<Pod>> {
        let numbered = self
            .pods
            .iter()
            .filter_map(|pod| Some((ordinal(self.set, pod)?, pod)));
        numbered.collect()
    }

    pub(super) fn is_rolling(&self) -> bool {
        let strategy = self.set.spec.update_strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
    }

    fn is_parallel(&self) -> bool {
        self.set.spec.pod_management_policy.as_deref() == Some("Parallel")
    }

    /// Pods with ordinals below keep the current revision.
    fn partition(&self) -> i32 {
        let strategy = self.set.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        self.ordinals().start + rolling.and_then(|rolling| rolling.partition).unwrap_or(0)
    }

    /// How many pods an update may take at once.
    fn unavailable_max(&self) -> usize {
        let strategy = self.set.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let max = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let replicas = usize::try_from(self.set.spec.replicas.unwrap_or(1)).unwrap_or(0);
        match max {
            None => 1,
            Some(IntOrString::Int(count)) => usize::try_from(*count).unwrap_or(1),
            Some(IntOrString::String(text)) => {
                let percent = text.strip_suffix('%').and_then(|text| text.parse().ok());
                percent.unwrap_or(0_usize).saturating_mul(replicas) / 100
            }
        }
        .max(1)
    }

    fn made(&self, ordinal: i32) -> Pod {
        let (name, template) = if self.is_rolling() && ordinal < self.partition() {
            &self.revisions.current
        } else {
            &self.revisions.update
        };
        pod(self.set, ordinal, template, name)
    }

    fn availability(&self, pod: &Pod) -> Availability {
        let seconds = self.set.spec.min_ready_seconds.unwrap_or(0);
        availability(pod, seconds, self.now)
    }
}

fn is_running_and_ready(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::is_ready(pod)
}

/// Plans what can be done now; everything else waits for pods to come or go.
pub(super) fn plan(snapshot: &Snapshot<'_>) -> Step {
    let mut step = Step {
        writes: Vec::new(),
        next: Next::OnChange,
    };
    if snapshot.set.metadata.deletion_timestamp.is_some() {
        return step;
    }
    let filled = fill(snapshot, &mut step);
    if filled == Progress::Blocked {
        return step;
    }
    if shrink(snapshot, &mut step) == Progress::Blocked {
        return step;
    }
    if filled == Progress::Done && snapshot.is_rolling() {
        roll(snapshot, &mut step);
    }
    step
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing left to do here.
    Done,
    /// Something was done, and the set need not wait for it.
    Begun,
    /// The set has to wait.
    Blocked,
}

/// Makes the pods that are missing or ended.
fn fill(snapshot: &Snapshot<'_>, step: &mut Step) -> Progress {
    let by_ordinal = snapshot.by_ordinal();
    let mut progress = Progress::Done;
    for ordinal in snapshot.ordinals() {
        let waits = match by_ordinal.get(&ordinal) {
            None => {
                step.writes.push(Write::Create(snapshot.made(ordinal)));
                progress = Progress::Begun;
                true
            }
            Some(pod) if pods::is_terminating(pod) => true,
            Some(pod) if pods::is_terminal(pod) => {
                step.writes.push(Write::delete(pod.as_ref()));
                progress = Progress::Begun;
                true
            }
            Some(pod) => {
                step.writes.extend(corrected(pod, ordinal));
                !is_running_and_ready(pod) || !is_available(snapshot, pod, step)
            }
        };
        if waits && !snapshot.is_parallel() {
            return Progress::Blocked;
        }
    }
    progress
}

fn is_available(snapshot: &Snapshot<'_>, pod: &Pod, step: &mut Step) -> bool {
    match snapshot.availability(pod) {
        Availability::Available => true,
        Availability::Unavailable => false,
        Availability::In(delay) => {
            step.next = match step.next {
                Next::After(earlier) => Next::After(earlier.min(delay)),
                Next::OnChange => Next::After(delay.max(Duration::from_millis(1))),
            };
            false
        }
    }
}

/// Removes pods beyond the wanted ones, the highest ordinal first.
fn shrink(snapshot: &Snapshot<'_>, step: &mut Step) -> Progress {
    let ordinals = snapshot.ordinals();
    let by_ordinal = snapshot.by_ordinal();
    let condemned: Vec<&Arc<Pod>> = by_ordinal
        .iter()
        .rev()
        .filter(|(ordinal, _)| !ordinals.contains(ordinal))
        .map(|(_, pod)| *pod)
        .collect();
    // An unhealthy pod of lower ordinal holds up the removal of higher ones, but not its own.
    let unhealthy = condemned
        .iter()
        .rev()
        .find(|pod| !is_running_and_ready(pod) || pods::is_terminating(pod));
    for pod in &condemned {
        if pods::is_terminating(pod) {
            if snapshot.is_parallel() {
                continue;
            }
            return Progress::Blocked;
        }
        let is_first_unhealthy =
            unhealthy.is_some_and(|first| first.metadata.uid == pod.metadata.uid);
        if !snapshot.is_parallel() && !is_running_and_ready(pod) && !is_first_unhealthy {
            return Progress::Blocked;
        }
        step.writes.push(Write::delete(pod.as_ref()));
        if !snapshot.is_parallel() {
            return Progress::Blocked;
        }
    }
    Progress::Done
}

/// Replaces pods of an old revision, the highest ordinal first.
fn roll(snapshot: &Snapshot<'_>, step: &mut Step) {
    match snapshot.unavailable_max() {
        ..=1 => roll_one(snapshot, step),
        max => roll_several(snapshot, step, max),
    }
}

/// Replaces as many at once as may be unavailable, those that are so already included.
fn roll_several(snapshot: &Snapshot<'_>, step: &mut Step, unavailable_max: usize) {
    let by_ordinal = snapshot.by_ordinal();
    let first = snapshot.partition();
    let mut healthy = Vec::new();
    let mut unavailable = 0;
    for ordinal in snapshot.ordinals().rev() {
        let Some(pod) = by_ordinal.get(&ordinal) else {
            unavailable += 1;
            continue;
        };
        let is_healthy = !pods::is_terminating(pod)
            && is_running_and_ready(pod)
            && is_available(snapshot, pod, step);
        let is_old = revision(pod) != Some(snapshot.revisions.update_name()) && ordinal >= first;
        unavailable += usize::from(!is_healthy);
        match (is_old, is_healthy) {
            (true, true) => healthy.push(pod),
            (true, false) if !pods::is_terminating(pod) => {
                step.writes.push(Write::delete(pod.as_ref()));
            }
            (true | false, _) => {}
        }
    }
    let room = unavailable_max.saturating_sub(unavailable);
    let replaced = healthy.into_iter().take(room);
    step.writes
        .extend(replaced.map(|pod| Write::delete(pod.as_ref())));
}

fn roll_one(snapshot: &Snapshot<'_>, step: &mut Step) {
    let by_ordinal = snapshot.by_ordinal();
    let first = snapshot.partition();
    for ordinal in snapshot
        .ordinals()
        .rev()
        .take_while(|ordinal| *ordinal >= first)
    {
        let Some(pod) = by_ordinal.get(&ordinal) else {
            return;
        };
        if revision(pod) != Some(snapshot.revisions.update_name()) && !pods::is_terminating(pod) {
            step.writes.push(Write::delete(pod.as_ref()));
            return;
        }
        if pods::is_terminating(pod)
            || !is_running_and_ready(pod)
            || !is_available(snapshot, pod, step)
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
