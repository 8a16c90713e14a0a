//! Failures counted for each index of a Job with `backoffLimitPerIndex`.
//!
//! A replacement carries the count of failures before it; until there is one, the failed pod is held, so that nobody can delete the count.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::Pod;

use super::index;
use super::policy::{Consequence, consequence};
use crate::controllers::pods;

const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// Failures of an index: those that count, and those that its policy ignores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Failures {
    pub(super) counted: i32,
    pub(super) ignored: i32,
}

impl Failures {
    /// Those before `pod`.
    fn before(pod: &Pod) -> Failures {
        let number = |key: &str| {
            let annotations = pod.metadata.annotations.as_ref();
            let text = annotations.and_then(|annotations| annotations.get(key));
            text.and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        Failures {
            counted: number(FAILURES),
            ignored: number(IGNORED_FAILURES),
        }
    }

    fn all(self) -> i32 {
        self.counted.saturating_add(self.ignored)
    }

    pub(super) fn annotate(self, pod: &mut Pod) {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(FAILURES.to_owned(), self.counted.to_string());
        if self.ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_owned(), self.ignored.to_string());
        }
    }
}

/// Whether a pod's failure is the end of its index.
pub(super) fn ends_index(spec: &JobSpec, pod: &Pod) -> bool {
    let Some(limit) = spec.backoff_limit_per_index else {
        return false;
    };
    match consequence(spec, pod) {
        Consequence::IndexFailed => true,
        Consequence::Ignored => false,
        Consequence::Counted | Consequence::JobFailed(_) => Failures::before(pod).counted >= limit,
    }
}

/// The latest failed pod of each index.
pub(super) fn last_failed(pods: &[Arc<Pod>]) -> BTreeMap<i32, &Arc<Pod>> {
    let mut last: BTreeMap<i32, &Arc<Pod>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pods::phase(pod) == "Failed") {
        let Some(index) = index::of(pod) else {
            continue;
        };
        let known = last.entry(index).or_insert(pod);
        if Failures::before(pod).all() >= Failures::before(known).all() {
            *known = pod;
        }
    }
    last
}

/// What the replacement of a failed pod carries, and the time it has to wait for.
pub(super) fn replacement(
    spec: &JobSpec,
    failed: &Pod,
    now: Timestamp,
    delay: impl Fn(u32) -> SignedDuration,
) -> (Failures, Option<SignedDuration>) {
    let mut failures = Failures::before(failed);
    match consequence(spec, failed) {
        Consequence::Ignored => failures.ignored += 1,
        Consequence::Counted | Consequence::IndexFailed | Consequence::JobFailed(_) => {
            failures.counted += 1;
        }
    }
    let count = u32::try_from(failures.all()).unwrap_or(u32::MAX);
    let since = pods::ended(failed).map_or(SignedDuration::ZERO, |end| now.duration_since(end));
    let left = delay(count) - since;
    (failures, left.is_positive().then_some(left))
}
