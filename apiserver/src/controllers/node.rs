//! The node lifecycle controller: notices nodes that fall silent, taints them, and moves their pods away in time.

mod eviction;
mod health;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::event::Notice;
use super::pods;
use super::queue::{Next, Queue};
use super::write::{Error, Write, perform, perform_all};

const COMPONENT: &str = "node-controller";
const EVICTION_COMPONENT: &str = "taint-eviction-controller";

/// When each node was last heard of, by this machine's clock: nodes' clocks may be wrong.
type Heartbeats = Arc<Mutex<HashMap<String, Timestamp>>>;

/// Adds the controller's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    let heartbeats: Heartbeats = Arc::default();
    observe_heartbeats(cluster, &heartbeats);
    let (known, nodes) = (Arc::clone(&heartbeats), Arc::clone(&queue));
    cluster.nodes.observe(move |old, new| {
        let Some(name) = old.or(new).and_then(|node| node.metadata.name.clone()) else {
            return;
        };
        let mut heartbeats = known.lock().unwrap_or_else(PoisonError::into_inner);
        if new.is_none() {
            heartbeats.remove(&name);
            return;
        }
        if health::reported(old.map(Arc::as_ref)) != health::reported(new.map(Arc::as_ref))
            || old.is_none()
        {
            heartbeats.insert(name.clone(), Timestamp::now());
        }
        nodes.add(name);
    });
    let (known, crowded) = (Arc::downgrade(cluster), Arc::clone(&queue));
    cluster.pods.observe(move |_, new| {
        let (Some(pod), Some(cluster)) = (new, known.upgrade()) else {
            return;
        };
        let Some(node) = pods::node_name(pod).and_then(|name| cluster.nodes.get("", name)) else {
            return;
        };
        if eviction::is_evicting(&node) || health::is_silent(&node) {
            crowded.add(node.metadata.name.clone().unwrap_or_default());
        }
    });
    let (cluster, shutdown, known) = (
        Arc::clone(cluster),
        shutdown.clone(),
        Arc::clone(&heartbeats),
    );
    tasks.spawn(async move {
        cluster.wait_synced().await;
        let reconcile = |name| reconcile(Arc::clone(&cluster), Arc::clone(&known), name);
        queue.run("node", shutdown.clone(), reconcile).await;
    });
}

fn observe_heartbeats(cluster: &Arc<Cluster>, heartbeats: &Heartbeats) {
    let heartbeats = Arc::clone(heartbeats);
    cluster.leases.observe(move |old, new| {
        let renewed = |lease: Option<&Arc<k8s_openapi::api::coordination::v1::Lease>>| {
            lease.and_then(|lease| lease.spec.as_ref()?.renew_time.clone())
        };
        let Some(name) = new.and_then(|lease| lease.metadata.name.clone()) else {
            return;
        };
        if renewed(old) != renewed(new) {
            let mut heartbeats = heartbeats.lock().unwrap_or_else(PoisonError::into_inner);
            heartbeats.insert(name, Timestamp::now());
        }
    });
}

async fn reconcile(
    cluster: Arc<Cluster>,
    heartbeats: Heartbeats,
    name: String,
) -> Result<Next, Error> {
    let now = Timestamp::now();
    let Some(node) = cluster.nodes.get("", &name) else {
        return Ok(Next::OnChange);
    };
    let heard = heartbeats
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&name)
        .copied();
    let plan = health::plan(&node, heard.unwrap_or(now), now);
    if let Some(status) = plan.status {
        perform(&cluster.client, status).await?;
        cluster.tell(COMPONENT, node.as_ref(), plan.notices);
        // Taints follow from the conditions just written, as everybody will see them.
        return Ok(Next::After(std::time::Duration::ZERO));
    }
    if let Some(taints) = plan.taints {
        perform(&cluster.client, taints).await?;
        return Ok(Next::After(std::time::Duration::ZERO));
    }
    let mine = pods::of_node(&cluster, &name);
    let marks = health::unready(&node, &mine, now);
    for (pod, _) in &marks {
        let notice = Notice::warning("NodeNotReady", "Node is not ready");
        cluster.recorder.record(COMPONENT, pod.as_ref(), notice);
    }
    let marks = marks.into_iter().map(|(_, write)| write).collect();
    perform_all(&cluster.client, marks).await?;
    let evictions = eviction::plan(&node, &mine, now);
    evict(&cluster, evictions.due).await?;
    Ok(sooner(plan.next, evictions.next))
}

async fn evict(cluster: &Cluster, due: Vec<Arc<Pod>>) -> Result<(), Error> {
    let evictions = due.into_iter().map(|pod| async move {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let message = format!("Marking for deletion Pod {namespace}/{name}");
        let notice = Notice::normal("TaintManagerEviction", message);
        cluster
            .recorder
            .record(EVICTION_COMPONENT, pod.as_ref(), notice);
        perform(&cluster.client, Write::delete(pod.as_ref()))
            .await
            .map(|_| ())
    });
    join_all(evictions).await.into_iter().collect()
}

fn sooner(a: Next, b: Next) -> Next {
    match (a, b) {
        (Next::After(a), Next::After(b)) => Next::After(a.min(b)),
        (Next::After(delay), Next::OnChange) | (Next::OnChange, Next::After(delay)) => {
            Next::After(delay)
        }
        (Next::OnChange, Next::OnChange) => Next::OnChange,
    }
}
