//! Clients that watch, each in another of the ways clients have, and record what they were told.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::StreamExt;
use http_body_util::BodyExt;
use rand::Rng;
use serde_json::Value as Json;

use super::{
    clients::{Client, LAST, OBJECTS, read_list, read_object, revision},
    record::{Change, History, Revision, Selection, Step, View, Watch},
};

const RETRY_PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    ListThenWatch,
    /// The same, and every watch ends after a second.
    Hasty,
    /// The list comes as the watch's first events.
    WatchList,
}

/// One line of a watch.
enum Line {
    Event(Change, Json),
    Bookmark(Json),
    Expired,
}

struct Watcher {
    client: Client,
    selection: Selection,
    style: Style,
    steps: Vec<Step>,
    /// Where to resume; `None`: list first.
    position: Option<Revision>,
    saw_last: bool,
}

/// Watches until the last write of the run shows.
pub(super) async fn follow(client: Client, selection: Selection, style: Style) -> History {
    let mut watcher = Watcher {
        client,
        selection,
        style,
        steps: Vec::new(),
        position: None,
        saw_last: false,
    };
    while !watcher.saw_last {
        match (watcher.position, watcher.style) {
            (Some(from), _) => watcher.resume(from).await,
            (None, Style::WatchList) => watcher.stream_list().await,
            (None, Style::ListThenWatch | Style::Hasty) => watcher.list().await,
        }
        if !watcher.saw_last {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
    watched(watcher.client, selection, watcher.steps)
}

fn watched(client: Client, selection: Selection, steps: Vec<Step>) -> History {
    let mut history = client.into_history();
    history.watches.push(Watch { selection, steps });
    history
}

fn path(selection: Selection, options: &str) -> String {
    let labels = match selection {
        Selection::All => "history",
        Selection::Even => "history,side%3Deven",
    };
    format!("{OBJECTS}?labelSelector={labels}{options}")
}

impl Watcher {
    async fn list(&mut self) {
        let path = path(self.selection, "");
        let Some((200, body)) = self.client.open("GET", &path, &Json::Null).await else {
            return;
        };
        let Ok(bytes) = body.collect().await else {
            return;
        };
        let Ok(list) = serde_json::from_slice(&bytes.to_bytes()) else {
            return;
        };
        let (revision, view) = read_list(&list);
        self.listed(revision, view);
    }

    fn listed(&mut self, revision: Revision, view: View) {
        self.saw_last |= view.contains_key(LAST);
        self.steps.push(Step::Listed { revision, view });
        self.position = Some(revision);
    }

    async fn resume(&mut self, from: Revision) {
        let timeout = match self.style {
            Style::Hasty => "&timeoutSeconds=1",
            Style::ListThenWatch | Style::WatchList => "",
        };
        let options =
            format!("&watch=true&allowWatchBookmarks=true&resourceVersion={from}{timeout}");
        let path = path(self.selection, &options);
        let Some(mut lines) = Lines::open(&self.client, &path).await else {
            return;
        };
        self.steps.push(Step::Resumed { from });
        while let Some(line) = lines.next().await {
            self.line(line);
            if self.saw_last || self.position.is_none() {
                return;
            }
        }
    }

    async fn stream_list(&mut self) {
        let options = "&watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        let path = path(self.selection, options);
        let Some(mut lines) = Lines::open(&self.client, &path).await else {
            return;
        };
        let mut view = View::new();
        while let Some(line) = lines.next().await {
            match line {
                Line::Event(Change::Added, object) if self.position.is_none() => {
                    view.extend([read_object(&object)]);
                }
                Line::Bookmark(object) if self.position.is_none() => {
                    let annotations = &object["metadata"]["annotations"];
                    assert_eq!(annotations["k8s.io/initial-events-end"], "true");
                    self.listed(revision(&object), std::mem::take(&mut view));
                }
                line if self.position.is_some() => self.line(line),
                Line::Event(..) | Line::Bookmark(_) => panic!("only additions come at first"),
                Line::Expired => return,
            }
            if self.saw_last {
                return;
            }
        }
    }

    fn line(&mut self, line: Line) {
        let step = match line {
            Line::Event(change, object) => {
                let (name, state) = read_object(&object);
                self.saw_last |= name == LAST;
                self.position = Some(state.revision);
                self.client.shared.saw(state.revision);
                Step::Event {
                    change,
                    name,
                    state,
                }
            }
            Line::Bookmark(object) => {
                let revision = revision(&object);
                self.position = Some(revision);
                Step::Reached { revision }
            }
            Line::Expired => {
                self.position = None;
                Step::Expired
            }
        };
        self.steps.push(step);
    }
}

/// Watches for a moment from anywhere in the past, again and again.
pub(super) async fn probe_until_stopped(mut client: Client) -> History {
    let mut history = History::default();
    while !client.shared.is_stopping() {
        let reached = client.shared.reached.load(Ordering::SeqCst);
        let oldest = match client.random().random_range(0..2) {
            0 => 1,
            _ => reached.saturating_sub(500).max(1),
        };
        let from = client.random().random_range(oldest..=reached);
        history.append(probe(client.another(from), from).await);
    }
    history.append(client.into_history());
    history
}

/// Watches for a moment from one revision: what was there before the watch began has to come, or 410.
pub(super) async fn probe(mut client: Client, from: Revision) -> History {
    let reached = client.list().await;
    let options = format!("&watch=true&timeoutSeconds=1&resourceVersion={from}");
    let path = path(Selection::All, &options);
    let mut steps = vec![Step::Resumed { from }];
    let Some(mut lines) = Lines::open(&client, &path).await else {
        return client.into_history();
    };
    while let Some(line) = lines.next().await {
        steps.push(match line {
            Line::Event(change, object) => {
                let (name, state) = read_object(&object);
                Step::Event {
                    change,
                    name,
                    state,
                }
            }
            Line::Bookmark(object) => Step::Reached {
                revision: revision(&object),
            },
            Line::Expired => Step::Expired,
        });
    }
    let is_whole = lines.ended_well && !steps.contains(&Step::Expired);
    if let (true, Some(revision)) = (is_whole, reached) {
        steps.push(Step::Reached { revision });
    }
    watched(client, Selection::All, steps)
}

/// The lines of one watch as they come.
struct Lines {
    body: futures_util::stream::BoxStream<'static, Option<Vec<u8>>>,
    buffer: Vec<u8>,
    ended_well: bool,
}

impl Lines {
    /// `None` when the server did not answer; a 410 instead of a watch reads as one line.
    async fn open(client: &Client, path: &str) -> Option<Lines> {
        let (code, body) = client.open("GET", path, &Json::Null).await?;
        assert!([200, 410, 503].contains(&code), "{path}: {code}");
        let chunks = http_body_util::BodyStream::new(body).map(|frame| {
            let data = frame.ok()?.into_data().ok()?;
            Some(data.to_vec())
        });
        let buffer = match code {
            200 => Vec::new(),
            410 => {
                br#"{"type":"ERROR","object":{"code":410}}"#.iter().chain(b"\n").copied().collect()
            }
            _ => return None,
        };
        let body = match code {
            200 => chunks.boxed(),
            _ => futures_util::stream::empty().boxed(),
        };
        Some(Lines {
            body,
            buffer,
            ended_well: false,
        })
    }

    async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(read_line(&line));
            }
            match self.body.next().await {
                Some(Some(bytes)) => self.buffer.extend(bytes),
                // Cut off: half a line may be left, and means nothing.
                Some(None) => return None,
                None => {
                    self.ended_well = self.buffer.is_empty();
                    return None;
                }
            }
        }
    }
}

fn read_line(line: &[u8]) -> Line {
    let text = String::from_utf8_lossy(line);
    let mut event: Json = serde_json::from_slice(line).unwrap_or_else(|e| panic!("{text}: {e}"));
    let object = event["object"].take();
    match event["type"].as_str() {
        Some("ADDED") => Line::Event(Change::Added, object),
        Some("MODIFIED") => Line::Event(Change::Modified, object),
        Some("DELETED") => Line::Event(Change::Deleted, object),
        Some("BOOKMARK") => Line::Bookmark(object),
        Some("ERROR") if object["code"] == 410 => Line::Expired,
        _ => panic!("{text}"),
    }
}
