//! What the plan says, by carrying it out on pods that become ready when told.

use serde_json::{Value, json};

use super::*;
use crate::controllers::history::{self, Naming};
use crate::controllers::statefulset::status;

struct World {
    set: StatefulSet,
    known: Vec<Arc<ControllerRevision>>,
    pods: Vec<Arc<Pod>>,
}

impl World {
    fn new(spec: Value) -> World {
        let mut full = json!({"replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "a:1"}]}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}});
        for (key, value) in spec.as_object().into_iter().flatten() {
            full[key] = value.clone();
        }
        let set = json!({"metadata": {"name": "db", "namespace": "ns", "uid": "s", "generation": 1}, "spec": full});
        World {
            set: serde_json::from_value(set).expect("a StatefulSet"),
            known: Vec::new(),
            pods: Vec::new(),
        }
    }

    /// Carries out one plan and says what was done, as `+db-0` and `-db-0`.
    fn step(&mut self) -> Vec<String> {
        let naming = Naming {
            hash_label: "controller.kubernetes.io/hash",
            collision_count: None,
        };
        let update = history::current(&self.set, &self.set.spec.template, &self.known, &naming);
        self.known
            .retain(|revision| revision.metadata.name != update.revision.metadata.name);
        self.known.push(Arc::new(update.revision.clone()));
        let name = self
            .set
            .status
            .as_ref()
            .and_then(|status| status.current_revision.clone());
        let current = self
            .known
            .iter()
            .find(|revision| revision.metadata.name == name);
        let revisions = Revisions::new(&self.set, &update.revision, current.map(Arc::as_ref));
        let step = plan(&self.snapshot(&revisions));
        let mut done = Vec::new();
        for write in step.writes {
            match write {
                Write::Create(mut pod) => {
                    done.push(format!(
                        "+{}",
                        pod.metadata.name.clone().unwrap_or_default()
                    ));
                    pod.metadata.uid = pod.metadata.name.clone();
                    self.pods.push(Arc::new(pod));
                }
                Write::Delete { key, .. } => {
                    done.push(format!("-{}", key.name));
                    self.pods
                        .retain(|pod| pod.metadata.name.as_ref() != Some(&key.name));
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        if let Some(Write::ReplaceStatus(set)) = status::plan(&self.snapshot(&revisions)) {
            self.set = set;
        }
        done
    }

    fn snapshot<'a>(&'a self, revisions: &'a Revisions) -> Snapshot<'a> {
        Snapshot {
            set: &self.set,
            revisions,
            pods: self.pods.clone(),
            now: Timestamp::UNIX_EPOCH,
        }
    }

    fn all_ready(&mut self) {
        for pod in &mut self.pods {
            Arc::make_mut(pod).status = serde_json::from_value(
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
            )
            .ok();
        }
    }

    /// Steps until nothing more is done, every pod becoming ready at once.
    fn settle(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..50 {
            self.all_ready();
            let before = self.set.clone();
            let done = self.step();
            if done.is_empty() && before == self.set {
                return all;
            }
            all.extend(done);
        }
        panic!("does not settle: {all:?}");
    }

    fn change(&mut self, pointer: &str, value: Value) {
        let mut set = serde_json::to_value(&self.set).expect("JSON");
        *set.pointer_mut(pointer).expect("a field") = value;
        self.set = serde_json::from_value(set).expect("a StatefulSet");
    }

    fn images(&self) -> Vec<String> {
        let mut pods = self.pods.clone();
        pods.sort_by_key(|pod| pod.metadata.name.clone());
        pods.iter()
            .filter_map(|pod| pod.spec.as_ref()?.containers[0].image.clone())
            .collect()
    }
}

const IMAGE: &str = "/spec/template/spec/containers/0/image";

#[test]
fn ordered_pods_wait_for_their_predecessor() {
    let mut world = World::new(json!({}));
    assert_eq!(world.step(), ["+db-0"]);
    assert_eq!(world.step(), Vec::<String>::new());
    world.all_ready();
    assert_eq!(world.step(), ["+db-1"]);
    assert_eq!(world.settle(), ["+db-2"]);
    world.change("/spec/replicas", json!(1));
    assert_eq!(world.settle(), ["-db-2", "-db-1"]);
}

#[test]
fn parallel_pods_come_and_go_together() {
    let mut world = World::new(json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(world.step(), ["+db-0", "+db-1", "+db-2"]);
    world.change("/spec/replicas", json!(0));
    assert_eq!(world.step(), ["-db-2", "-db-1", "-db-0"]);
}

#[test]
fn pods_have_names_labels_and_hostnames_of_their_own() {
    let mut world = World::new(json!({"replicas": 1, "ordinals": {"start": 5}}));
    assert_eq!(world.settle(), ["+db-5"]);
    let pod = &world.pods[0];
    let spec = pod.spec.as_ref().expect("a spec");
    assert_eq!(
        (spec.hostname.as_deref(), spec.subdomain.as_deref()),
        (Some("db-5"), Some("db"))
    );
    let labels = pod.metadata.labels.as_ref().expect("labels");
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "db-5");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "5");
    let status = world.set.status.as_ref().expect("a status");
    assert_eq!(
        Some(&labels["controller-revision-hash"]),
        status.current_revision.as_ref()
    );
}

#[test]
fn a_claim_takes_the_place_of_a_volume_of_its_name() {
    let template = json!({"metadata": {"labels": {"app": "db"}}, "spec": {
        "containers": [{"name": "c", "image": "a:1"}],
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]}});
    let mut world = World::new(json!({"replicas": 1, "template": template,
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}));
    world.settle();
    let spec = world.pods[0].spec.as_ref().expect("a spec");
    assert_eq!(
        json!(spec.volumes),
        json!([
            {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}},
            {"name": "tmp", "emptyDir": {}},
        ])
    );
}

#[test]
fn an_update_goes_from_the_highest_ordinal_down() {
    let mut world = World::new(json!({}));
    world.settle();
    world.change(IMAGE, json!("a:2"));
    assert_eq!(
        world.settle(),
        ["-db-2", "+db-2", "-db-1", "+db-1", "-db-0", "+db-0"]
    );
    assert_eq!(world.images(), ["a:2", "a:2", "a:2"]);
    let status = world.set.status.as_ref().expect("a status");
    assert_eq!(status.current_revision, status.update_revision);
}

#[test]
fn the_partition_keeps_lower_ordinals_at_the_old_revision() {
    let mut world = World::new(
        json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}),
    );
    world.settle();
    world.change(IMAGE, json!("a:2"));
    assert_eq!(world.settle(), ["-db-2", "+db-2"]);
    world
        .pods
        .retain(|pod| pod.metadata.name.as_deref() != Some("db-0"));
    assert_eq!(world.settle(), ["+db-0"]);
    assert_eq!(world.images(), ["a:1", "a:1", "a:2"]);
}

#[test]
fn several_pods_are_replaced_at_once_where_that_is_allowed() {
    let rolling = |max: Value| {
        json!({"podManagementPolicy": "Parallel", "updateStrategy": {
        "type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": max, "partition": 1}}})
    };
    for max in [json!(2), json!("70%")] {
        let mut world = World::new(rolling(max));
        world.settle();
        world.all_ready();
        world.change(IMAGE, json!("a:2"));
        assert_eq!(world.step(), ["-db-2", "-db-1"]);
        assert_eq!(world.settle(), ["+db-1", "+db-2"]);
        assert_eq!(world.images(), ["a:1", "a:2", "a:2"]);
    }
}

#[test]
fn on_delete_waits_for_the_user() {
    let mut world = World::new(json!({"updateStrategy": {"type": "OnDelete"}}));
    world.settle();
    world.change(IMAGE, json!("a:2"));
    assert_eq!(world.settle(), Vec::<String>::new());
    world
        .pods
        .retain(|pod| pod.metadata.name.as_deref() != Some("db-1"));
    assert_eq!(world.settle(), ["+db-1"]);
    assert_eq!(world.images(), ["a:1", "a:2", "a:1"]);
}

#[test]
fn ended_pods_are_replaced() {
    let mut world = World::new(json!({"replicas": 1}));
    world.settle();
    Arc::make_mut(&mut world.pods[0]).status =
        serde_json::from_value(json!({"phase": "Failed"})).ok();
    assert_eq!(world.step(), ["-db-0"]);
    assert_eq!(world.settle(), ["+db-0"]);
}
