//! Pods that are to be spread evenly over domains.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Node, Pod, TopologySpreadConstraint};

use super::{Surroundings, domain, namespace};
use crate::controllers::pods;
use crate::controllers::scheduler::fit::{self, Misfit};
use crate::controllers::selector;

pub(super) struct Spread {
    musts: Vec<Domains>,
    wishes: Vec<Domains>,
}

/// The domains of one constraint, with the pods in each that count.
struct Domains {
    key: String,
    counts: HashMap<String, i64>,
    skew_max: i64,
    domains_min: i64,
    /// What the pod itself adds to a domain.
    own: i64,
}

impl Spread {
    pub(super) fn of(pod: &Pod, around: &Surroundings<'_>) -> Spread {
        let spec = pod.spec.as_ref();
        let constraints = spec.and_then(|spec| spec.topology_spread_constraints.as_deref());
        let (musts, wishes): (Vec<_>, Vec<_>) = constraints
            .unwrap_or_default()
            .iter()
            .partition(|constraint| constraint.when_unsatisfiable == "DoNotSchedule");
        let counted = |all: Vec<&TopologySpreadConstraint>| {
            let keys: Vec<&str> = all.iter().map(|one| one.topology_key.as_str()).collect();
            let count = |one: &&TopologySpreadConstraint| Domains::of(one, &keys, pod, around);
            all.iter().map(count).collect()
        };
        Spread {
            musts: counted(musts),
            wishes: counted(wishes),
        }
    }

    pub(super) fn admits(&self, node: &Node) -> Result<(), Misfit> {
        if self
            .musts
            .iter()
            .any(|must| domain(node, &must.key).is_none())
        {
            return Err(Misfit::SpreadLabel);
        }
        if self.musts.iter().all(|must| must.admits(node)) {
            Ok(())
        } else {
            Err(Misfit::Spread)
        }
    }

    pub(super) fn score(&self, node: &Node) -> i64 {
        let crowd = |wish: &Domains| {
            let domain = domain(node, &wish.key)?;
            wish.counts.get(domain).copied()
        };
        -self.wishes.iter().filter_map(crowd).sum::<i64>()
    }
}

impl Domains {
    fn of(
        constraint: &TopologySpreadConstraint,
        keys: &[&str],
        pod: &Pod,
        around: &Surroundings<'_>,
    ) -> Domains {
        let mut domains = Domains {
            key: constraint.topology_key.clone(),
            counts: HashMap::new(),
            skew_max: i64::from(constraint.max_skew),
            domains_min: constraint.min_domains.unwrap_or(1).into(),
            own: i64::from(counts(constraint, pod, pod)),
        };
        for place in around.places {
            let has_all = keys.iter().all(|key| domain(place.node, key).is_some());
            if !has_all || !is_eligible(constraint, pod, place.node) {
                continue;
            }
            let Some(name) = domain(place.node, &domains.key) else {
                continue;
            };
            let staying = place
                .pods
                .iter()
                .filter(|other| !pods::is_terminating(other));
            let here = staying
                .filter(|other| counts(constraint, pod, other))
                .count();
            *domains.counts.entry(name.to_owned()).or_default() +=
                i64::try_from(here).unwrap_or(i64::MAX);
        }
        domains
    }

    fn admits(&self, node: &Node) -> bool {
        let Some(name) = domain(node, &self.key) else {
            return false;
        };
        let domain_count = i64::try_from(self.counts.len()).unwrap_or(i64::MAX);
        let least = match self.counts.values().min() {
            Some(least) if domain_count >= self.domains_min => *least,
            _ => 0,
        };
        let here = self.counts.get(name).copied().unwrap_or(0);
        here + self.own - least <= self.skew_max
    }
}

/// Whether `other` is one of those that `pod` is to be spread among.
fn counts(constraint: &TopologySpreadConstraint, pod: &Pod, other: &Pod) -> bool {
    let Some(wanted) = &constraint.label_selector else {
        return false;
    };
    let others = other.metadata.labels.as_ref();
    let value = |pod: &Pod, key: &String| {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(key)).cloned()
    };
    let same = |key: &String| value(pod, key).is_none() || value(pod, key) == value(other, key);
    namespace(pod) == namespace(other)
        && selector::matches(wanted, others)
        && constraint.match_label_keys.iter().flatten().all(same)
}

/// Nodes that the pod could not run on anyway make no domain, unless the constraint says otherwise.
fn is_eligible(constraint: &TopologySpreadConstraint, pod: &Pod, node: &Node) -> bool {
    let honours_selector = constraint.node_affinity_policy.as_deref() != Some("Ignore");
    let honours_taints = constraint.node_taints_policy.as_deref() == Some("Honor");
    (!honours_selector || fit::matches_node(pod, node))
        && (!honours_taints || fit::bears_taints(pod, node))
}
