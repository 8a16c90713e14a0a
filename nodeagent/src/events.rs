//! Writes Events as the kubelet does: one object for the same happening, counted. Never blocks a pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use knarr_client::Api;
use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;

use crate::pod::Identity;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

/// Something that happened to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Happening {
    pub(crate) pod: Identity,
    /// `spec.containers{name}`, when it happened to one container.
    pub(crate) field_path: Option<String>,
    pub(crate) severity: Severity,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Takes happenings and forgets them once they are written.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<Happening>,
}

impl Recorder {
    /// Starts the writer.
    pub(crate) fn start(client: Client, node_name: String) -> Self {
        const QUEUED_MAX: usize = 1000;
        let (sender, receiver) = mpsc::channel(QUEUED_MAX);
        tokio::spawn(write_all(client, node_name, receiver));
        Self { sender }
    }

    /// Hands a happening over; when too many wait, it is dropped, as events may be.
    pub(crate) fn record(&self, happening: Happening) {
        let _ = self.sender.try_send(happening);
    }
}

type Key = (String, Option<String>, &'static str, String);

/// An event already written.
struct Written {
    name: String,
    count: i32,
}

async fn write_all(client: Client, node_name: String, mut receiver: mpsc::Receiver<Happening>) {
    const REMEMBERED_MAX: usize = 4096;
    let mut known: BTreeMap<Key, Written> = BTreeMap::new();
    while let Some(happening) = receiver.recv().await {
        let key = (
            happening.pod.uid.clone(),
            happening.field_path.clone(),
            happening.reason,
            happening.message.clone(),
        );
        let api = Api::<Event>::namespaced(client.clone(), &happening.pod.namespace);
        if let Some(written) = known.get_mut(&key) {
            written.count += 1;
            let patch = json!({ "count": written.count, "lastTimestamp": now() });
            let patched = api
                .patch(&written.name, &PatchParams::default(), &Patch::Merge(patch))
                .await;
            if patched.is_ok() {
                continue;
            }
        }
        let event = event(&happening, &node_name);
        let name = event.metadata.name.clone().unwrap_or_default();
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {
                if known.len() >= REMEMBERED_MAX {
                    known.clear();
                }
                known.insert(key, Written { name, count: 1 });
            }
            Err(error) => tracing::debug!(%error, reason = happening.reason, "writing an event"),
        }
    }
}

fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn event(happening: &Happening, node_name: &str) -> Event {
    let Happening {
        pod,
        field_path,
        severity,
        reason,
        message,
    } = happening;
    let unique = Timestamp::now().as_nanosecond();
    Event {
        metadata: kube::api::ObjectMeta {
            name: Some(format!("{}.{unique:x}", pod.name)),
            namespace: Some(pod.namespace.clone()),
            ..Default::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()),
            field_path: field_path.clone(),
            ..ObjectReference::default()
        },
        reason: Some((*reason).to_owned()),
        message: Some(message.clone()),
        type_: Some(format!("{severity:?}")),
        source: Some(EventSource {
            component: Some("kubelet".into()),
            host: Some(node_name.to_owned()),
        }),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node_name.to_owned()),
        first_timestamp: Some(now()),
        last_timestamp: Some(now()),
        count: Some(1),
        ..Event::default()
    }
}
