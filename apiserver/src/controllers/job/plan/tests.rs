//! What the plan says, by carrying it out on pods that end as told.

use serde_json::{Value, json};

use super::*;
use crate::controllers::job::count::without_finalizer;

struct World {
    job: Job,
    pods: Vec<Arc<Pod>>,
    now: Timestamp,
    made: usize,
    expired: bool,
}

impl World {
    fn new(spec: Value) -> World {
        let mut full = json!({"parallelism": 1, "completions": 1, "backoffLimit": 6,
            "template": {"metadata": {"labels": {"job-name": "j"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}});
        for (key, value) in spec.as_object().into_iter().flatten() {
            full[key] = value.clone();
        }
        let job = json!({"metadata": {"name": "j", "namespace": "ns", "uid": "j"}, "spec": full});
        World {
            job: serde_json::from_value(job).expect("a Job"),
            pods: Vec::new(),
            now: "2026-06-01T12:00:00Z".parse().expect("a time"),
            made: 0,
            expired: false,
        }
    }

    fn plan(&self) -> Plan {
        plan(&Snapshot {
            job: &self.job,
            spec: self.job.spec.as_ref().expect("a spec"),
            pods: &self.pods,
            now: self.now,
        })
    }

    fn step(&mut self) -> bool {
        let plan = self.plan();
        let idle = plan.status.is_none()
            && plan.released.is_empty()
            && plan.deleted.is_empty()
            && plan.created.is_empty();
        self.expired = plan.expired == Expired::Now;
        if let Some(job) = plan.status {
            self.job = job;
        }
        for pod in plan.released.iter().chain(&plan.deleted) {
            assert!(without_finalizer(pod).is_some());
            let held = self
                .pods
                .iter_mut()
                .find(|p| p.metadata.uid == pod.metadata.uid);
            Arc::make_mut(held.expect("the pod")).metadata.finalizers = None;
        }
        self.pods.retain(|pod| {
            !plan
                .deleted
                .iter()
                .any(|gone| gone.metadata.uid == pod.metadata.uid)
        });
        for mut pod in plan.created {
            self.made += 1;
            pod.metadata.uid = Some(format!("u{}", self.made));
            pod.metadata.name = pod.metadata.uid.clone();
            self.pods.push(Arc::new(pod));
        }
        !idle
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            if !self.step() {
                return;
            }
        }
        panic!("does not settle");
    }

    fn end(&mut self, phase: &str) {
        let now = Time(self.now);
        let active = self
            .pods
            .iter_mut()
            .find(|pod| pods::is_active(pod))
            .expect("an active pod");
        let status = json!({"phase": phase, "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": now}]});
        Arc::make_mut(active).status = serde_json::from_value(status).ok();
    }

    fn status(&self) -> JobStatus {
        self.job.status.clone().unwrap_or_default()
    }

    fn check(&self, active: i32, succeeded: i32, failed: i32, conditions: &[&str]) {
        let status = self.status();
        let counts =
            [status.active, status.succeeded, status.failed].map(|count| count.unwrap_or(0));
        assert_eq!(counts, [active, succeeded, failed]);
        let held = status
            .conditions
            .iter()
            .flatten()
            .filter(|c| c.status == "True");
        assert_eq!(
            held.map(|c| c.type_.clone()).collect::<Vec<_>>(),
            conditions
        );
    }
}

#[test]
fn pods_are_made_one_after_another_and_counted_once() {
    let mut world = World::new(json!({"completions": 2}));
    world.settle();
    world.check(1, 0, 0, &[]);
    world.end("Succeeded");
    world.settle();
    world.check(1, 1, 0, &[]);
    world.pods.retain(|pod| pods::is_active(pod));
    world.end("Succeeded");
    world.settle();
    world.check(0, 2, 0, &["SuccessCriteriaMet", "Complete"]);
    assert!(world.status().completion_time.is_some());
    assert!(world.pods.iter().all(|pod| !has_finalizer(pod)));
}

#[test]
fn the_status_holds_a_pods_end_before_its_finalizer_goes() {
    let mut world = World::new(json!({"completions": 2}));
    world.settle();
    world.end("Succeeded");
    let plan = world.plan();
    let status = plan.status.and_then(|job| job.status).expect("a status");
    let uncounted = status.uncounted_terminated_pods.and_then(|u| u.succeeded);
    assert_eq!(uncounted, Some(vec!["u1".to_owned()]));
    assert_eq!(status.succeeded, None);
    assert_eq!(plan.released.len(), 1);
}

#[test]
fn failures_are_retried_later_and_later_until_the_limit() {
    let mut world = World::new(json!({"backoffLimit": 1}));
    world.settle();
    world.end("Failed");
    world.settle();
    world.check(0, 0, 1, &[]);
    let Next::After(delay) = world.plan().next else {
        panic!("a delay must be set");
    };
    assert_eq!(delay, Duration::from_secs(10));
    world.now += SignedDuration::from_secs(10);
    world.settle();
    world.check(1, 0, 1, &[]);
    world.end("Failed");
    world.settle();
    world.check(0, 0, 2, &["FailureTarget", "Failed"]);
}

#[test]
fn parallelism_is_kept_and_followed() {
    let mut world = World::new(json!({"parallelism": 3, "completions": 5}));
    world.settle();
    world.check(3, 0, 0, &[]);
    world.job.spec.as_mut().expect("a spec").parallelism = Some(1);
    world.settle();
    world.check(1, 0, 0, &[]);
}

#[test]
fn a_suspended_job_has_no_pods_and_starts_over_when_resumed() {
    let mut world = World::new(json!({"suspend": true}));
    world.settle();
    world.check(0, 0, 0, &["Suspended"]);
    assert_eq!(world.status().start_time, None);
    world.job.spec.as_mut().expect("a spec").suspend = Some(false);
    world.settle();
    world.check(1, 0, 0, &[]);
    assert!(world.status().start_time.is_some());
    world.job.spec.as_mut().expect("a spec").suspend = Some(true);
    world.settle();
    world.check(0, 0, 0, &["Suspended"]);
}

#[test]
fn every_index_is_completed_once() {
    let mut world =
        World::new(json!({"completionMode": "Indexed", "completions": 3, "parallelism": 2}));
    world.settle();
    let indexes = |world: &World| -> Vec<i32> {
        world
            .pods
            .iter()
            .filter(|p| pods::is_active(p))
            .filter_map(|p| index::of(p))
            .collect()
    };
    assert_eq!(indexes(&world), [0, 1]);
    let spec = world.pods[1].spec.as_ref().expect("a spec");
    assert_eq!(spec.hostname.as_deref(), Some("j-1"));
    assert_eq!(
        spec.containers[0].env.as_ref().expect("variables")[0]
            .value
            .as_deref(),
        Some("1")
    );
    world.end("Succeeded");
    world.settle();
    assert_eq!(indexes(&world), [1, 2]);
    assert_eq!(world.status().completed_indexes.as_deref(), Some("0"));
    world.end("Succeeded");
    world.end("Succeeded");
    world.settle();
    world.check(0, 3, 0, &["SuccessCriteriaMet", "Complete"]);
    assert_eq!(world.status().completed_indexes.as_deref(), Some("0-2"));
}

#[test]
fn a_deadline_ends_the_job_and_its_pods() {
    let mut world = World::new(json!({"activeDeadlineSeconds": 30}));
    world.settle();
    assert_eq!(world.plan().next, Next::After(Duration::from_secs(30)));
    world.now += SignedDuration::from_secs(30);
    world.settle();
    world.check(0, 0, 0, &["FailureTarget", "Failed"]);
    assert!(world.pods.is_empty());
}

#[test]
fn a_finished_job_goes_when_its_time_is_over() {
    let mut world = World::new(json!({"ttlSecondsAfterFinished": 60}));
    world.settle();
    world.end("Succeeded");
    world.settle();
    assert_eq!(world.plan().next, Next::After(Duration::from_secs(60)));
    assert!(!world.expired);
    world.now += SignedDuration::from_secs(60);
    world.step();
    assert!(world.expired);
}

#[test]
fn a_deleted_pod_counts_as_failed() {
    let mut world = World::new(json!({}));
    world.settle();
    Arc::make_mut(&mut world.pods[0])
        .metadata
        .deletion_timestamp = Some(Time(world.now));
    world.settle();
    world.check(1, 0, 1, &[]);
}

/// A World whose pods' failures are judged by a policy.
fn judging(rules: Value) -> World {
    let rule = json!({"podFailurePolicy": {"rules": rules}, "podReplacementPolicy": "Failed"});
    World::new(rule)
}

impl World {
    /// Ends the first pod at work with an exit code.
    fn exit(&mut self, code: i32) {
        let now = Time(self.now);
        let active = self.pods.iter_mut().find(|pod| pods::is_active(pod));
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let status = json!({"phase": phase, "containerStatuses": [{
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "finishedAt": now}},
        }]});
        let active = Arc::make_mut(active.expect("an active pod"));
        active.status = serde_json::from_value(status).ok();
    }

    /// Lets a delay pass that the plan asks for.
    fn wait(&mut self) {
        let Next::After(delay) = self.plan().next else {
            panic!("a delay must be set");
        };
        self.now += SignedDuration::try_from(delay).expect("a short delay");
    }

    fn reason(&self, kind: &str) -> Option<String> {
        status::verdict(&self.status(), kind).map(|verdict| verdict.reason)
    }
}

#[test]
fn a_policy_fails_the_job_at_once_or_ignores_a_failure() {
    let rules = json!([
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}},
    ]);
    let mut world = judging(rules);
    world.settle();
    world.exit(7);
    world.settle();
    world.wait();
    world.settle();
    world.check(1, 0, 0, &[]);
    world.exit(42);
    world.settle();
    world.check(0, 0, 1, &["FailureTarget", "Failed"]);
    assert_eq!(world.reason(FAILED).as_deref(), Some("PodFailurePolicy"));
}

#[test]
fn each_index_has_its_own_backoff_and_limit() {
    let mut world = World::new(json!({
        "completionMode": "Indexed", "completions": 2, "parallelism": 2,
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 1,
    }));
    world.settle();
    world.exit(1);
    world.settle();
    world.check(1, 0, 0, &[]);
    let held = |world: &World| world.pods.iter().filter(|pod| has_finalizer(pod)).count();
    assert_eq!(held(&world), 2, "the failed pod carries the count");
    world.wait();
    world.settle();
    world.check(2, 0, 1, &[]);
    assert_eq!(held(&world), 2);
    let again = world
        .pods
        .iter()
        .find(|pod| pod.metadata.uid.as_deref() == Some("u3"));
    let annotations = again.and_then(|pod| pod.metadata.annotations.clone());
    let count = annotations.and_then(|a| {
        a.get("batch.kubernetes.io/job-index-failure-count")
            .cloned()
    });
    assert_eq!(count.as_deref(), Some("1"));
    world.pods.retain(|pod| pods::is_active(pod));
    world.exit(0);
    world.exit(1);
    world.settle();
    assert_eq!(world.status().failed_indexes.as_deref(), Some("0"));
    assert_eq!(world.status().completed_indexes.as_deref(), Some("1"));
    world.check(0, 1, 2, &["FailureTarget", "Failed"]);
    assert_eq!(world.reason(FAILED).as_deref(), Some("FailedIndexes"));
}

#[test]
fn too_many_failed_indexes_fail_the_job() {
    let mut world = World::new(json!({
        "completionMode": "Indexed", "completions": 3, "parallelism": 2,
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 0, "maxFailedIndexes": 1,
    }));
    world.settle();
    world.exit(1);
    world.settle();
    world.check(2, 0, 1, &[]);
    world.exit(1);
    world.settle();
    assert_eq!(
        world.reason(FAILED).as_deref(),
        Some("MaxFailedIndexesExceeded")
    );
    assert!(world.pods.iter().all(|pod| !has_finalizer(pod)));
}

#[test]
fn a_success_policy_ends_the_job_early() {
    let mut world = World::new(json!({
        "completionMode": "Indexed", "completions": 3, "parallelism": 3,
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
    }));
    world.settle();
    world.exit(0);
    world.settle();
    world.check(0, 1, 0, &["SuccessCriteriaMet", "Complete"]);
    assert_eq!(world.reason(COMPLETE).as_deref(), Some("SuccessPolicy"));
}
