//! Gives every node its pod CIDR: a part of the cluster's range that no other node has.

use std::collections::HashSet;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::event::Notice;
use super::queue::{Next, Queue};
use super::write::{Error, Write, perform};

const COMPONENT: &str = "cidrAllocator";
const IPV4_PREFIX: u8 = 24;
const IPV6_PREFIX: u8 = 64;

/// Nodes are served together, so that no two get the same range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Nodes;

/// Adds the allocator's observer and its loop.
pub(super) fn spawn(
    cluster: &Arc<Cluster>,
    ranges: Vec<IpNet>,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let queue = Queue::new();
    let changed = Arc::clone(&queue);
    cluster.nodes.observe(move |old, new| {
        let freed = new.is_none();
        let wanting = new.is_some_and(|node| cidrs(node).is_empty());
        if freed || wanting || old.is_none() {
            changed.add(Nodes);
        }
    });
    let (cluster, shutdown) = (Arc::clone(cluster), shutdown.clone());
    tasks.spawn(async move {
        cluster.wait_synced().await;
        let ranges: Arc<[IpNet]> = ranges.into();
        let reconcile = |_| reconcile(Arc::clone(&cluster), Arc::clone(&ranges));
        queue.run("podcidr", shutdown.clone(), reconcile).await;
    });
}

async fn reconcile(cluster: Arc<Cluster>, ranges: Arc<[IpNet]>) -> Result<Next, Error> {
    for (node, given) in plan(&cluster.nodes.all(), &ranges) {
        match given {
            Some(cidrs) => {
                let patch = json!({"spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs}});
                let outcome = perform(&cluster.client, Write::merge(node.as_ref(), patch)).await;
                match outcome {
                    Err(error) if !error.is_not_found() => return Err(error),
                    Ok(_) | Err(_) => {}
                }
            }
            None => {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                let message = format!("Node {name} status is now: CIDRNotAvailable");
                cluster.recorder.record(
                    COMPONENT,
                    node.as_ref(),
                    Notice::normal("CIDRNotAvailable", message),
                );
            }
        }
    }
    Ok(Next::OnChange)
}

fn cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else {
        return Vec::new();
    };
    let many = spec.pod_cidrs.iter().flatten();
    many.chain(&spec.pod_cidr)
        .filter_map(|cidr| cidr.parse().ok())
        .collect()
}

/// The nodes without pod CIDR and what each gets; `None` when a range is used up.
fn plan(nodes: &[Arc<Node>], ranges: &[IpNet]) -> Vec<(Arc<Node>, Option<Vec<IpNet>>)> {
    let mut used: HashSet<IpNet> = nodes.iter().flat_map(|node| cidrs(node)).collect();
    if ranges.is_empty() {
        return Vec::new();
    }
    let wanting = nodes
        .iter()
        .filter(|node| cidrs(node).is_empty() && node.metadata.deletion_timestamp.is_none());
    let mut plan = Vec::new();
    for node in wanting {
        let given: Option<Vec<IpNet>> = ranges.iter().map(|range| free(range, &used)).collect();
        used.extend(given.iter().flatten());
        plan.push((Arc::clone(node), given));
    }
    plan
}

fn free(range: &IpNet, used: &HashSet<IpNet>) -> Option<IpNet> {
    let prefix = match range {
        IpNet::V4(_) => IPV4_PREFIX,
        IpNet::V6(_) => IPV6_PREFIX,
    };
    let mut parts = range.subnets(prefix.max(range.prefix_len())).ok()?;
    let overlaps = |part: &IpNet| {
        used.iter()
            .any(|other| other.contains(part) || part.contains(other))
    };
    parts.find(|part| !overlaps(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ranges: &[&str], nodes: &[Option<&str>], expected: &[&str]) {
        let ranges: Vec<IpNet> = ranges
            .iter()
            .map(|range| range.parse().expect("a CIDR"))
            .collect();
        let nodes: Vec<Arc<Node>> = nodes
            .iter()
            .enumerate()
            .map(|(index, cidr)| {
                let node =
                    json!({"metadata": {"name": format!("n{index}")}, "spec": {"podCIDR": cidr}});
                Arc::new(serde_json::from_value(node).expect("a Node"))
            })
            .collect();
        let seen: Vec<String> = plan(&nodes, &ranges)
            .into_iter()
            .map(|(_, given)| match given {
                Some(cidrs) => cidrs
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(","),
                None => "none".to_owned(),
            })
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn nodes_get_the_first_free_part_of_each_range() {
        check(
            &["10.42.0.0/16"],
            &[None, None],
            &["10.42.0.0/24", "10.42.1.0/24"],
        );
        check(
            &["10.42.0.0/16"],
            &[Some("10.42.0.0/24"), None, Some("10.42.2.0/25"), None],
            &["10.42.1.0/24", "10.42.3.0/24"],
        );
        check(
            &["10.42.0.0/16", "fd42::/48"],
            &[None],
            &["10.42.0.0/24,fd42::/64"],
        );
        check(&["10.42.0.0/24"], &[None, None], &["10.42.0.0/24", "none"]);
        check(&["10.42.0.0/26"], &[None], &["10.42.0.0/26"]);
        check(&[], &[None], &[]);
    }
}
