//! Where other pods are, as far as a pod cares: affinity, anti-affinity and spreading over topology domains.
//!
//! A domain is the set of nodes that share the value of one label.

mod affinity;
mod spread;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};

use self::affinity::Affinity;
use self::spread::Spread;
use super::fit::Misfit;

/// A node and the pods on it.
pub(super) struct Place<'a> {
    pub(super) node: &'a Node,
    pub(super) pods: &'a [Arc<Pod>],
}

/// Everything that decides where a pod may be with regard to others.
pub(super) struct Surroundings<'a> {
    pub(super) places: &'a [Place<'a>],
    pub(super) namespaces: &'a [Arc<Namespace>],
}

/// What one waiting pod asks of the pods around it, counted once for all nodes.
pub(super) struct Company {
    affinity: Affinity,
    spread: Spread,
}

/// Whether a pod, or one that is there already, cares about others at all.
pub(super) fn matters(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let affinity = spec.affinity.as_ref();
    let cares = affinity.is_some_and(|a| a.pod_affinity.is_some() || a.pod_anti_affinity.is_some());
    let spreads = spec.topology_spread_constraints.as_ref();
    cares || spreads.is_some_and(|constraints| !constraints.is_empty())
}

impl Company {
    pub(super) fn of(pod: &Pod, around: &Surroundings<'_>) -> Company {
        Company {
            affinity: Affinity::of(pod, around),
            spread: Spread::of(pod, around),
        }
    }

    /// Whether the pod may join those on a node.
    pub(super) fn admits(&self, node: &Node) -> Result<(), Misfit> {
        self.affinity.admits(node)?;
        self.spread.admits(node)
    }

    /// How welcome the pod is; more is better.
    pub(super) fn score(&self, node: &Node) -> i64 {
        self.affinity.score(node) + self.spread.score(node)
    }
}

/// The value of a node's label, which names its domain.
fn domain<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    let labels = node.metadata.labels.as_ref()?;
    labels.get(key).map(String::as_str)
}

/// Counts by topology key and domain.
#[derive(Default)]
struct Counts(HashMap<(String, String), i64>);

impl Counts {
    fn add(&mut self, key: &str, node: &Node, count: i64) {
        if let Some(domain) = domain(node, key) {
            let entry = self.0.entry((key.to_owned(), domain.to_owned()));
            *entry.or_default() += count;
        }
    }

    fn at(&self, key: &str, node: &Node) -> i64 {
        let Some(domain) = domain(node, key) else {
            return 0;
        };
        let place = (key.to_owned(), domain.to_owned());
        self.0.get(&place).copied().unwrap_or(0)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}
