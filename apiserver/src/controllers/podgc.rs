//! Pod garbage: pods of nodes that no longer exist, and ended pods beyond the number kept.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::pods;
use super::queue::{Next, Queue};
use super::terms::{ENDED, UNPLACED, everywhere};
use super::write::{Error, Write, perform_all};

/// How long a node may be missing before its pods are given up.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Ended pods kept, as kube-controller-manager's `--terminated-pod-gc-threshold`.
const ENDED_MAX: usize = 12_500;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Work {
    /// A node that was missing when last looked.
    Missing(String),
    Ended,
    /// Pods deleted before they ever got a node.
    Unplaced,
}

/// Adds the collector's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    let left = Arc::clone(&queue);
    cluster.nodes.observe(move |old, new| {
        if let (Some(node), None) = (old, new) {
            left.add_after(
                Work::Missing(node.metadata.name.clone().unwrap_or_default()),
                QUARANTINE,
            );
        }
    });
    let (known, changed) = (Arc::downgrade(cluster), Arc::clone(&queue));
    cluster.pods.observe(move |old, new| {
        let (Some(pod), Some(cluster)) = (new, known.upgrade()) else {
            return;
        };
        if pods::is_terminal(pod) && !old.is_some_and(|old| pods::is_terminal(old)) {
            changed.add(Work::Ended);
        }
        match pods::node_name(pod) {
            Some(node) if cluster.nodes.get("", node).is_none() => {
                changed.add_after(Work::Missing(node.to_owned()), QUARANTINE);
            }
            Some(_) => {}
            None if pods::is_terminating(pod) => changed.add(Work::Unplaced),
            None => {}
        }
    });
    cluster.reconcile("podgc", queue, reconcile, shutdown, tasks);
}

async fn reconcile(cluster: Arc<Cluster>, work: Work) -> Result<Next, Error> {
    let doomed = match work {
        Work::Missing(node) if cluster.nodes.get("", &node).is_some() => Vec::new(),
        Work::Missing(node) => pods::of_node(&cluster, &node),
        Work::Ended => {
            let term = everywhere(ENDED);
            if cluster.pods.count_by("", &term) <= ENDED_MAX {
                return Ok(Next::OnChange);
            }
            surplus(cluster.pods.found_by("", &term, is_ended), ENDED_MAX)
        }
        Work::Unplaced => cluster
            .pods
            .found_by("", &everywhere(UNPLACED), is_unplaced),
    };
    let writes = doomed
        .iter()
        .map(|pod| Write::remove(pod.as_ref()))
        .collect();
    perform_all(&cluster.client, writes).await?;
    Ok(Next::OnChange)
}

fn is_unplaced(pod: &Pod) -> bool {
    pods::is_terminating(pod) && pods::node_name(pod).is_none() && pod.metadata.finalizers.is_none()
}

fn is_ended(pod: &Pod) -> bool {
    pods::is_terminal(pod) && !pods::is_terminating(pod)
}

/// Those of the ended pods that are beyond `max`, oldest first.
fn surplus(mut ended: Vec<Arc<Pod>>, max: usize) -> Vec<Arc<Pod>> {
    let count = ended.len().saturating_sub(max);
    if count > 0 {
        ended.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
    }
    ended.truncate(count);
    ended
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str, phase: &str, minute: u8, leaving: Option<&str>) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": name, "creationTimestamp": format!("2026-06-01T12:{minute:02}:00Z"), "deletionTimestamp": leaving},
            "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn only_garbage_is_removed() {
        let gone = Some("2026-06-01T12:00:00Z");
        let pods = [
            pod("old", "a", "Succeeded", 1, None),
            pod("older", "b", "Failed", 0, None),
            pod("new", "b", "Succeeded", 2, None),
            pod("running", "b", "Running", 0, None),
            pod("unplaced", "", "Pending", 0, gone),
            pod("leaving", "a", "Failed", 0, gone),
        ];
        let names = |pods: Vec<Arc<Pod>>| -> Vec<String> {
            pods.iter()
                .filter_map(|p| p.metadata.name.clone())
                .collect()
        };
        let those = |wanted: fn(&Pod) -> bool| -> Vec<Arc<Pod>> {
            pods.iter().filter(|pod| wanted(pod)).cloned().collect()
        };
        assert_eq!(names(surplus(those(is_ended), 1)), ["older", "old"]);
        assert_eq!(names(surplus(those(is_ended), 3)), Vec::<String>::new());
        assert_eq!(names(those(is_unplaced)), ["unplaced"]);
    }
}
