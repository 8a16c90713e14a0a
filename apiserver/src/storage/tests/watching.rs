//! Watches and old revisions, against a model that keeps every state there ever was.

use std::collections::BTreeMap;

use super::*;

/// Names and the documents under them.
type Model = BTreeMap<String, Bytes>;

fn model(objects: &[Arc<Stored>]) -> Model {
    let entry = |s: &Arc<Stored>| (s.key.name.clone(), s.document.clone());
    objects.iter().map(entry).collect()
}

/// Many tasks write, with and without success.
async fn churn(store: &Store, task: u64) {
    for step in 0..150 {
        let name = format!("w{}", (task * 31 + step * 7) % 12);
        let kind = if step % 3 == 0 { &PULSES } else { &WIDGETS };
        let write = match step % 5 {
            4 => Write::Delete {
                key: key(kind, &name),
                expect: Expect::Any,
            },
            3 => put(key(kind, &name), Expect::Absent, task * 1000 + step),
            _ => put(key(kind, &name), Expect::Any, task * 1000 + step),
        };
        let _ = store.commit(vec![write]).await;
    }
}

/// Follows a kind and checks each event against what it knows; returns every state it saw.
async fn follow(mut watch: Watch, mut known: Model, last: Revision) -> BTreeMap<Revision, Model> {
    let mut states = BTreeMap::new();
    let mut seen = Revision(0);
    while watch.position() < last {
        let wait = tokio::time::timeout(std::time::Duration::from_secs(10), watch.next());
        let event = wait.await.expect("an event is missing").unwrap();
        assert!(event.revision() > seen, "out of order or twice");
        seen = event.revision();
        let name = event.object.key.name.clone();
        let before = event.previous.as_ref().map(|s| s.document.clone());
        assert_eq!(known.get(&name), before.as_ref(), "an event is missing");
        assert_eq!(before.is_none(), event.change == Change::Added);
        match event.change {
            Change::Added | Change::Modified => known.insert(name, event.object.document.clone()),
            Change::Deleted => known.remove(&name),
        };
        states.insert(seen, known.clone());
    }
    states
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn watches_neither_miss_nor_repeat_nor_reorder() {
    let directory = Directory::new();
    let store = reopen(&directory).await;
    let start = store.revision();
    let early = store.watch(&WIDGETS, start).unwrap();
    let writers: Vec<_> = (0..8)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move { churn(&store, task).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let listing = store.list(&WIDGETS, None);
    let late = store.watch(&WIDGETS, listing.revision).unwrap();
    let late_start = model(&listing.objects);
    for writer in writers {
        writer.await.unwrap();
    }
    let end = store.list(&WIDGETS, None);
    let early = follow(early, Model::new(), end.revision).await;
    let late = follow(late, late_start, end.revision).await;
    let end_state = model(&end.objects);
    assert_eq!(early.last_key_value().unwrap().1, &end_state);
    assert!(early.len() > 100, "too little happened to mean anything");
    for (revision, state) in &late {
        assert_eq!(early.get(revision), Some(state));
    }
    for (revision, state) in &early {
        let then = store.list_at(&WIDGETS, Some("default"), *revision).unwrap();
        assert_eq!(&model(&then.objects), state, "at {revision}");
    }
}

#[tokio::test]
async fn a_watch_too_far_behind_expires_and_holds_nothing_meanwhile() {
    let directory = Directory::new();
    let store = reopen(&directory).await;
    let start = store.revision();
    let mut slow = store.watch(&PULSES, start).unwrap();
    let large = "x".repeat(100_000);
    for value in 0..300 {
        let object =
            serde_json::json!({ "metadata": { "name": "p" }, "value": value, "large": large });
        let write = Write::Put {
            key: key(&PULSES, "p"),
            expect: Expect::Any,
            object,
        };
        store.commit(vec![write]).await.unwrap();
    }
    assert_eq!(slow.next().await.err(), Some(Expired));
    assert!(matches!(store.watch(&PULSES, start), Err(Expired)));
    assert!(matches!(store.list_at(&PULSES, None, start), Err(Expired)));
    assert!(store.watch(&PULSES, store.revision()).is_ok());
    let other = store.list_at(&WIDGETS, None, start);
    assert!(other.is_ok(), "another kind's log is its own");
}

#[tokio::test]
async fn a_waiting_watch_wakes_for_its_own_kind_only() {
    let directory = Directory::new();
    let store = reopen(&directory).await;
    let mut watch = store.watch(&WIDGETS, store.revision()).unwrap();
    assert!(watch.try_next().unwrap().is_none());
    store
        .commit(vec![put(key(&PULSES, "p"), Expect::Any, 1)])
        .await
        .unwrap();
    assert!(watch.try_next().unwrap().is_none());
    assert_eq!(
        watch.position(),
        store.revision(),
        "a bookmark moves on with other kinds"
    );
    let waiting = tokio::spawn(async move { watch.next().await });
    let done = store
        .commit(vec![put(key(&WIDGETS, "w"), Expect::Any, 1)])
        .await
        .unwrap();
    let event = waiting.await.unwrap().unwrap();
    assert_eq!(event.revision(), done[0].revision);
}
