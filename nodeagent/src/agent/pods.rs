//! Follows the pods bound to this node and gives each a worker; pods that the API forgot are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use knarr_client::Api;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::watcher;
use serde_json::{Value, json};

use crate::host::Host;
use crate::pod::sandbox;
use crate::pod::worker::{self, Mailbox, Message};
use crate::process;

/// Takes back the readiness of pods that died with the machine or an earlier run: nothing answers there until they run again.
pub(super) async fn retract(host: &Host) -> Result<(), kube::Error> {
    let of_node = ListParams::default().fields(&format!("spec.nodeName={}", host.node_name));
    let pods = Api::<Pod>::all(host.client.clone()).list(&of_node).await?;
    let is_running = |uid: &str| process::find_init(&host.paths.pod(uid)).is_some();
    let dead = pods.iter().filter(|pod| {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        is_ready(pod) && !is_running(uid)
    });
    let patches = dead.map(|pod| async {
        let (namespace, name) = (
            pod.metadata.namespace.as_deref(),
            pod.metadata.name.as_deref(),
        );
        let api = Api::<Pod>::namespaced(host.client.clone(), namespace.unwrap_or_default());
        let patch = Patch::Strategic(retraction(pod.metadata.uid.as_deref()));
        api.patch_status(name.unwrap_or_default(), &PatchParams::default(), &patch)
            .await
    });
    join_all(patches)
        .await
        .into_iter()
        .try_for_each(|patched| patched.map(drop))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|one| one.type_ == "Ready" && one.status == "True")
}

fn retraction(uid: Option<&str>) -> Value {
    let conditions = ["Ready", "ContainersReady"].map(|kind| {
        json!({ "type": kind, "status": "False", "reason": "ContainersNotReady", "message": "the pod's processes are gone" })
    });
    json!({ "metadata": { "uid": uid }, "status": { "conditions": conditions } })
}

/// Follows the pods until dropped.
pub(super) async fn follow(host: Arc<Host>) {
    let own = watcher::Config::default().fields(&format!("spec.nodeName={}", host.node_name));
    let mut events = knarr_client::watch::<Pod>(host.client.clone(), None, own);
    let mut workers = Workers {
        host,
        mailboxes: BTreeMap::new(),
    };
    let mut node_ips = workers.host.node_ips.clone();
    let mut listed = BTreeSet::new();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            Ok(()) = node_ips.changed() => {
                workers.moved();
                continue;
            }
        };
        let Some(event) = event else { return };
        match event {
            watcher::Event::Init => listed.clear(),
            watcher::Event::InitApply(pod) => {
                listed.extend(pod.metadata.uid.clone());
                workers.apply(pod);
            }
            watcher::Event::InitDone => workers.keep_only(&listed),
            watcher::Event::Apply(pod) => workers.apply(pod),
            watcher::Event::Delete(pod) => {
                if let Some(uid) = pod.metadata.uid {
                    workers.gone(&uid);
                }
            }
        }
    }
}

struct Workers {
    host: Arc<Host>,
    /// By uid: a new pod may have the name of one that is still ending.
    mailboxes: BTreeMap<String, Mailbox>,
}

impl Workers {
    fn apply(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else {
            return;
        };
        self.mailboxes.retain(|_, mailbox| !mailbox.is_closed());
        let pod = Arc::new(pod);
        if let Some(mailbox) = self.mailboxes.get(&uid) {
            let _ = mailbox.send(Message::Pod(pod));
            return;
        }
        if let Some((mailbox, _)) = worker::start(self.host.clone(), pod) {
            self.mailboxes.insert(uid, mailbox);
        }
    }

    fn moved(&self) {
        for mailbox in self.mailboxes.values() {
            let _ = mailbox.send(Message::Moved);
        }
    }

    fn gone(&mut self, uid: &str) {
        if let Some(mailbox) = self.mailboxes.get(uid) {
            let _ = mailbox.send(Message::Gone);
        }
    }

    /// After a full list: whatever is not on it is gone, even what no worker knows.
    fn keep_only(&mut self, listed: &BTreeSet<String>) {
        let missing: Vec<String> = self
            .mailboxes
            .keys()
            .filter(|uid| !listed.contains(*uid))
            .cloned()
            .collect();
        for uid in &missing {
            self.gone(uid);
        }
        let records = sandbox::records(&self.host.paths);
        let orphans: Vec<String> = records
            .into_iter()
            .map(|record| record.uid)
            .filter(|uid| !listed.contains(uid) && !self.mailboxes.contains_key(uid))
            .collect();
        let host = self.host.clone();
        tokio::task::spawn_blocking(move || orphans.iter().for_each(|uid| remove(&host, uid)));
    }
}

fn remove(host: &Host, uid: &str) {
    host.drop_link(uid);
    for error in sandbox::end(&host.paths, &host.cgroups, uid) {
        tracing::warn!(uid, error, "removing an orphaned pod");
    }
    sandbox::forget(&host.paths, uid);
    host.release_addresses(uid);
}
