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
