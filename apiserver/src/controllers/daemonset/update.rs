//! Rolling a daemon to a new template, a bounded number of nodes at a time.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::node::{Place, hash, pod};
use super::snapshot::{NodePods, Snapshot};
use crate::controllers::pods::{self, Availability, availability};
use crate::controllers::replicas::PodWrites;

/// Adds what the rolling update wants to the writes that keep one pod a node.
pub(super) fn roll(
    snapshot: &Snapshot<'_>,
    nodes: &[(Place, &Arc<Node>, NodePods)],
    writes: &mut PodWrites,
) {
    let strategy = snapshot.set.spec.update_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return;
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let total = nodes
        .iter()
        .filter(|(place, ..)| *place == Place::Runs)
        .count();
    let surge = scaled(
        rolling.and_then(|rolling| rolling.max_surge.as_ref()),
        total,
        0,
    );
    if surge > 0 {
        replace_beside(snapshot, nodes, surge, writes);
    } else {
        let unavailable = scaled(
            rolling.and_then(|rolling| rolling.max_unavailable.as_ref()),
            total,
            1,
        );
        replace_in_turn(snapshot, nodes, unavailable, writes);
    }
}

struct Versions {
    old: Vec<Arc<Pod>>,
    new: Vec<Arc<Pod>>,
}

fn versions(snapshot: &Snapshot<'_>, on_node: &NodePods) -> Versions {
    let staying = on_node.iter().filter(|pod| pods::is_active(pod)).cloned();
    let (new, old) = staying.partition(|pod| hash(pod) == Some(snapshot.hash));
    Versions { old, new }
}

fn is_available(snapshot: &Snapshot<'_>, pod: &Pod) -> bool {
    let seconds = snapshot.set.spec.min_ready_seconds.unwrap_or(0);
    availability(pod, seconds, snapshot.now) == Availability::Available
}

/// Removes old pods; the pass that sees them gone makes the new ones.
fn replace_in_turn(
    snapshot: &Snapshot<'_>,
    nodes: &[(Place, &Arc<Node>, NodePods)],
    max: usize,
    writes: &mut PodWrites,
) {
    let mut unavailable = 0;
    let (mut broken, mut working) = (Vec::new(), Vec::new());
    for (place, _, on_node) in nodes {
        if *place != Place::Runs {
            continue;
        }
        let Versions { old, new } = versions(snapshot, on_node);
        match (old.first(), new.first()) {
            (None, None) | (Some(_), Some(_)) => unavailable += 1,
            (None, Some(new)) => unavailable += usize::from(!is_available(snapshot, new)),
            (Some(old), None) if is_available(snapshot, old) => working.push(Arc::clone(old)),
            (Some(old), None) => {
                unavailable += 1;
                broken.push(Arc::clone(old));
            }
        }
    }
    let allowed = max.saturating_sub(unavailable);
    let chosen = broken.into_iter().chain(working.into_iter().take(allowed));
    for pod in chosen {
        if !writes.deleted.contains(&pod) {
            writes.deleted.push(pod);
        }
    }
}

/// Makes new pods beside the old ones, and removes an old one once its successor is available.
fn replace_beside(
    snapshot: &Snapshot<'_>,
    nodes: &[(Place, &Arc<Node>, NodePods)],
    max: usize,
    writes: &mut PodWrites,
) {
    let mut surging = 0;
    let mut waiting = Vec::new();
    for (place, node, on_node) in nodes {
        if *place != Place::Runs {
            continue;
        }
        let Versions { old, new } = versions(snapshot, on_node);
        match (old.first(), new.first()) {
            (Some(old), Some(new))
                if is_available(snapshot, new) || !is_available(snapshot, old) =>
            {
                writes.deleted.push(Arc::clone(old));
            }
            (Some(_), Some(_)) => surging += 1,
            (Some(old), None) if is_available(snapshot, old) => waiting.push(*node),
            (Some(old), None) => writes.deleted.push(Arc::clone(old)),
            (None, _) => {}
        }
    }
    let allowed = max.saturating_sub(surging);
    let made = waiting
        .into_iter()
        .take(allowed)
        .map(|node| pod(snapshot.set, node, snapshot.hash));
    writes.created.extend(made);
}

/// A number, or a percentage of `total` rounded up.
fn scaled(value: Option<&IntOrString>, total: usize, default: usize) -> usize {
    match value {
        None => default,
        Some(IntOrString::Int(number)) => usize::try_from(*number).unwrap_or(0),
        Some(IntOrString::String(text)) => {
            let percent: usize = text.trim_end_matches('%').parse().unwrap_or(0);
            (percent * total).div_ceil(100)
        }
    }
}
