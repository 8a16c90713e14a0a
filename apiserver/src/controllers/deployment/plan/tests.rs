//! What the plan says, by carrying it out step by step on sets whose pods answer at once, or do not.

use serde_json::{Value, json};

use super::*;
use crate::controllers::store::Key;

const START: &str = "2026-06-01T12:00:00Z";

/// A Deployment and its sets, as a server would keep them.
struct World {
    deployment: Deployment,
    sets: Vec<Arc<ReplicaSet>>,
    now: Timestamp,
    told: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Pods {
    Ready,
    Broken,
}

impl World {
    fn new(spec: Value) -> World {
        let mut full = json!({"replicas": 4, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "a:1"}]}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}});
        for (key, value) in spec.as_object().into_iter().flatten() {
            full[key] = value.clone();
        }
        let deployment = json!({"metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1}, "spec": full});
        World {
            deployment: serde_json::from_value(deployment).expect("a Deployment"),
            sets: Vec::new(),
            now: START.parse().expect("a time"),
            told: Vec::new(),
        }
    }

    fn plan(&self) -> Plan {
        plan(&Snapshot {
            deployment: &self.deployment,
            sets: &self.sets,
            pods: &[],
            now: self.now,
        })
    }

    /// Carries out one plan, then lets every set report what its pods do; says whether anything changed.
    fn step(&mut self, pods: Pods) -> bool {
        let Plan {
            created,
            written,
            status,
            notices,
            next: _,
        } = self.plan();
        let idle = created.is_none() && written.is_empty() && status.is_none();
        self.told
            .extend(notices.into_iter().map(|notice| notice.message));
        if let Some(mut set) = created {
            set.metadata.uid = set.metadata.name.clone();
            set.metadata.creation_timestamp = serde_json::from_value(json!(self.now)).ok();
            self.sets.push(Arc::new(set));
        }
        for write in written {
            match write {
                Write::Replace(set) => {
                    let place = self
                        .sets
                        .iter_mut()
                        .find(|s| s.metadata.name == set.metadata.name);
                    *place.expect("a set to replace") = Arc::new(set);
                }
                Write::Delete { key, .. } => self.sets.retain(|set| Key::of(set.as_ref()) != key),
                other => panic!("unexpected {other:?}"),
            }
        }
        if let Some(deployment) = status {
            self.deployment = deployment;
        }
        for set in &mut self.sets {
            let image_works = |set: &ReplicaSet| {
                let spec = set.spec.template.as_ref().and_then(|t| t.spec.as_ref());
                spec.is_some_and(|spec| spec.containers[0].image.as_deref() != Some("broken"))
            };
            let replicas = set.spec.replicas.unwrap_or(0);
            let works = pods == Pods::Ready && image_works(set);
            let old = set
                .status
                .as_ref()
                .and_then(|s| s.available_replicas)
                .unwrap_or(0);
            let available = if works { replicas } else { replicas.min(old) };
            let status = json!({"replicas": replicas, "readyReplicas": available, "availableReplicas": available, "observedGeneration": 1});
            Arc::make_mut(set).status = serde_json::from_value(status).ok();
        }
        self.now += jiff::SignedDuration::from_secs(1);
        !idle
    }

    fn settle(&mut self, pods: Pods) {
        self.step(pods);
        for _ in 0..50 {
            if !self.step(pods) {
                return;
            }
        }
        panic!("does not settle: {:?}", self.told);
    }

    fn change(&mut self, pointer: &str, value: Value) {
        let mut deployment = serde_json::to_value(&self.deployment).expect("JSON");
        *deployment.pointer_mut(pointer).expect("a field") = value;
        let generation = self.deployment.metadata.generation.unwrap_or(0) + 1;
        deployment["metadata"]["generation"] = generation.into();
        self.deployment = serde_json::from_value(deployment).expect("a Deployment");
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets
            .iter()
            .filter_map(|set| set.spec.replicas)
            .collect()
    }

    fn condition(&self, kind: &str) -> (String, String) {
        let conditions = self
            .deployment
            .status
            .as_ref()
            .and_then(|s| s.conditions.as_ref());
        let found = conditions
            .into_iter()
            .flatten()
            .find(|c| c.type_.as_deref() == Some(kind))
            .expect("the condition");
        (
            found.status.clone().unwrap_or_default(),
            found.reason.clone().unwrap_or_default(),
        )
    }

    fn revisions(&self) -> Vec<String> {
        let revision = |set: &Arc<ReplicaSet>| {
            set.metadata
                .annotations
                .as_ref()?
                .get(super::super::revision::REVISION_ANNOTATION)
                .cloned()
        };
        self.sets.iter().filter_map(revision).collect()
    }
}

const IMAGE: &str = "/spec/template/spec/containers/0/image";

#[test]
fn a_first_rollout_makes_one_set_and_completes() {
    let mut world = World::new(json!({}));
    world.step(Pods::Broken);
    world.step(Pods::Broken);
    assert_eq!(
        world.condition("Available"),
        ("False".into(), "MinimumReplicasUnavailable".into())
    );
    assert_eq!(
        world.condition("Progressing"),
        ("True".into(), "ReplicaSetUpdated".into())
    );
    world.settle(Pods::Ready);
    assert_eq!(world.sizes(), [4]);
    assert_eq!(
        world.condition("Available"),
        ("True".into(), "MinimumReplicasAvailable".into())
    );
    assert_eq!(
        world.condition("Progressing"),
        ("True".into(), "NewReplicaSetAvailable".into())
    );
    let name = world.sets[0].metadata.name.clone().expect("a name");
    assert_eq!(
        world.told,
        [format!("Scaled up replica set {name} from 0 to 4")]
    );
    assert_eq!(world.revisions(), ["1"]);
}

#[test]
fn a_rolling_update_stays_within_surge_and_unavailability() {
    let mut world = World::new(json!({}));
    world.settle(Pods::Ready);
    world.change(IMAGE, json!("a:2"));
    let mut seen = Vec::new();
    while world.step(Pods::Ready) {
        let total: i32 = world.sizes().iter().sum();
        let available: i32 = world
            .sets
            .iter()
            .filter_map(|s| s.status.as_ref()?.available_replicas)
            .sum();
        assert!(total <= 5 && available >= 3, "{:?}", world.sizes());
        seen.push(world.sizes());
    }
    assert_eq!(seen[0], [4, 1], "new pods come first");
    assert_eq!(world.sizes(), [0, 4]);
    assert_eq!(world.revisions(), ["1", "2"]);
}

#[test]
fn a_broken_update_stops_and_misses_its_deadline() {
    let mut world = World::new(json!({"progressDeadlineSeconds": 10}));
    world.settle(Pods::Ready);
    world.change(IMAGE, json!("broken"));
    for _ in 0..5 {
        world.step(Pods::Ready);
    }
    assert_eq!(world.sizes(), [3, 2]);
    let Next::After(delay) = world.plan().next else {
        panic!("a deadline must be set");
    };
    assert!((1..=11).contains(&delay.as_secs()), "{delay:?}");
    world.now += jiff::SignedDuration::from_secs(20);
    world.settle(Pods::Ready);
    assert_eq!(
        world.condition("Progressing"),
        ("False".into(), "ProgressDeadlineExceeded".into())
    );
    assert_eq!(
        world.condition("Available"),
        ("True".into(), "MinimumReplicasAvailable".into())
    );
}

#[test]
fn going_back_reuses_the_set_under_a_new_revision() {
    let mut world = World::new(json!({}));
    world.settle(Pods::Ready);
    world.change(IMAGE, json!("a:2"));
    world.settle(Pods::Ready);
    world.change(IMAGE, json!("a:1"));
    world.settle(Pods::Ready);
    assert_eq!(world.sizes(), [4, 0]);
    assert_eq!(world.revisions(), ["3", "2"]);
    let annotations = world.sets[0]
        .metadata
        .annotations
        .as_ref()
        .expect("annotations");
    assert_eq!(
        annotations["deployment.kubernetes.io/revision-history"],
        "1"
    );
    let own = world
        .deployment
        .metadata
        .annotations
        .as_ref()
        .expect("annotations");
    assert_eq!(own["deployment.kubernetes.io/revision"], "3");
}

#[test]
fn history_keeps_the_newest_empty_sets() {
    let mut world = World::new(json!({"revisionHistoryLimit": 1}));
    for image in ["a:1", "a:2", "a:3", "a:4"] {
        world.change(IMAGE, json!(image));
        world.settle(Pods::Ready);
    }
    assert_eq!(world.revisions(), ["3", "4"]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(json!({"paused": false}));
    world.settle(Pods::Ready);
    world.change("/spec/paused", json!(true));
    world.change(IMAGE, json!("a:2"));
    world.change("/spec/replicas", json!(6));
    world.settle(Pods::Ready);
    assert_eq!(world.sizes(), [6]);
    assert_eq!(
        world.condition("Progressing"),
        ("Unknown".into(), "DeploymentPaused".into())
    );
    world.change("/spec/paused", json!(false));
    world.settle(Pods::Ready);
    assert_eq!(world.sizes(), [0, 6]);
}

#[test]
fn a_resize_in_mid_roll_is_shared_in_proportion() {
    let mut world = World::new(
        json!({"replicas": 10, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}),
    );
    world.settle(Pods::Ready);
    world.change(IMAGE, json!("broken"));
    for _ in 0..5 {
        world.step(Pods::Ready);
    }
    assert_eq!(world.sizes(), [8, 5]);
    world.change("/spec/replicas", json!(15));
    world.step(Pods::Ready);
    assert_eq!(world.sizes(), [11, 7]);
}

#[test]
fn recreate_removes_all_old_pods_before_making_new_ones() {
    let mut world = World::new(json!({"strategy": {"type": "Recreate"}}));
    world.settle(Pods::Ready);
    world.change(IMAGE, json!("a:2"));
    let mut seen = vec![world.sizes()];
    while world.step(Pods::Ready) {
        seen.push(world.sizes());
    }
    seen.dedup();
    assert_eq!(seen, [vec![4], vec![0], vec![0, 4]]);
}

#[test]
fn an_empty_selector_is_refused() {
    let world = World::new(json!({"selector": {}}));
    let plan = world.plan();
    assert_eq!((plan.created, plan.written.len()), (None, 0));
    assert_eq!(plan.notices[0].reason, "SelectingAll");
}
