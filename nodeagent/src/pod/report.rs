//! Carries a pod's status to the API: the newest wins, one patch at a time, and none is lost while the API is away.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use knarr_client::Api;
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Identity;

/// A status and how many were handed over before it.
#[derive(Clone, Debug, Default)]
struct Numbered {
    number: u64,
    status: Option<Value>,
}

/// A pod's status on its way to the API.
#[derive(Debug)]
pub(crate) struct Report {
    latest: watch::Sender<Numbered>,
    written: watch::Receiver<u64>,
}

impl Report {
    /// Starts the writer; it ends when the report is dropped and everything is written.
    pub(crate) fn start(client: Client, identity: Identity) -> Self {
        let (latest, newest) = watch::channel(Numbered::default());
        let (done, written) = watch::channel(0);
        tokio::spawn(write_all(client, identity, newest, done));
        Self { latest, written }
    }

    /// Hands over a status; an unchanged one costs nothing.
    pub(crate) fn send(&self, status: &PodStatus) {
        let body = Some(body(status));
        self.latest.send_if_modified(|latest| {
            let changed = latest.status != body;
            if changed {
                latest.number += 1;
                latest.status = body;
            }
            changed
        });
    }

    /// A future that waits until this status or a later one is written, or the writer has given up on the pod.
    pub(crate) fn flushed(&self) -> impl Future<Output = ()> + use<> {
        let (number, mut written) = (self.latest.borrow().number, self.written.clone());
        async move {
            let _ = written.wait_for(|written| *written >= number).await;
        }
    }
}

async fn write_all(
    client: Client,
    identity: Identity,
    mut newest: watch::Receiver<Numbered>,
    done: watch::Sender<u64>,
) {
    const PAUSE_FIRST: Duration = Duration::from_millis(100);
    const PAUSE_MAX: Duration = Duration::from_secs(10);
    /// Pods run within this time, also where twenty start at once, and then one write says it all.
    const SETTLE: Duration = Duration::from_millis(250);
    let api = Api::<Pod>::namespaced(client, &identity.namespace);
    let mut pause = PAUSE_FIRST;
    while newest.changed().await.is_ok() {
        // The answer holds a lock on the latest status, whatever it is.
        drop(tokio::time::timeout(SETTLE, newest.wait_for(is_settled)).await);
        loop {
            let Numbered { number, status } = newest.borrow_and_update().clone();
            let Some(status) = status else { break };
            let patch = json!({ "metadata": { "uid": identity.uid }, "status": status });
            let parameters = PatchParams {
                field_manager: Some("knarr-agent".into()),
                ..PatchParams::default()
            };
            match api
                .patch_status(&identity.name, &parameters, &Patch::Strategic(patch))
                .await
            {
                Ok(_) => {
                    pause = PAUSE_FIRST;
                    let _ = done.send(number);
                    break;
                }
                // The pod is gone, or another one has its name.
                Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => {
                    let _ = done.send(number);
                    break;
                }
                Err(error) => {
                    let news = tokio::time::timeout(pause, newest.changed()).await;
                    // Nobody has a pod any longer that its worker has let go of; without news there is no pause.
                    if matches!(news, Ok(Err(_))) {
                        return;
                    }
                    tracing::warn!(pod = identity.name, error = %error, "writing a pod's status");
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}

/// Whether others wait for this status: a pod that only comes into being is worth a moment's patience.
fn is_settled(latest: &Numbered) -> bool {
    let phase = latest
        .status
        .as_ref()
        .and_then(|status| status.get("phase"));
    phase.is_some_and(|phase| phase != "Pending")
}

/// The patch's `status`; what a pod no longer says has to be said as null.
fn body(status: &PodStatus) -> Value {
    let mut body = serde_json::to_value(status).unwrap_or_default();
    clear_absent(&mut body);
    let conditions = body.get_mut("conditions").and_then(Value::as_array_mut);
    conditions.into_iter().flatten().for_each(clear_absent);
    // Strategic patches merge these lists by address, which would keep those of a pod's earlier life.
    for list in ["podIPs", "hostIPs"] {
        if let Some(items) = body.get_mut(list).and_then(Value::as_array_mut) {
            items.push(json!({ "$patch": "replace" }));
        }
    }
    body
}

fn clear_absent(object: &mut Value) {
    for key in ["reason", "message"] {
        if object.get(key).is_none() {
            object[key] = Value::Null;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An API that forbids everything, as it does to a node whose pod is gone.
    fn forbidding() -> Client {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            let refusal = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403});
            let body = kube::client::Body::from(refusal.to_string().into_bytes());
            http::Response::builder().status(403).body(body)
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn a_refused_status_is_given_up_with_its_pod() {
        const DEADLINE: Duration = Duration::from_secs(20);
        let (latest, newest) = watch::channel(Numbered::default());
        let (done, _written) = watch::channel(0);
        let identity = Identity {
            namespace: "default".into(),
            name: "gone".into(),
            uid: "1".into(),
        };
        let writer = tokio::spawn(write_all(forbidding(), identity, newest, done));
        let running = PodStatus {
            phase: Some("Running".into()),
            ..PodStatus::default()
        };
        latest.send_replace(Numbered {
            number: 1,
            status: Some(body(&running)),
        });
        drop(latest);
        let ended = tokio::time::timeout(DEADLINE, writer).await;
        assert!(ended.is_ok(), "it still tries");
    }
}
