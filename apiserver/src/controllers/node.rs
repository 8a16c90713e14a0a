//! The node lifecycle controller: notices nodes that fall silent, taints them, and moves their pods away in time.

mod ages;
mod eviction;
mod health;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::ages::Ages;
use super::cluster::Cluster;
use super::event::Notice;
use super::pods;
use super::queue::{Next, Queue};
use super::write::{Error, Write, perform, perform_all};

const COMPONENT: &str = "node-controller";
const EVICTION_COMPONENT: &str = "taint-eviction-controller";

/// What was heard of nodes and when, by a clock that nobody sets: nodes' clocks may be wrong, and so may this machine's.
#[derive(Default)]
struct Heard {
    last: HashMap<String, Instant>,
    taints: Ages,
}

type Ears = Arc<Mutex<Heard>>;

fn lock(heard: &Ears) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds the controller's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    let heard = Ears::default();
    observe_heartbeats(cluster, &heard);
    let (known, nodes) = (Arc::clone(&heard), Arc::clone(&queue));
    cluster.nodes.observe(move |old, new| {
        let Some(name) = old.or(new).and_then(|node| node.metadata.name.clone()) else {
            return;
        };
        let mut heard = lock(&known);
        if new.is_none() {
            heard.last.remove(&name);
            heard.taints.forget(&name);
            return;
        }
        if health::reported(old.map(Arc::as_ref)) != health::reported(new.map(Arc::as_ref))
            || old.is_none()
        {
            heard.last.insert(name.clone(), Instant::now());
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
    let (cluster, shutdown, known) = (Arc::clone(cluster), shutdown.clone(), Arc::clone(&heard));
    tasks.spawn(async move {
        cluster.wait_synced().await;
        let reconcile = |name| reconcile(Arc::clone(&cluster), Arc::clone(&known), name);
        queue.run("node", shutdown.clone(), reconcile).await;
    });
}

fn observe_heartbeats(cluster: &Arc<Cluster>, heard: &Ears) {
    let heard = Arc::clone(heard);
    cluster.leases.observe(move |old, new| {
        let renewed = |lease: Option<&Arc<k8s_openapi::api::coordination::v1::Lease>>| {
            lease.and_then(|lease| lease.spec.as_ref()?.renew_time.clone())
        };
        let Some(name) = new.and_then(|lease| lease.metadata.name.clone()) else {
            return;
        };
        if renewed(old) != renewed(new) {
            lock(&heard).last.insert(name, Instant::now());
        }
    });
}

async fn reconcile(cluster: Arc<Cluster>, heard: Ears, name: String) -> Result<Next, Error> {
    let now = Timestamp::now();
    let Some(node) = cluster.nodes.get("", &name) else {
        return Ok(Next::OnChange);
    };
    let last = lock(&heard).last.get(&name).copied();
    let silence = last.map_or(Duration::ZERO, |last| last.elapsed());
    let plan = health::plan(&node, silence, now);
    if let Some(status) = plan.status {
        perform(&cluster.client, status).await?;
        cluster.tell(COMPONENT, node.as_ref(), plan.notices);
        // Taints follow from the conditions just written, as everybody will see them.
        return Ok(Next::After(Duration::ZERO));
    }
    if let Some(taints) = plan.taints {
        perform(&cluster.client, taints).await?;
        return Ok(Next::After(Duration::ZERO));
    }
    let mine = pods::of_node(&cluster, &name);
    let marks = health::unready(&node, &mine, now);
    for (pod, _) in &marks {
        let notice = Notice::warning("NodeNotReady", "Node is not ready");
        cluster.recorder.record(COMPONENT, pod.as_ref(), notice);
    }
    let marks = marks.into_iter().map(|(_, write)| write).collect();
    perform_all(&cluster.client, marks).await?;
    let bears = lock(&heard).taints.note(&node, now, Instant::now());
    let evictions = eviction::plan(&bears, &mine);
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
