//! Counting pods: those at work, those that ended, and those whose end the status does not hold yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::policy::{Consequence, consequence};
use super::{index, per_index};
use crate::controllers::pods;
use crate::controllers::write::Write;

pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";

pub(super) fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER)
}

/// The patch that lets go of a pod, if it is held.
pub(super) fn without_finalizer(pod: &Pod) -> Option<Write<Pod>> {
    if !has_finalizer(pod) {
        return None;
    }
    let finalizers = pod.metadata.finalizers.iter().flatten();
    let others: Vec<&String> = finalizers
        .filter(|finalizer| *finalizer != FINALIZER)
        .collect();
    let others = Some(others).filter(|others| !others.is_empty());
    let patch = json!({"metadata": {"finalizers": others, "resourceVersion": pod.metadata.resource_version}});
    Some(Write::merge(pod, patch))
}

pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// A deleted pod that did not succeed has failed, unless replacements wait for the phase to say so.
fn has_failed(spec: &JobSpec, pod: &Pod) -> bool {
    let waits_for_phase = spec.pod_replacement_policy.as_deref() == Some("Failed");
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => pods::is_terminating(pod) && !waits_for_phase,
    }
}

/// All that a Job's plan needs to know of its pods.
pub(super) struct Counts {
    pub(super) active: Vec<Arc<Pod>>,
    pub(super) ready: i32,
    pub(super) terminating: i32,
    /// Counted or about to be.
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    pub(super) completed_indexes: BTreeSet<i32>,
    /// Indexes that will not be tried again.
    pub(super) failed_indexes: BTreeSet<i32>,
    /// Why the Job has failed, where the failure of a pod says so.
    pub(super) job_failure: Option<String>,
    /// What the status is to hold before their finalizers go.
    pub(super) uncounted: UncountedTerminatedPods,
    /// Counted for good: those whose finalizers are gone.
    pub(super) counted_succeeded: i32,
    pub(super) counted_failed: i32,
    /// Pods whose end the status holds.
    pub(super) released: Vec<Arc<Pod>>,
    /// The same, but held until their replacements carry their count of failures.
    pub(super) awaiting_replacement: Vec<Arc<Pod>>,
}

/// Counts `pods` on top of what `status` holds.
pub(super) fn count(spec: &JobSpec, status: &JobStatus, pods: &[Arc<Pod>]) -> Counts {
    let completions = spec.completions.unwrap_or(0);
    let mut counts = Counts {
        active: Vec::new(),
        ready: 0,
        terminating: 0,
        succeeded: 0,
        failed: 0,
        completed_indexes: index::parse(
            status.completed_indexes.as_deref().unwrap_or_default(),
            completions,
        ),
        failed_indexes: index::parse(
            status.failed_indexes.as_deref().unwrap_or_default(),
            completions,
        ),
        job_failure: None,
        uncounted: UncountedTerminatedPods::default(),
        counted_succeeded: status.succeeded.unwrap_or(0),
        counted_failed: status.failed.unwrap_or(0),
        released: Vec::new(),
        awaiting_replacement: Vec::new(),
    };
    let held: BTreeSet<&str> = pods
        .iter()
        .filter(|pod| has_finalizer(pod))
        .filter_map(|pod| pod.metadata.uid.as_deref())
        .collect();
    let noted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let (mut succeeded, gone) = split(noted.succeeded, &held);
    if !is_indexed(spec) {
        counts.counted_succeeded += gone;
    }
    let (mut failed, gone) = split(noted.failed, &held);
    counts.counted_failed += gone;
    for pod in pods {
        counts.look(spec, pod, &mut succeeded, &mut failed);
    }
    if spec.backoff_limit_per_index.is_some() {
        counts.hold_unreplaced(pods);
    }
    if is_indexed(spec) {
        counts.counted_succeeded =
            i32::try_from(counts.completed_indexes.len()).unwrap_or(i32::MAX);
        counts.succeeded = counts.counted_succeeded;
    } else {
        counts.succeeded =
            counts.counted_succeeded + i32::try_from(succeeded.len()).unwrap_or(i32::MAX);
    }
    counts.failed = counts.counted_failed + i32::try_from(failed.len()).unwrap_or(i32::MAX);
    counts.uncounted = UncountedTerminatedPods {
        succeeded: Some(succeeded).filter(|uids| !uids.is_empty()),
        failed: Some(failed).filter(|uids| !uids.is_empty()),
    };
    counts
}

impl Counts {
    fn look(
        &mut self,
        spec: &JobSpec,
        pod: &Arc<Pod>,
        succeeded: &mut Vec<String>,
        failed: &mut Vec<String>,
    ) {
        if pods::is_active(pod) {
            self.active.push(Arc::clone(pod));
            self.ready += i32::from(pods::is_ready(pod));
        } else if !pods::is_terminal(pod) {
            self.terminating += 1;
        }
        if !has_finalizer(pod) {
            return;
        }
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let list = if pods::phase(pod) == "Succeeded" {
            if let Some(index) = index::of(pod).filter(|_| is_indexed(spec)) {
                self.completed_indexes.insert(index);
            }
            succeeded
        } else if has_failed(spec, pod) {
            if per_index::ends_index(spec, pod) {
                self.failed_indexes.extend(index::of(pod));
            }
            match consequence(spec, pod) {
                Consequence::Ignored => {
                    self.released.push(Arc::clone(pod));
                    return;
                }
                Consequence::JobFailed(why) => {
                    self.job_failure.get_or_insert(why);
                }
                Consequence::Counted | Consequence::IndexFailed => {}
            }
            failed
        } else {
            return;
        };
        if !list.contains(&uid) {
            list.push(uid);
        }
        self.released.push(Arc::clone(pod));
    }
}

impl Counts {
    /// Of each index that is to be tried again, the last failed pod stays until the next one is there.
    fn hold_unreplaced(&mut self, pods: &[Arc<Pod>]) {
        let working: BTreeSet<i32> = self
            .active
            .iter()
            .filter_map(|pod| index::of(pod))
            .collect();
        let last = per_index::last_failed(pods);
        let is_awaiting = |pod: &Arc<Pod>| {
            let index = index::of(pod);
            index.is_some_and(|index| {
                last.get(&index).is_some_and(|last| Arc::ptr_eq(last, pod))
                    && !working.contains(&index)
                    && !self.failed_indexes.contains(&index)
                    && !self.completed_indexes.contains(&index)
            })
        };
        let (held, released) = std::mem::take(&mut self.released)
            .into_iter()
            .partition(is_awaiting);
        (self.awaiting_replacement, self.released) = (held, released);
    }
}

/// The uids still held by their finalizer, and the number of those that are not.
fn split(uids: Option<Vec<String>>, held: &BTreeSet<&str>) -> (Vec<String>, i32) {
    let (held, gone): (Vec<String>, Vec<String>) = uids
        .unwrap_or_default()
        .into_iter()
        .partition(|uid| held.contains(uid.as_str()));
    (held, i32::try_from(gone.len()).unwrap_or(i32::MAX))
}
