//! Writes Events as kube-proxy does: one object for the same happening, counted. Never blocks a sync.

use std::{collections::BTreeMap, fmt, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference, Service},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use knarr_client::Api;
use knarr_netproxy_plan::ServiceKey;
use kube::{
    Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Who watchers of Events know as the one that serves packets.
const COMPONENT: &str = "kube-proxy";
const QUEUED_MAX: usize = 256;
const REMEMBERED_MAX: usize = 1024;

/// Something that a user should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Happening {
    pub(crate) regarding: Regarding,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What a happening is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Regarding {
    Service(Arc<ServiceKey>),
    /// The node this proxy runs on.
    Node,
}

impl fmt::Display for Regarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(key) => key.fmt(f),
            Self::Node => f.write_str("this node"),
        }
    }
}

/// Takes happenings and forgets them once they are written.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(mpsc::Sender<Happening>);

impl Recorder {
    /// A recorder, and where what it is told comes out.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Happening>) {
        let (sender, happenings) = mpsc::channel(QUEUED_MAX);
        (Self(sender), happenings)
    }

    /// Hands a happening over; when too many wait, it is dropped, as Events may be.
    pub(crate) fn record(&self, happening: Happening) {
        tracing::warn!("{}: {}", happening.regarding, happening.message);
        let _full_or_shutting_down = self.0.try_send(happening);
    }
}

/// An Event already written.
struct Written {
    name: String,
    count: i32,
}

/// Writes happenings until shutdown.
pub(crate) async fn run(
    client: Client,
    node_name: String,
    mut happenings: mpsc::Receiver<Happening>,
    shutdown: CancellationToken,
) {
    let mut known = BTreeMap::new();
    loop {
        let happening = tokio::select! {
            happening = happenings.recv() => happening,
            () = shutdown.cancelled() => return,
        };
        let Some(happening) = happening else { return };
        if let Err(error) = write(&client, &node_name, happening, &mut known).await {
            tracing::debug!("an Event was not written: {error:#}");
        }
    }
}

async fn write(
    client: &Client,
    node_name: &str,
    happening: Happening,
    known: &mut BTreeMap<Happening, Written>,
) -> kube::Result<()> {
    let Some(about) = reference(client, node_name, &happening.regarding).await? else {
        return Ok(());
    };
    let namespace = about.namespace.as_deref().unwrap_or("default");
    let api = Api::<Event>::namespaced(client.clone(), namespace);
    let now = Timestamp::now();
    if let Some(written) = known.get_mut(&happening) {
        let count = written.count + 1;
        let patch = json!({ "count": count, "lastTimestamp": Time(now) });
        let params = PatchParams::default();
        let patched = api
            .patch(&written.name, &params, &Patch::Merge(patch))
            .await;
        if patched.is_ok() {
            written.count = count;
            return Ok(());
        }
    }
    let event = event(about, &happening, node_name, now);
    let name = event.metadata.name.clone().unwrap_or_default();
    api.create(&PostParams::default(), &event).await?;
    if known.len() >= REMEMBERED_MAX {
        known.clear();
    }
    known.insert(happening, Written { name, count: 1 });
    Ok(())
}

/// Nothing for a Service that is gone.
async fn reference(
    client: &Client,
    node_name: &str,
    regarding: &Regarding,
) -> kube::Result<Option<ObjectReference>> {
    let Regarding::Service(key) = regarding else {
        // Components of a node refer to it by name in place of its uid.
        return Ok(Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node_name.to_owned()),
            uid: Some(node_name.to_owned()),
            ..ObjectReference::default()
        }));
    };
    let services = Api::<Service>::namespaced(client.clone(), &key.namespace);
    let service = services.get_opt(&key.name).await?;
    Ok(service.map(|service| ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Service".to_owned()),
        namespace: Some(key.namespace.clone()),
        name: Some(key.name.clone()),
        uid: service.metadata.uid,
        ..ObjectReference::default()
    }))
}

fn event(about: ObjectReference, happening: &Happening, node_name: &str, now: Timestamp) -> Event {
    let name = about.name.clone().unwrap_or_default();
    let namespace = about.namespace.clone();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            namespace: Some(namespace.unwrap_or_else(|| "default".to_owned())),
            ..ObjectMeta::default()
        },
        involved_object: about,
        reason: Some(happening.reason.to_owned()),
        message: Some(happening.message.clone()),
        type_: Some("Warning".to_owned()),
        source: Some(EventSource {
            component: Some(COMPONENT.to_owned()),
            host: Some(node_name.to_owned()),
        }),
        reporting_component: Some(COMPONENT.to_owned()),
        reporting_instance: Some(node_name.to_owned()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    }
}
