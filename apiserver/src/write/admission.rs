//! Admission that needs to know other objects: the namespace of a new object, the service account of a new pod.

use std::{borrow::Cow, time::Duration};

use knarr_api::{
    kind::Kind,
    kinds::{
        namespace::NAMESPACE,
        node::{self, NODE},
        pod::{POD, admit},
        serviceaccount::SERVICE_ACCOUNT,
    },
    meta,
    status::{Cause, Status},
    value::{fields_mut, str_of},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{metadata, restriction};
use crate::{State, User, storage::Key};

/// How long a pod waits for the account that its namespace's controller is about to make.
const ACCOUNT_TIMEOUT: Duration = Duration::from_secs(1);
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// Lets a new object in, with what the server adds to it, or says why not.
pub(super) async fn admit_create(
    state: &State,
    user: &User,
    kind: &'static Kind,
    object: &mut Value,
) -> Result<(), Status> {
    check_namespace(state, kind, object)?;
    restriction::check_create(user, kind, object)?;
    state.authorizer.check_grant(user, kind, object, None)?;
    if std::ptr::eq(kind, &POD) {
        admit_pod(state, object).await?;
        add_topology(state, object);
    } else if std::ptr::eq(kind, &NODE) {
        taint_new_node(object);
    }
    Ok(())
}

/// Nothing is created in a namespace that is missing or terminating.
fn check_namespace(state: &State, kind: &Kind, object: &Value) -> Result<(), Status> {
    if !kind.is_namespaced() {
        return Ok(());
    }
    let namespace = meta::namespace(object);
    let key = Key::new(&NAMESPACE, "", namespace);
    let Some(stored) = state.store.get(&key) else {
        return Err(Status::not_found(&NAMESPACE, namespace));
    };
    if !is_terminating(&stored.document) {
        return Ok(());
    }
    let detail = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut status = Status::forbidden(kind, requested_name(object), &detail);
    if let Some(details) = &mut status.details {
        details.causes = vec![Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        }];
    }
    Err(status)
}

/// Reads no more of a namespace than this, because every create in it asks.
fn is_terminating(document: &[u8]) -> bool {
    #[derive(Default, Deserialize)]
    struct Namespace<'a> {
        #[serde(borrow, default)]
        metadata: Metadata<'a>,
        #[serde(borrow, default)]
        status: Lifecycle<'a>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata<'a> {
        #[serde(borrow)]
        deletion_timestamp: Option<Cow<'a, str>>,
    }
    #[derive(Default, Deserialize)]
    struct Lifecycle<'a> {
        #[serde(borrow)]
        phase: Option<Cow<'a, str>>,
    }
    let namespace: Namespace<'_> = serde_json::from_slice(document).unwrap_or_default();
    namespace.metadata.deletion_timestamp.is_some()
        || namespace.status.phase.as_deref() == Some("Terminating")
}

async fn admit_pod(state: &State, pod: &mut Value) -> Result<(), Status> {
    let account = if admit::is_exempt(pod) {
        Value::Null
    } else {
        let namespace = meta::namespace(pod);
        let account = admit::service_account(pod);
        let found = find_account(state, namespace, account).await;
        found.ok_or_else(|| {
            let detail = format!(
                "error looking up service account {namespace}/{account}: \
                 serviceaccount \"{account}\" not found"
            );
            Status::forbidden(&POD, requested_name(pod), &detail)
        })?
    };
    let admitted = admit::admit(pod, &account, &metadata::generated_name(""));
    admitted.map_err(|detail| Status::forbidden(&POD, requested_name(pod), &detail))
}

/// What only an object that is known to be valid can be refused for.
pub(super) fn confirm_create(kind: &'static Kind, object: &Value) -> Result<(), Status> {
    if !std::ptr::eq(kind, &POD) {
        return Ok(());
    }
    admit::confirm(object).map_err(|detail| Status::forbidden(&POD, requested_name(object), detail))
}

/// A pod that comes with its node is told where in the world that is.
fn add_topology(state: &State, pod: &mut Value) {
    let name = str_of(&pod["spec"]["nodeName"]);
    if name.is_empty() {
        return;
    }
    let node = state.store.get(&Key::new(&NODE, "", name));
    let node = node.map(|node| node.object()).unwrap_or_default();
    for (label, value) in node::topology(&node) {
        fields_mut(&mut pod["metadata"], "labels").insert(label.to_owned(), value.clone());
    }
}

/// The name that refusals go by: names are generated only for what is let in.
fn requested_name(object: &Value) -> &str {
    match meta::name(object) {
        "" => meta::generate_name(object),
        name => name,
    }
}

/// Adds to a stored object that is written again what the server adds to new ones.
pub(super) fn readmit(kind: &'static Kind, new: &mut Value, old: &Value) {
    if std::ptr::eq(kind, &POD) {
        admit::readmit(new, old);
    }
}

/// The default account follows a new namespace by a moment, so that one is waited for.
async fn find_account(state: &State, namespace: &str, name: &str) -> Option<Value> {
    let key = Key::new(&SERVICE_ACCOUNT, namespace, name);
    let revision = state.store.revision();
    if let Some(stored) = state.store.get(&key) {
        return Some(stored.object());
    }
    if name != "default" {
        return None;
    }
    let mut watch = state.store.watch(&SERVICE_ACCOUNT, revision).ok()?;
    let made = async {
        while let Ok(event) = watch.next().await {
            if event.object.key == key {
                return Some(event.object.object());
            }
        }
        None
    };
    timeout(ACCOUNT_TIMEOUT, made).await.ok().flatten()
}

/// A node takes no pods before it has said that it is ready.
fn taint_new_node(node: &mut Value) {
    let tainted = |taint: &Value| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule";
    if !node["spec"].is_object() {
        node["spec"] = json!({});
    }
    let taints = &mut node["spec"]["taints"];
    if !taints.is_array() {
        *taints = json!([]);
    }
    let Some(taints) = taints.as_array_mut() else {
        return;
    };
    if !taints.iter().any(tainted) {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}
