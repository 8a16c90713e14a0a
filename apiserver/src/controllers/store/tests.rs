use k8s_openapi::api::core::v1::ConfigMap;
use knarr_api::kinds::{self, configmap::CONFIG_MAP};
use serde_json::json;

use super::*;
use crate::controllers::follow::{Scope, Turn};
use crate::storage::{self, Expect, Write};

/// A server's memory in a directory of its own, removed at the end.
struct World {
    directory: std::path::PathBuf,
    storage: storage::Store,
}

impl World {
    async fn new() -> World {
        let name = format!("knarr-controllers-{}", uuid::Uuid::new_v4());
        let directory = std::env::temp_dir().join(name);
        let storage = storage::Store::open(&directory, kinds::ALL).await;
        World {
            directory,
            storage: storage.expect("a store"),
        }
    }

    fn store(&self, scope: Scope) -> Store<ConfigMap> {
        let source = Source::new(self.storage.clone(), Turn::default(), &CONFIG_MAP, scope);
        Store::indexed(source, |stored| {
            let labels = stored.labels.iter();
            labels
                .map(|(_, value)| Term::InNamespace(value.to_owned()))
                .chain([Term::InCluster("all".to_owned())])
                .collect()
        })
    }

    async fn put(&self, namespace: &str, name: &str, label: &str) {
        let write = Write::Put {
            key: storage::Key::new(&CONFIG_MAP, namespace, name),
            expect: Expect::Any,
            object: json!({"metadata": {"namespace": namespace, "name": name, "uid": name, "labels": {"l": label}}}),
        };
        self.storage.commit(vec![write]).await.expect("a commit");
    }

    async fn delete(&self, namespace: &str, name: &str) {
        let key = storage::Key::new(&CONFIG_MAP, namespace, name);
        let write = Write::Delete {
            key,
            expect: Expect::Any,
        };
        self.storage.commit(vec![write]).await.expect("a commit");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn names(objects: &[Arc<ConfigMap>]) -> Vec<String> {
    let keys = objects.iter().map(|object| Key::of(object.as_ref()));
    keys.map(|key| key.to_string()).collect()
}

#[tokio::test]
async fn what_is_acknowledged_is_seen_at_once() {
    let world = World::new().await;
    let store = world.store(Scope::Everything);
    let find = |label: &str| {
        let is_labelled = |object: &ConfigMap| {
            let labels = object.metadata.labels.as_ref();
            labels.is_some_and(|labels| labels["l"] == label)
        };
        let term = Term::InNamespace(label.to_owned());
        names(&store.found_by("ns", &term, is_labelled))
    };
    world.put("ns", "b", "1").await;
    assert_eq!(find("1"), ["ns/b"]);
    world.put("ns", "a", "1").await;
    world.put("other", "c", "1").await;
    assert_eq!(find("1"), ["ns/a", "ns/b"]);
    world.put("ns", "a", "2").await;
    assert_eq!(
        (find("1"), find("2")),
        (vec!["ns/b".into()], vec!["ns/a".into()])
    );
    world.delete("ns", "b").await;
    assert_eq!(find("1"), Vec::<String>::new());
    assert_eq!(names(&store.all()), ["ns/a", "other/c"]);
    assert_eq!(names(&store.in_namespace("ns")), ["ns/a"]);
    assert_eq!(store.count_by("", &Term::InCluster("all".to_owned())), 2);
    assert!(store.get("ns", "b").is_none());
    assert!(store.contains(&Key::new("other", "c")));
}

#[tokio::test]
async fn an_index_that_fell_behind_starts_over() {
    let world = World::new().await;
    let store = world.store(Scope::Everything);
    let term = Term::InCluster("all".to_owned());
    world.put("ns", "a", "0").await;
    assert_eq!(store.count_by("", &term), 1);
    // More states than the server remembers of one kind.
    let long = "x".repeat(1 << 20);
    for _ in 0..5 {
        world.put("ns", "a", &long).await;
        world.put("ns", "a", "1").await;
        world.put("ns", "b", &long).await;
        world.delete("ns", "b").await;
    }
    assert_eq!(names(&store.found_by("", &term, |_| true)), ["ns/a"]);
}

#[tokio::test]
async fn a_scope_shows_its_own_objects_only() {
    let world = World::new().await;
    world.put("ns", "a", "1").await;
    world.put("other", "a", "1").await;
    world.put("other", "b", "1").await;
    let check = |scope: Scope, expected: &[&str]| {
        let store = world.store(scope);
        assert_eq!(names(&store.all()), expected, "{scope:?}");
        let found = store.found_by("", &Term::InCluster("all".to_owned()), |_| true);
        assert_eq!(names(&found), expected, "{scope:?}");
    };
    check(Scope::Namespace("other"), &["other/a", "other/b"]);
    check(Scope::Name("a"), &["ns/a", "other/a"]);
    assert!(world.store(Scope::Name("a")).get("other", "b").is_none());
}

#[tokio::test]
async fn observers_hear_of_what_there_is_and_then_of_each_change() {
    let world = World::new().await;
    let store = world.store(Scope::Namespace("ns"));
    let (heard, mut log) = tokio::sync::mpsc::unbounded_channel();
    store.observe(
        move |old: Option<&Arc<ConfigMap>>, new: Option<&Arc<ConfigMap>>| {
            let shown = |object: &Arc<ConfigMap>| {
                let labels = object.metadata.labels.clone().unwrap_or_default();
                let name = object.metadata.name.clone().unwrap_or_default();
                format!("{name}={}", labels["l"])
            };
            let _ = heard.send((old.map(shown), new.map(shown)));
        },
    );
    world.put("ns", "a", "1").await;
    let changes = async {
        store.wait_synced().await;
        world.put("ns", "a", "2").await;
        world.put("other", "a", "2").await;
        world.put("ns", "b", "1").await;
        world.delete("ns", "a").await;
        let text = |text: &str| Some(text.to_owned());
        let expected = [
            (None, text("a=1")),
            (text("a=1"), text("a=2")),
            (None, text("b=1")),
            (text("a=2"), None),
        ];
        for expected in expected {
            assert_eq!(log.recv().await, Some(expected));
        }
    };
    tokio::select! {
        () = store.follow() => panic!("following never ends"),
        () = changes => {}
    }
}
