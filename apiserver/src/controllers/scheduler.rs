//! The scheduler: gives every pod that asks for `default-scheduler` a node it may run on.

mod fit;
mod plan;
mod topology;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::event::Notice;
use super::pods;
use super::queue::{Next, Queue};
use super::store::Key;
use super::terms::{self, everywhere};
use super::write::{Error, Write, failure, perform, resource};

pub(super) use fit::{Misfit, bears, fits};

const COMPONENT: &str = "default-scheduler";

/// All waiting pods are placed together, so there is one thing to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Waiting;

/// Bindings made, until the watch tells of them: pod uid to node.
type Assumed = Arc<Mutex<HashMap<String, String>>>;

/// Adds the scheduler's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    let assumed: Assumed = Arc::default();
    let (waiting, known) = (Arc::clone(&queue), Arc::clone(&assumed));
    // Whether a pod waits that may be placed once others have moved.
    let is_sociable = Arc::new(AtomicBool::new(false));
    let sociable = Arc::clone(&is_sociable);
    cluster.pods.observe(move |old, new| {
        if let Some(uid) = old.or(new).and_then(|pod| pod.metadata.uid.as_deref())
            && new.is_none_or(|pod| pods::node_name(pod).is_some())
        {
            known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(uid);
        }
        let freed = new.is_none_or(|pod| pods::is_terminal(pod))
            && old.is_some_and(|pod| pods::node_name(pod).is_some());
        let moved = changes_company(old, new) && sociable.load(Ordering::Relaxed);
        if freed || moved || new.is_some_and(|pod| plan::is_waiting(pod)) {
            waiting.add(Waiting);
        }
    });
    let roomier = Arc::clone(&queue);
    cluster.nodes.observe(move |old, new| {
        let shown = |node: Option<&Arc<Node>>| {
            node.map(|node| {
                (
                    node.metadata.labels.clone(),
                    node.spec.clone(),
                    fit::is_ready(node),
                    fit::allocatable(node),
                )
            })
        };
        if shown(old) != shown(new) {
            roomier.add(Waiting);
        }
    });
    let (cluster, shutdown) = (Arc::clone(cluster), shutdown.clone());
    tasks.spawn(async move {
        cluster.wait_synced().await;
        let reconcile = |_| {
            let is_sociable = Arc::clone(&is_sociable);
            reconcile(Arc::clone(&cluster), Arc::clone(&assumed), is_sociable)
        };
        queue.run("scheduler", shutdown.clone(), reconcile).await;
    });
}

/// The pods that wait and, if there are any, those that have their place.
fn concerned(cluster: &Cluster, nodes: &[Arc<Node>]) -> Vec<Arc<Pod>> {
    let waiting = everywhere(terms::WAITING);
    let mut concerned = cluster.pods.found_by("", &waiting, plan::is_waiting);
    if concerned.is_empty() {
        return concerned;
    }
    let names = nodes
        .iter()
        .filter_map(|node| node.metadata.name.as_deref());
    concerned.extend(names.flat_map(|name| pods::of_node(cluster, name)));
    concerned
}

/// Whether what pods say about each other may come out differently.
fn changes_company(old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) -> bool {
    let shown = |pod: Option<&Arc<Pod>>| {
        pod.map(|pod| {
            (
                pods::node_name(pod).map(str::to_owned),
                pod.metadata.labels.clone(),
            )
        })
    };
    shown(old) != shown(new)
}

async fn reconcile(
    cluster: Arc<Cluster>,
    assumed: Assumed,
    is_sociable: Arc<AtomicBool>,
) -> Result<Next, Error> {
    let decisions = {
        // Whoever is no longer assumed to have a place by then shows it.
        let assumed = assumed.lock().unwrap_or_else(PoisonError::into_inner);
        let nodes = cluster.nodes.all();
        let pods = concerned(&cluster, &nodes);
        plan::plan(&plan::Snapshot {
            pods: &pods,
            nodes: &nodes,
            namespaces: &cluster.namespaces.all(),
            assumed: &assumed,
        })
    };
    let waits_for_others = |decision: &plan::Decision| match decision {
        plan::Decision::Wait { pod, .. } => topology::matters(pod),
        plan::Decision::Bind { .. } => false,
    };
    is_sociable.store(decisions.iter().any(waits_for_others), Ordering::Relaxed);
    let outcomes = decisions.into_iter().map(|decision| {
        let (cluster, assumed) = (&cluster, &assumed);
        async move {
            match decision {
                plan::Decision::Bind { pod, node } => bind(cluster, assumed, &pod, node).await,
                plan::Decision::Wait {
                    pod,
                    reason,
                    message,
                } => wait(cluster, &pod, reason, message).await,
            }
        }
    });
    let outcomes = join_all(outcomes).await;
    outcomes
        .into_iter()
        .collect::<Result<(), Error>>()
        .map(|()| Next::OnChange)
}

async fn bind(cluster: &Cluster, assumed: &Assumed, pod: &Pod, node: String) -> Result<(), Error> {
    let key = Key::of(pod);
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            uid: Some(uid.clone()),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.clone()),
            ..ObjectReference::default()
        },
    };
    assumed
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(uid.clone(), node.clone());
    match post_binding(cluster, &key, &binding).await {
        Ok(()) => {
            let message = format!("Successfully assigned {key} to {node}");
            cluster
                .recorder
                .record(COMPONENT, pod, Notice::normal("Scheduled", message));
            Ok(())
        }
        Err(source) => {
            assumed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&uid);
            let error = failure::<Pod>("bind", key, source);
            if error.is_not_found() {
                return Ok(());
            }
            Err(error)
        }
    }
}

async fn post_binding(cluster: &Cluster, key: &Key, binding: &Binding) -> Result<(), kube::Error> {
    let body = serde_json::to_vec(binding).map_err(kube::Error::SerdeError)?;
    let params = PostParams {
        field_manager: Some("kube-scheduler".to_owned()),
        ..PostParams::default()
    };
    let request = resource::<Pod>(&key.namespace)
        .create_subresource("binding", &key.name, &params, body)
        .map_err(kube::Error::BuildRequest)?;
    cluster.client.request::<Value>(request).await.map(|_| ())
}

async fn wait(
    cluster: &Cluster,
    pod: &Pod,
    reason: &'static str,
    message: String,
) -> Result<(), Error> {
    let told = pods::condition(pod, "PodScheduled").is_some_and(|condition| {
        condition.status == "False"
            && condition.reason.as_deref() == Some(reason)
            && condition.message.as_ref() == Some(&message)
    });
    if told {
        return Ok(());
    }
    if reason == plan::UNSCHEDULABLE {
        let notice = Notice::warning("FailedScheduling", message.clone());
        cluster.recorder.record(COMPONENT, pod, notice);
    }
    let earlier = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let mut conditions: Vec<Value> = earlier
        .iter()
        .filter(|condition| condition.type_ != "PodScheduled")
        .map(|condition| json!(condition))
        .collect();
    conditions.push(json!({
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": Time(Timestamp::now()),
    }));
    let write = Write::MergeStatus {
        key: Key::of(pod),
        patch: json!({
            "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
            "status": {"conditions": conditions},
        }),
    };
    match perform::<Pod>(&cluster.client, write).await {
        Err(error) if !error.is_not_found() => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
