//! The store as its users see it.

mod crash;
mod watching;

use std::path::PathBuf;

use knarr_api::kind::{Durability, Kind};
use serde_json::json;

use super::*;

static WIDGETS: Kind = kind("widgets", Durability::Disk);
static PULSES: Kind = kind("pulses", Durability::Memory);
static SPARKS: Kind = kind("sparks", Durability::Expiring { seconds: 1 });
static KINDS: &[&Kind] = &[&WIDGETS, &PULSES, &SPARKS];

const fn kind(plural: &'static str, durability: Durability) -> Kind {
    Kind {
        group: "example.com",
        kind: "Widget",
        plural,
        singular: "widget",
        durability,
        ..Kind::BASE
    }
}

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        Directory(std::env::temp_dir().join(format!("knarr-store-{}", uuid::Uuid::new_v4())))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn key(kind: &'static Kind, name: &str) -> Key {
    Key::new(kind, "default", name)
}

fn put(key: Key, expect: Expect, value: u64) -> Write {
    let object = json!({ "metadata": { "name": key.name, "uid": "u" }, "value": value });
    Write::Put {
        key,
        expect,
        object,
    }
}

async fn reopen(directory: &Directory) -> Store {
    // The former writer releases the lock when its last handle is gone and it has closed the database.
    for _ in 0..500 {
        match Store::open(&directory.0, KINDS).await {
            Ok(store) => return store,
            Err(OpenError::Locked(_)) => {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("the database stays locked");
}

/// Waits until the writer has let go of the directory.
async fn close(store: Store, directory: &Directory) {
    drop(store);
    let lock = std::fs::File::open(directory.0.join("lock")).unwrap();
    tokio::task::spawn_blocking(move || lock.lock().unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let directory = Directory::new();
    let store = reopen(&directory).await;
    for value in 0..200 {
        let write = put(key(&WIDGETS, &format!("w{value}")), Expect::Absent, value);
        store.commit(vec![write]).await.unwrap();
    }
    let delete = Write::Delete {
        key: key(&WIDGETS, "w7"),
        expect: Expect::Any,
    };
    store.commit(vec![delete]).await.unwrap();
    let before = store.list(&WIDGETS, None);
    drop(store);

    let store = reopen(&directory).await;
    let after = store.list(&WIDGETS, None);
    assert_eq!(before.objects.len(), 199);
    let documents = |listing: &Listing| -> Vec<Bytes> {
        listing.objects.iter().map(|s| s.document.clone()).collect()
    };
    assert_eq!(documents(&before), documents(&after));
    assert!(after.revision >= before.revision);
}

#[tokio::test]
async fn revisions_stay_ahead_of_memory_only_writes_across_restarts() {
    let directory = Directory::new();
    let mut last = Revision(0);
    for _ in 0..3 {
        let store = reopen(&directory).await;
        assert!(store.revision() >= last);
        let done = store
            .commit(vec![put(key(&PULSES, "p"), Expect::Any, 1)])
            .await
            .unwrap();
        assert!(done[0].revision > last);
        last = done[0].revision;
        assert!(store.get(&key(&PULSES, "p")).is_some());
        drop(store);
    }
    let store = reopen(&directory).await;
    assert!(store.get(&key(&PULSES, "p")).is_none());
}

#[tokio::test]
async fn a_second_store_on_the_same_directory_is_refused() {
    let directory = Directory::new();
    let _store = reopen(&directory).await;
    let second = Store::open(&directory.0, KINDS).await;
    assert!(matches!(second, Err(OpenError::Locked(_))));
}

#[tokio::test]
async fn expectations_decide() {
    let directory = Directory::new();
    let store = reopen(&directory).await;
    let widget = || key(&WIDGETS, "w");
    let first = store
        .commit(vec![put(widget(), Expect::Absent, 1)])
        .await
        .unwrap();
    let exists = store.commit(vec![put(widget(), Expect::Absent, 1)]).await;
    assert!(matches!(exists, Err(CommitError::Exists(_))), "{exists:?}");
    let second = put(widget(), Expect::Revision(first[0].revision), 2);
    let second = store.commit(vec![second]).await.unwrap();
    let stale = put(widget(), Expect::Revision(first[0].revision), 3);
    let stale = store
        .commit(vec![put(key(&WIDGETS, "other"), Expect::Any, 1), stale])
        .await;
    assert!(matches!(stale, Err(CommitError::Stale(_))), "{stale:?}");
    assert!(
        store.get(&key(&WIDGETS, "other")).is_none(),
        "half a commit happened"
    );
    let same = put(widget(), Expect::Any, 2);
    let same = store.commit(vec![same]).await.unwrap();
    assert_eq!(
        same[0].revision, second[0].revision,
        "an unchanged object got a new revision"
    );
    let delete = |expect| Write::Delete {
        key: key(&WIDGETS, "none"),
        expect,
    };
    let missing = store
        .commit(vec![delete(Expect::Revision(Revision(1)))])
        .await;
    assert!(
        matches!(missing, Err(CommitError::Missing(_))),
        "{missing:?}"
    );
    let nothing = store.commit(vec![delete(Expect::Any)]).await.unwrap();
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn a_claim_has_one_owner() {
    let directory = Directory::new();
    let store = reopen(&directory).await;
    let claim = |name: &str| Claim::NodePort {
        port: 30007,
        owner: Owner {
            namespace: "default".into(),
            name: name.into(),
        },
    };
    store.commit(vec![Write::Claim(claim("a"))]).await.unwrap();
    store.commit(vec![Write::Claim(claim("a"))]).await.unwrap();
    let taken = store.commit(vec![Write::Claim(claim("b"))]).await;
    assert!(matches!(taken, Err(CommitError::Claimed(_))), "{taken:?}");
    store
        .commit(vec![Write::Release(claim("b"))])
        .await
        .unwrap();
    assert!(store.claims().node_port(30007).is_some());
    let handover = vec![Write::Release(claim("a")), Write::Claim(claim("b"))];
    store.commit(handover).await.unwrap();
    drop(store);
    let store = reopen(&directory).await;
    assert_eq!(
        store.claims().node_port(30007).map(|o| o.name.clone()),
        Some("b".into())
    );
}

#[tokio::test]
async fn expiring_objects_go_when_they_were_not_written_for_long_enough() {
    let directory = Directory::new();
    let store = reopen(&directory).await;
    let spark = |value| vec![put(key(&SPARKS, "s"), Expect::Any, value)];
    let start = std::time::Instant::now();
    let mut watch = store.watch(&SPARKS, store.revision()).unwrap();
    store.commit(spark(1)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    store.commit(spark(2)).await.unwrap();
    let mut changes = Vec::new();
    for _ in 0..3 {
        changes.push(watch.next().await.unwrap().change);
    }
    assert_eq!(changes, [Change::Added, Change::Modified, Change::Deleted]);
    assert!(
        start.elapsed().as_millis() >= 1300,
        "its first write counted"
    );
    assert!(store.get(&key(&SPARKS, "s")).is_none());
}
