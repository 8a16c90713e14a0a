use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::*;

/// Opens a watch and gathers events until there are `count` of them.
struct Watching {
    frames: axum::body::BodyDataStream,
    rest: Vec<u8>,
}

impl Watching {
    async fn open(world: &World, query: &str) -> Self {
        let mut request = Request::builder()
            .uri(format!("{CONFIG_MAPS}?watch=true&{query}"))
            .body(Body::empty())
            .expect("a request");
        request.extensions_mut().insert(world.user.clone());
        let response = world.server.router.clone().oneshot(request).await;
        Watching {
            frames: response.expect("an answer").into_body().into_data_stream(),
            rest: Vec::new(),
        }
    }

    async fn next(&mut self) -> Value {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return serde_json::from_slice(&line).expect("a line of JSON");
            }
            let frame = timeout(Duration::from_secs(10), self.frames.next()).await;
            let frame: Option<Result<Bytes, _>> = frame.expect("an event in time");
            let bytes = frame.expect("another event").expect("a readable frame");
            self.rest.extend_from_slice(&bytes);
        }
    }

    async fn check(&mut self, expected: &[(&str, &str)]) {
        for (event, name) in expected {
            let found = self.next().await;
            let object = &found["object"]["metadata"]["name"];
            assert_eq!((&found["type"], object), (&json!(event), &json!(name)));
        }
    }
}

fn labelled(name: &str, tier: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"tier": tier}}})
}

#[tokio::test]
async fn entering_and_leaving_a_selector_shows_as_added_and_deleted() {
    let world = World::new().await;
    let mut front = Watching::open(&world, "labelSelector=tier%3Dfront").await;
    world.post(CONFIG_MAPS, labelled("a", "back")).await;
    let path = format!("{CONFIG_MAPS}/a");
    for tier in ["front", "back"] {
        world.put(&path, labelled("a", tier)).await;
    }
    world.put(&path, labelled("a", "front")).await;
    world.delete(&path, Value::Null).await;
    front
        .check(&[
            ("ADDED", "a"),
            ("DELETED", "a"),
            ("ADDED", "a"),
            ("DELETED", "a"),
        ])
        .await;
}

#[tokio::test]
async fn initial_events_end_with_an_annotated_bookmark() {
    let world = World::new().await;
    world.post(CONFIG_MAPS, config_map("a")).await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watching = Watching::open(&world, query).await;
    watching.check(&[("ADDED", "a")]).await;
    let bookmark = watching.next().await;
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"],
        json!({"k8s.io/initial-events-end": "true"})
    );
    world.post(CONFIG_MAPS, config_map("b")).await;
    watching.check(&[("ADDED", "b")]).await;
}

#[tokio::test]
async fn a_revision_that_is_forgotten_has_expired() {
    let world = World::new().await;
    let mut watching = Watching::open(&world, "resourceVersion=1").await;
    // More than the log holds of documents that only it keeps.
    let data = "x".repeat(1 << 19);
    for change in 0..20 {
        let large =
            json!({"metadata": {"name": "a"}, "data": {"a": data, "b": change.to_string()}});
        let path = format!("{CONFIG_MAPS}/a");
        let answer = match change {
            0 => world.post(CONFIG_MAPS, large).await,
            _ => world.put(&path, large).await,
        };
        assert!(answer.code.is_success(), "{}", answer.message());
    }
    let mut late = Watching::open(&world, "resourceVersion=1").await;
    for watching in [&mut watching, &mut late] {
        let event = watching.next().await;
        assert_eq!(event["type"], "ERROR");
        assert_eq!(event["object"]["code"], 410);
        assert_eq!(event["object"]["reason"], "Expired");
    }
}

#[tokio::test]
async fn a_revision_to_come_is_waited_for() {
    let world = World::new().await;
    let made = world.post(CONFIG_MAPS, config_map("a")).await;
    let revision = made.at("/metadata/resourceVersion").as_str();
    let revision: u64 = revision.and_then(|r| r.parse().ok()).expect("a revision");
    let query = format!("resourceVersion={}", revision + 1);
    let mut watching = Watching::open(&world, &query).await;
    world.post(CONFIG_MAPS, config_map("b")).await;
    world.post(CONFIG_MAPS, config_map("c")).await;
    watching.check(&[("ADDED", "c")]).await;
    let query = "resourceVersion=999999&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let event = Watching::open(&world, query).await.next().await;
    assert_eq!(event["type"], "ERROR");
    assert_eq!(event["object"]["code"], 504);
    let cause = &event["object"]["details"]["causes"][0]["reason"];
    assert_eq!(cause, "ResourceVersionTooLarge");
}

#[tokio::test]
async fn a_watch_from_a_revision_replays_what_came_after() {
    let world = World::new().await;
    let made = world.post(CONFIG_MAPS, config_map("a")).await;
    let revision = made.at("/metadata/resourceVersion").as_str();
    world.post(CONFIG_MAPS, config_map("b")).await;
    world.delete(&format!("{CONFIG_MAPS}/a"), Value::Null).await;
    let query = format!("resourceVersion={}", revision.unwrap_or_default());
    let mut watching = Watching::open(&world, &query).await;
    watching.check(&[("ADDED", "b"), ("DELETED", "a")]).await;
}
