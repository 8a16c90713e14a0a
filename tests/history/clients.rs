//! A client that writes and reads what a seed says, and records what came of it.

use std::{
    collections::BTreeMap, path::PathBuf, sync::Arc, sync::atomic::Ordering, time::Duration,
};

use http_body_util::BodyExt;
use kube::client::Body;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value as Json, json};

use super::{
    Shared,
    record::{Action, Attempt, Found, History, Outcome, Read, Revision, State, Value, View},
};
use crate::lab::client;

pub(super) const OBJECTS: &str = "/api/v1/namespaces/default/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
/// Few, so that clients meet.
const NAMES: usize = 7;
/// The object of the last write, which ends every watch.
pub(super) const LAST: &str = "last";
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
/// What a client waits after it found nobody.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Where the server is and what its clients share.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) kubeconfig: PathBuf,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Client {
    pub(super) shared: Arc<Shared>,
    kube: kube::Client,
    random: StdRng,
    /// What this client last saw of each object.
    seen: BTreeMap<String, Revision>,
    history: History,
}

/// An answer with a code, or none.
pub(super) type Answer = Option<(u16, Json)>;

impl Client {
    pub(super) async fn new(target: &Target, seed: u64) -> Self {
        Client {
            shared: target.shared.clone(),
            kube: client::client(&target.kubeconfig).await,
            random: StdRng::seed_from_u64(seed),
            seen: BTreeMap::new(),
            history: History::default(),
        }
    }

    /// A client over the same connection, with a record of its own.
    pub(super) fn another(&self, seed: u64) -> Self {
        Client {
            shared: self.shared.clone(),
            kube: self.kube.clone(),
            random: StdRng::seed_from_u64(seed),
            seen: BTreeMap::new(),
            history: History::default(),
        }
    }

    pub(super) fn into_history(self) -> History {
        self.history
    }

    pub(super) fn random(&mut self) -> &mut StdRng {
        &mut self.random
    }

    pub(super) async fn write_until_stopped(mut self) -> History {
        while !self.shared.is_stopping() {
            self.act().await;
        }
        self.history
    }

    async fn act(&mut self) {
        let name = format!("object-{}", self.random.random_range(0..NAMES));
        let expected = self.seen.get(&name).copied();
        let value = self.shared.value.fetch_add(1, Ordering::SeqCst);
        match (self.random.random_range(0..100), expected) {
            (0..25, _) => self.write(&name, Action::Create { value }).await,
            (25..55, Some(expected)) => {
                let action = Action::Replace { value, expected };
                self.write(&name, action).await;
            }
            (55..70, _) => self.write(&name, Action::Patch { value }).await,
            (70..80, Some(expected)) => self.write(&name, Action::Delete { expected }).await,
            (80..84, _) => self.write(&name, Action::Volatile).await,
            (84..90, _) => drop(self.list().await),
            _ => self.get(&name).await,
        }
    }

    /// The write that every watcher waits for, repeated until it is acknowledged.
    pub(super) async fn write_last(&mut self) {
        loop {
            let value = self.shared.value.fetch_add(2, Ordering::SeqCst);
            let value = value.next_multiple_of(2);
            self.write(LAST, Action::Create { value }).await;
            let attempt = self.history.attempts.last().expect("just made");
            if matches!(attempt.outcome, Outcome::Acknowledged(_) | Outcome::Refused) {
                return;
            }
        }
    }

    async fn write(&mut self, name: &str, action: Action) {
        let invoked = self.shared.tick();
        let answer = match action {
            Action::Volatile => self.renew_lease().await,
            _ => self.send_write(name, action).await,
        };
        let outcome = outcome(&answer, action);
        let answered = match outcome {
            Outcome::Unknown => u64::MAX,
            Outcome::Acknowledged(_) | Outcome::Refused => self.shared.tick(),
        };
        match outcome {
            Outcome::Acknowledged(Some(revision)) => {
                self.shared.saw(revision);
                if action != Action::Volatile {
                    self.seen.insert(name.to_owned(), revision);
                }
            }
            Outcome::Acknowledged(None) => drop(self.seen.remove(name)),
            Outcome::Refused => {}
            Outcome::Unknown => tokio::time::sleep(RETRY_PAUSE).await,
        }
        self.history.attempts.push(Attempt {
            invoked,
            answered,
            name: name.to_owned(),
            action,
            outcome,
        });
    }

    async fn send_write(&self, name: &str, action: Action) -> Answer {
        let path = format!("{OBJECTS}/{name}");
        match action {
            Action::Create { value } => self.send("POST", OBJECTS, &object(name, value)).await,
            Action::Replace { value, expected } => {
                let mut object = object(name, value);
                object["metadata"]["resourceVersion"] = json!(expected.to_string());
                self.send("PUT", &path, &object).await
            }
            Action::Patch { value } => self.send("PATCH", &path, &object(name, value)).await,
            Action::Delete { expected } => {
                let expected = expected.to_string();
                let options = json!({
                    "kind": "DeleteOptions", "apiVersion": "v1",
                    "preconditions": { "resourceVersion": expected },
                });
                self.send("DELETE", &path, &options).await
            }
            Action::Volatile => None,
        }
    }

    /// Kinds that live in memory take their revisions from the same sequence.
    async fn renew_lease(&mut self) -> Answer {
        let spec = json!({ "leaseTransitions": self.random.random_range(0..i32::MAX) });
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": "noise" }, "spec": spec,
        });
        let renewed = self.send("PATCH", &format!("{LEASES}/noise"), &lease).await;
        match renewed {
            Some((404, _)) => self.send("POST", LEASES, &lease).await,
            renewed => renewed,
        }
    }

    /// Everything of this run, as it is; gives the list's revision.
    pub(super) async fn list(&mut self) -> Option<Revision> {
        let invoked = self.shared.tick();
        let path = format!("{OBJECTS}?labelSelector=history");
        let Some((200, list)) = self.send("GET", &path, &Json::Null).await else {
            tokio::time::sleep(RETRY_PAUSE).await;
            return None;
        };
        let answered = self.shared.tick();
        let (revision, view) = read_list(&list);
        self.shared.saw(revision);
        for (name, state) in &view {
            self.seen.insert(name.clone(), state.revision);
        }
        let found = Found::List { revision, view };
        self.history.reads.push(Read {
            invoked,
            answered,
            found,
        });
        Some(revision)
    }

    async fn get(&mut self, name: &str) {
        let invoked = self.shared.tick();
        let path = format!("{OBJECTS}/{name}");
        let state = match self.send("GET", &path, &Json::Null).await {
            Some((200, object)) => Some(read_object(&object).1),
            Some((404, _)) => None,
            _ => return tokio::time::sleep(RETRY_PAUSE).await,
        };
        let answered = self.shared.tick();
        if let Some(state) = state {
            self.seen.insert(name.to_owned(), state.revision);
        }
        let name = name.to_owned();
        let found = Found::One { name, state };
        self.history.reads.push(Read {
            invoked,
            answered,
            found,
        });
    }

    async fn send(&self, method: &str, path: &str, body: &Json) -> Answer {
        let exchange = async {
            let (code, body) = self.open(method, path, body).await?;
            let bytes = body.collect().await.ok()?.to_bytes();
            Some((code, serde_json::from_slice(&bytes).ok()?))
        };
        tokio::time::timeout(ANSWER_TIME_MAX, exchange).await.ok()?
    }

    /// Sends a request and gives the answer's code and its body as it comes.
    pub(super) async fn open(&self, method: &str, path: &str, body: &Json) -> Option<(u16, Body)> {
        let content_type = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = match body {
            Json::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(Body::from(body))
            .expect("a request");
        let answer = self.kube.send(request).await.ok()?;
        Some((answer.status().as_u16(), answer.into_body()))
    }
}

fn outcome(answer: &Answer, action: Action) -> Outcome {
    match answer {
        Some((200..300, body)) => Outcome::Acknowledged(match action {
            Action::Delete { .. } => None,
            _ => Some(revision(body)),
        }),
        Some((429, _)) | None => Outcome::Unknown,
        Some((400..500, _)) => Outcome::Refused,
        Some(_) => Outcome::Unknown,
    }
}

fn object(name: &str, value: Value) -> Json {
    let side = if value.is_multiple_of(2) {
        "even"
    } else {
        "odd"
    };
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "labels": { "history": "yes", "side": side } },
        "data": { "value": value.to_string() },
    })
}

pub(super) fn revision(object: &Json) -> Revision {
    let text = object["metadata"]["resourceVersion"].as_str();
    text.and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no revision: {object}"))
}

pub(super) fn read_object(object: &Json) -> (String, State) {
    let name = object["metadata"]["name"].as_str().expect("a name");
    let value = object["data"]["value"].as_str().expect("a value");
    let state = State {
        revision: revision(object),
        value: value.parse().expect("a number"),
    };
    (name.to_owned(), state)
}

pub(super) fn read_list(list: &Json) -> (Revision, View) {
    let items = list["items"].as_array().expect("items");
    (revision(list), items.iter().map(read_object).collect())
}
