//! What one DaemonSet's plan looks at, node by node.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::node::{Place, place, target};
use crate::controllers::pods;
use crate::controllers::write::Write;

/// Everything one DaemonSet's plan looks at.
pub(super) struct Snapshot<'a> {
    pub(super) set: &'a DaemonSet,
    /// Hash of the present template.
    pub(super) hash: &'a str,
    /// Adoptions and releases still to be made.
    pub(super) claimed: Vec<Write<Pod>>,
    /// The daemon's pods.
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) now: Timestamp,
}

/// The daemon's pods on one node, oldest first.
pub(super) type NodePods = Vec<Arc<Pod>>;

fn by_node(snapshot: &Snapshot<'_>) -> BTreeMap<String, NodePods> {
    let mut by_node: BTreeMap<String, NodePods> = BTreeMap::new();
    for pod in &snapshot.pods {
        let node = target(pod).unwrap_or_default().to_owned();
        by_node.entry(node).or_default().push(Arc::clone(pod));
    }
    for on_node in by_node.values_mut() {
        on_node.sort_by_key(|pod| {
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (
                pods::node_name(pod).is_none(),
                created,
                pod.metadata.name.clone(),
            )
        });
    }
    by_node
}

/// Every node, with whether a daemon's pod has its place there and those it has.
pub(super) fn nodes<'a>(snapshot: &'a Snapshot<'_>) -> Vec<(Place, &'a Arc<Node>, NodePods)> {
    let mut by_node = by_node(snapshot);
    let placed = snapshot.nodes.iter().map(|node| {
        let on_node = by_node.remove(node.metadata.name.as_deref().unwrap_or_default());
        (place(snapshot.set, node), node, on_node.unwrap_or_default())
    });
    placed.collect()
}
