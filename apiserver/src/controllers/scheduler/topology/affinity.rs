//! Pods that want to be, or must not be, in one domain with certain others.

use k8s_openapi::api::core::v1::{Node, Pod, PodAffinityTerm, WeightedPodAffinityTerm};

use super::{Counts, Surroundings, domain, namespace};
use crate::controllers::scheduler::fit::Misfit;
use crate::controllers::selector;

pub(super) struct Affinity {
    /// The keys of the terms that must hold.
    keys: Vec<String>,
    /// Pods that all of those terms select.
    wanted: Counts,
    /// A pod that its own terms select may be the first of its kind.
    may_be_first: bool,
    /// Pods that the pod must not meet.
    shunned: Counts,
    /// Pods that must not meet the pod.
    shunning: Counts,
    preferred: Counts,
    preferred_keys: Vec<String>,
}

impl Affinity {
    pub(super) fn of(pod: &Pod, around: &Surroundings<'_>) -> Affinity {
        let wanted = required(pod, Side::Together);
        let shunned = required(pod, Side::Apart);
        let own = |term: &&PodAffinityTerm| selects(term, pod, pod, around);
        let mut affinity = Affinity {
            keys: wanted
                .iter()
                .map(|term| term.topology_key.clone())
                .collect(),
            wanted: Counts::default(),
            may_be_first: wanted.iter().all(own),
            shunned: Counts::default(),
            shunning: Counts::default(),
            preferred: Counts::default(),
            preferred_keys: Vec::new(),
        };
        let weighted: Vec<(i64, &PodAffinityTerm)> = preferred(pod).collect();
        for (_, term) in &weighted {
            if !affinity.preferred_keys.contains(&term.topology_key) {
                affinity.preferred_keys.push(term.topology_key.clone());
            }
        }
        for place in around.places {
            for other in place.pods {
                let is_wanted = wanted.iter().all(|term| selects(term, pod, other, around));
                for term in wanted.iter().filter(|_| is_wanted) {
                    affinity.wanted.add(&term.topology_key, place.node, 1);
                }
                for term in shunned
                    .iter()
                    .filter(|term| selects(term, pod, other, around))
                {
                    affinity.shunned.add(&term.topology_key, place.node, 1);
                }
                for term in required(other, Side::Apart) {
                    if selects(term, other, pod, around) {
                        affinity.shunning.add(&term.topology_key, place.node, 1);
                    }
                }
                for (weight, term) in &weighted {
                    if selects(term, pod, other, around) {
                        affinity
                            .preferred
                            .add(&term.topology_key, place.node, *weight);
                    }
                }
            }
        }
        affinity
    }

    pub(super) fn admits(&self, node: &Node) -> Result<(), Misfit> {
        if self.keys.iter().any(|key| domain(node, key).is_none()) {
            return Err(Misfit::Affinity);
        }
        let is_met = self.keys.iter().all(|key| self.wanted.at(key, node) > 0);
        let is_first = self.wanted.is_empty() && self.may_be_first;
        if !(is_met || is_first) {
            return Err(Misfit::Affinity);
        }
        let meets = |counts: &Counts| {
            let mut labels = node.metadata.labels.iter().flatten();
            labels.any(|(key, _)| counts.at(key, node) > 0)
        };
        if meets(&self.shunned) {
            return Err(Misfit::AntiAffinity);
        }
        if meets(&self.shunning) {
            return Err(Misfit::ExistingAntiAffinity);
        }
        Ok(())
    }

    pub(super) fn score(&self, node: &Node) -> i64 {
        let keys = self.preferred_keys.iter();
        keys.map(|key| self.preferred.at(key, node)).sum()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Together,
    Apart,
}

fn required(pod: &Pod, side: Side) -> Vec<&PodAffinityTerm> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let terms = affinity.and_then(|affinity| match side {
        Side::Together => {
            let together = affinity.pod_affinity.as_ref()?;
            together
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        }
        Side::Apart => {
            let apart = affinity.pod_anti_affinity.as_ref()?;
            apart
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        }
    });
    terms.into_iter().flatten().collect()
}

/// Terms that are no must, with their weight: below zero for those to be apart from.
fn preferred(pod: &Pod) -> impl Iterator<Item = (i64, &PodAffinityTerm)> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let together = affinity
        .and_then(|affinity| affinity.pod_affinity.as_ref())
        .and_then(|a| {
            a.preferred_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let apart = affinity
        .and_then(|affinity| affinity.pod_anti_affinity.as_ref())
        .and_then(|a| {
            a.preferred_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let with_sign =
        |sign: i64| move |term: &'_ WeightedPodAffinityTerm| sign * i64::from(term.weight);
    let (more, less) = (with_sign(1), with_sign(-1));
    let together = together.into_iter().flatten();
    let apart = apart.into_iter().flatten();
    together
        .map(move |term| (more(term), &term.pod_affinity_term))
        .chain(apart.map(move |term| (less(term), &term.pod_affinity_term)))
}

/// Whether a term of `owner` means `other`.
fn selects(term: &PodAffinityTerm, owner: &Pod, other: &Pod, around: &Surroundings<'_>) -> bool {
    let Some(wanted) = &term.label_selector else {
        return false;
    };
    let own = owner.metadata.labels.as_ref();
    let others = other.metadata.labels.as_ref();
    let value = |labels: Option<&selector::Labels>, key: &String| {
        labels.and_then(|labels| labels.get(key)).cloned()
    };
    let same = |key: &String| value(own, key).is_none() || value(own, key) == value(others, key);
    let differs = |key: &String| value(own, key).is_none() || value(own, key) != value(others, key);
    selector::matches(wanted, others)
        && term.match_label_keys.iter().flatten().all(same)
        && term.mismatch_label_keys.iter().flatten().all(differs)
        && means_namespace(term, namespace(owner), namespace(other), around)
}

/// Named namespaces and selected ones; the owner's where the term says neither.
fn means_namespace(
    term: &PodAffinityTerm,
    own: &str,
    other: &str,
    around: &Surroundings<'_>,
) -> bool {
    let named = term.namespaces.as_deref().unwrap_or_default();
    let Some(wanted) = &term.namespace_selector else {
        return match named {
            [] => own == other,
            named => named.iter().any(|name| name == other),
        };
    };
    let mut namespaces = around.namespaces.iter();
    let labels = namespaces
        .find(|namespace| namespace.metadata.name.as_deref() == Some(other))
        .and_then(|namespace| namespace.metadata.labels.as_ref());
    named.iter().any(|name| name == other) || selector::matches(wanted, labels)
}
