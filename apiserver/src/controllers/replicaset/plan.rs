//! The plan for one ReplicaSet: which pods to make or remove, and what its status is.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::rank::deletion_order;
use crate::controllers::claim::{Claim, claim, is_controlled_by};
use crate::controllers::pods::{self, Availability};
use crate::controllers::queue::Next;
use crate::controllers::replicas::PodWrites;
use crate::controllers::selector;
use crate::controllers::template;
use crate::controllers::write::Write;

/// Pods made or removed in one pass.
const BURST_MAX: usize = 500;

/// Everything one ReplicaSet's plan looks at.
pub(super) struct Snapshot<'a> {
    pub(super) set: &'a ReplicaSet,
    /// Every pod that it controls or may select.
    pub(super) pods: Vec<Arc<Pod>>,
    /// Pods of all sets with the same owner.
    pub(super) related: Vec<Arc<Pod>>,
    pub(super) now: Timestamp,
}

impl Snapshot<'_> {
    fn claim(&self) -> Claim<Pod> {
        let active = self.pods.iter().filter(|pod| pods::is_active(pod)).cloned();
        claim(self.set, &self.set.spec.selector, active.collect())
    }
}

/// Plans the pod writes.
pub(super) fn plan_pods(snapshot: &Snapshot<'_>) -> PodWrites {
    let (spec, claim) = (&snapshot.set.spec, snapshot.claim());
    let mut writes = PodWrites {
        patched: claim.writes(snapshot.set),
        ..PodWrites::default()
    };
    if snapshot.set.metadata.deletion_timestamp.is_some() {
        return writes;
    }
    let mine: Vec<Arc<Pod>> = claim.owned.into_iter().chain(claim.adopted).collect();
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    if mine.len() < wanted {
        let missing = (wanted - mine.len()).min(BURST_MAX);
        if let Some(template) = &spec.template {
            writes.created = vec![template::pod(snapshot.set, template); missing];
        }
    } else if mine.len() > wanted {
        let surplus = (mine.len() - wanted).min(BURST_MAX);
        let mut order = deletion_order(mine, &snapshot.related, snapshot.now);
        order.truncate(surplus);
        writes.deleted = order;
    }
    writes
}

/// Plans the status, `failed` being reason and message of a pod write that failed.
pub(super) fn plan_status(
    snapshot: &Snapshot<'_>,
    failed: Option<(&'static str, String)>,
) -> (Option<Write<ReplicaSet>>, Next) {
    let set = snapshot.set;
    let (spec, claim) = (&set.spec, snapshot.claim());
    let labels = spec
        .template
        .as_ref()
        .and_then(|t| t.metadata.as_ref()?.labels.as_ref());
    let min_ready_seconds = spec.min_ready_seconds.unwrap_or(0);
    let (mut ready, mut available, mut fully_labeled) = (0, 0, 0);
    let mut soonest: Option<Duration> = None;
    for pod in &claim.owned {
        ready += i32::from(pods::is_ready(pod));
        fully_labeled += i32::from(
            labels.is_none_or(|l| selector::pairs_match(l, pod.metadata.labels.as_ref())),
        );
        match pods::availability(pod, min_ready_seconds, snapshot.now) {
            Availability::Available => available += 1,
            Availability::In(delay) => soonest = Some(soonest.map_or(delay, |d| d.min(delay))),
            Availability::Unavailable => {}
        }
    }
    let leaving = snapshot.pods.iter().filter(|pod| {
        pods::is_terminating(pod)
            && !pods::is_terminal(pod)
            && is_controlled_by(&pod.metadata, set)
            && selector::matches(&spec.selector, pod.metadata.labels.as_ref())
    });
    let old = set.status.clone().unwrap_or_default();
    let status = ReplicaSetStatus {
        replicas: i32::try_from(claim.owned.len()).unwrap_or(i32::MAX),
        fully_labeled_replicas: Some(fully_labeled).filter(|count| *count > 0),
        ready_replicas: Some(ready).filter(|count| *count > 0),
        available_replicas: Some(available).filter(|count| *count > 0),
        terminating_replicas: Some(i32::try_from(leaving.count()).unwrap_or(i32::MAX)),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions, failed, snapshot.now),
    };
    let next = soonest.map_or(Next::OnChange, Next::After);
    if set.status.as_ref() == Some(&status) {
        return (None, next);
    }
    let mut updated = set.clone();
    updated.status = Some(status);
    (Some(Write::ReplaceStatus(updated)), next)
}

fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    failed: Option<(&'static str, String)>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.unwrap_or_default();
    let known = conditions
        .iter()
        .any(|c| c.type_.as_deref() == Some("ReplicaFailure"));
    match failed {
        Some((reason, message)) if !known => conditions.push(ReplicaSetCondition {
            type_: Some("ReplicaFailure".to_owned()),
            status: Some("True".to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        }),
        Some(_) => {}
        None => conditions.retain(|c| c.type_.as_deref() != Some("ReplicaFailure")),
    }
    Some(conditions).filter(|conditions| !conditions.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-06-01T12:00:00Z".parse().expect("a time")
    }

    fn set(replicas: i32, extra: serde_json::Value) -> ReplicaSet {
        let mut set = json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "me", "generation": 3},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}}},
        });
        for (key, value) in extra.as_object().into_iter().flatten() {
            set["spec"][key] = value.clone();
        }
        serde_json::from_value(set).expect("a ReplicaSet")
    }

    fn pod(name: &str, extra: serde_json::Value) -> Arc<Pod> {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "me", "controller": true}]);
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}, "ownerReferences": owner,
                "creationTimestamp": "2026-06-01T11:00:00Z"},
            "spec": {"nodeName": "a", "containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-06-01T11:59:55Z"}]},
        });
        for (pointer, value) in extra.as_object().into_iter().flatten() {
            *pod.pointer_mut(pointer).expect("a field") = value.clone();
        }
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn snapshot<'a>(set: &'a ReplicaSet, pods: &[Arc<Pod>]) -> Snapshot<'a> {
        Snapshot {
            set,
            pods: pods.to_vec(),
            related: pods.to_vec(),
            now: now(),
        }
    }

    fn check(
        set: &ReplicaSet,
        pods: &[Arc<Pod>],
        created: usize,
        deleted: &[&str],
        patched: usize,
    ) {
        let writes = plan_pods(&snapshot(set, pods));
        assert_eq!(writes.created.len(), created);
        let names: Vec<&str> = writes
            .deleted
            .iter()
            .filter_map(|p| p.metadata.name.as_deref())
            .collect();
        assert_eq!(names, deleted);
        assert_eq!(writes.patched.len(), patched);
    }

    #[test]
    fn missing_pods_are_made_and_surplus_ones_removed() {
        let ready = pod("a", json!({}));
        let pending = pod(
            "b",
            json!({"/spec/nodeName": "", "/status/phase": "Pending"}),
        );
        let pods = [ready, pending];
        check(&set(2, json!({})), &pods, 0, &[], 0);
        check(&set(5, json!({})), &pods, 3, &[], 0);
        check(&set(1, json!({})), &pods, 0, &["b"], 0);
        check(&set(0, json!({})), &pods, 0, &["b", "a"], 0);
    }

    #[test]
    fn ended_and_leaving_pods_do_not_count() {
        let done = pod("done", json!({"/status/phase": "Failed"}));
        let mut leaving = (*pod("leaving", json!({}))).clone();
        leaving.metadata.deletion_timestamp = Some(Time(now()));
        let pods = [done, Arc::new(leaving)];
        check(&set(1, json!({})), &pods, 1, &[], 0);
        let web = set(1, json!({}));
        let (status, _) = plan_status(&snapshot(&web, &pods), None);
        let Some(Write::ReplaceStatus(updated)) = status else {
            panic!("a status");
        };
        let status = updated.status.expect("a status");
        assert_eq!((status.replicas, status.terminating_replicas), (0, Some(1)));
    }

    #[test]
    fn orphans_are_adopted_before_pods_are_made() {
        let orphan = pod("o", json!({"/metadata/ownerReferences": []}));
        let strayed = pod("s", json!({"/metadata/labels": {"app": "debug"}}));
        check(&set(2, json!({})), &[orphan, strayed], 1, &[], 2);
    }

    #[test]
    fn pods_become_available_after_min_ready_seconds() {
        let pods = [pod("a", json!({}))];
        let patient = set(1, json!({"minReadySeconds": 30}));
        let (status, next) = plan_status(&snapshot(&patient, &pods), None);
        assert_eq!(next, Next::After(Duration::from_secs(25)));
        let Some(Write::ReplaceStatus(updated)) = status else {
            panic!("a status");
        };
        let status = updated.status.clone().expect("a status");
        assert_eq!(
            (status.ready_replicas, status.available_replicas),
            (Some(1), None)
        );
        let (again, _) = plan_status(&snapshot(&updated, &pods), None);
        assert_eq!(again, None, "planning again must change nothing");
    }

    #[test]
    fn a_failed_write_shows_as_a_condition_until_one_succeeds() {
        let web = set(1, json!({}));
        let failed = Some(("FailedCreate", "quota".to_owned()));
        let (Some(Write::ReplaceStatus(updated)), _) = plan_status(&snapshot(&web, &[]), failed)
        else {
            panic!("a status");
        };
        let conditions = |set: &ReplicaSet| {
            set.status
                .as_ref()
                .and_then(|s| s.conditions.clone())
                .unwrap_or_default()
        };
        assert_eq!(
            conditions(&updated)[0].reason.as_deref(),
            Some("FailedCreate")
        );
        let (Some(Write::ReplaceStatus(cleared)), _) = plan_status(&snapshot(&updated, &[]), None)
        else {
            panic!("a status");
        };
        assert!(conditions(&cleared).is_empty());
    }
}
