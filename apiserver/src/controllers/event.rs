//! Events: what controllers tell users about objects, written beside the work and never in its way.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use knarr_client::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Identical events remembered for counting.
const REMEMBERED_MAX: usize = 4096;
/// Events waiting to be written; more are dropped, as a flood helps nobody.
const QUEUED_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Severity {
    Normal,
    Warning,
}

/// Something worth telling, about an object that the caller names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Notice {
    pub(super) severity: Severity,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Notice {
    pub(super) fn normal(reason: &'static str, message: impl Into<String>) -> Notice {
        Notice {
            severity: Severity::Normal,
            reason,
            message: message.into(),
        }
    }

    pub(super) fn warning(reason: &'static str, message: impl Into<String>) -> Notice {
        Notice {
            severity: Severity::Warning,
            reason,
            message: message.into(),
        }
    }
}

/// Takes notices without waiting.
#[derive(Clone)]
pub(super) struct Recorder {
    queue: mpsc::Sender<Occurrence>,
}

struct Occurrence {
    component: &'static str,
    regarding: ObjectReference,
    notice: Notice,
    at: Timestamp,
}

impl Recorder {
    /// A recorder, and the queue that [`write`] empties.
    pub(super) fn new() -> (Recorder, Pending) {
        let (queue, pending) = mpsc::channel(QUEUED_MAX);
        (Recorder { queue }, Pending(pending))
    }

    /// Records `notice` about `object` as said by `component`.
    pub(super) fn record<K: Resource<DynamicType = ()>>(
        &self,
        component: &'static str,
        object: &K,
        notice: Notice,
    ) {
        let occurrence = Occurrence {
            component,
            regarding: reference(object),
            notice,
            at: Timestamp::now(),
        };
        if self.queue.try_send(occurrence).is_err() {
            tracing::debug!(component, "event dropped: too many are waiting");
        }
    }
}

/// Notices not yet written.
pub(super) struct Pending(mpsc::Receiver<Occurrence>);

#[derive(PartialEq, Eq, Hash)]
struct Identity {
    component: &'static str,
    uid: String,
    field_path: Option<String>,
    notice: Notice,
}

struct Written {
    namespace: String,
    name: String,
    count: i32,
}

/// Writes notices as Events until `shutdown`, counting repetitions in one object.
pub(super) async fn write(client: Client, mut pending: Pending, shutdown: CancellationToken) {
    let mut written: HashMap<Identity, Written> = HashMap::new();
    loop {
        let occurrence = tokio::select! {
            () = shutdown.cancelled() => return,
            occurrence = pending.0.recv() => occurrence,
        };
        let Some(occurrence) = occurrence else { return };
        let identity = Identity {
            component: occurrence.component,
            uid: occurrence.regarding.uid.clone().unwrap_or_default(),
            field_path: occurrence.regarding.field_path.clone(),
            notice: occurrence.notice.clone(),
        };
        if let Some(earlier) = written.get_mut(&identity)
            && counted(&client, earlier, occurrence.at).await
        {
            continue;
        }
        let event = event(occurrence);
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let name = event.metadata.name.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {
                if written.len() >= REMEMBERED_MAX {
                    written.clear();
                }
                let count = 1;
                written.insert(
                    identity,
                    Written {
                        namespace,
                        name,
                        count,
                    },
                );
            }
            Err(error) => tracing::debug!(%error, name, "event not written"),
        }
    }
}

async fn counted(client: &Client, earlier: &mut Written, at: Timestamp) -> bool {
    let count = earlier.count + 1;
    let patch = json!({"count": count, "lastTimestamp": Time(at)});
    let api: Api<Event> = Api::namespaced(client.clone(), &earlier.namespace);
    let patched = api
        .patch(&earlier.name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    if patched.is_ok() {
        earlier.count = count;
    }
    patched.is_ok()
}

fn event(occurrence: Occurrence) -> Event {
    let Occurrence {
        component,
        regarding,
        notice,
        at,
    } = occurrence;
    let namespace = regarding
        .namespace
        .clone()
        .filter(|namespace| !namespace.is_empty());
    let about = regarding.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{about}.{:x}", at.as_nanosecond())),
            namespace: Some(namespace.unwrap_or_else(|| "default".to_owned())),
            ..ObjectMeta::default()
        },
        involved_object: regarding,
        reason: Some(notice.reason.to_owned()),
        message: Some(notice.message),
        type_: Some(
            match notice.severity {
                Severity::Normal => "Normal",
                Severity::Warning => "Warning",
            }
            .to_owned(),
        ),
        count: Some(1),
        first_timestamp: Some(Time(at)),
        last_timestamp: Some(Time(at)),
        source: Some(EventSource {
            component: Some(component.to_owned()),
            host: None,
        }),
        reporting_component: Some(component.to_owned()),
        reporting_instance: Some(String::new()),
        ..Event::default()
    }
}

fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}
