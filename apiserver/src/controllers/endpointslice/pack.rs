//! Packing: which endpoint goes into which slice of one family and port map, moving as few as possible.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::endpoint::{Candidate, Identity, identity};
use crate::controllers::selector::Labels;

/// Endpoints a slice holds at most, as kube-controller-manager's `--max-endpoints-per-slice`.
pub(super) const ENDPOINTS_MAX: usize = 100;

/// Where the endpoints of one family and port map go.
#[derive(Default)]
pub(super) struct Packing {
    /// Slices whose endpoints or labels change, with what they will hold.
    pub(super) updated: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)>,
    pub(super) unchanged: Vec<Arc<EndpointSlice>>,
    pub(super) emptied: Vec<Arc<EndpointSlice>>,
    pub(super) created: Vec<Vec<Endpoint>>,
    /// The earliest moment that made one of the endpoints new or different.
    pub(super) trigger: Option<Timestamp>,
}

/// Fits `candidates` into `slices`: keep what is there, top up slices written anyway, then one that fits, then new ones.
pub(super) fn pack(
    slices: &[Arc<EndpointSlice>],
    candidates: Vec<Candidate>,
    labels: &Labels,
) -> Packing {
    let mut wanted: BTreeMap<Identity, Candidate> = BTreeMap::new();
    let mut order: Vec<Identity> = Vec::new();
    for candidate in candidates {
        let identity = identity(&candidate.endpoint);
        if wanted.insert(identity.clone(), candidate).is_none() {
            order.push(identity);
        }
    }
    let mut packing = Packing::default();
    for slice in slices {
        packing.keep(slice, &mut wanted, labels);
    }
    let placed_by_pod = order
        .into_iter()
        .filter_map(|identity| wanted.remove(&identity));
    let mut remaining: Vec<Candidate> = placed_by_pod.collect();
    for candidate in &remaining {
        packing.triggered_at(candidate.since);
    }
    packing.top_up(&mut remaining);
    packing.place_rest(remaining);
    packing
}

impl Packing {
    /// Keeps in `slice` what is still wanted, in its new form.
    fn keep(
        &mut self,
        slice: &Arc<EndpointSlice>,
        wanted: &mut BTreeMap<Identity, Candidate>,
        labels: &Labels,
    ) {
        let before = slice.endpoints.as_deref().unwrap_or_default();
        let mut after = Vec::with_capacity(before.len());
        let mut changed = false;
        for endpoint in before {
            let Some(candidate) = wanted.remove(&identity(endpoint)) else {
                continue;
            };
            if !same(endpoint, &candidate.endpoint) {
                changed = true;
                self.triggered_at(candidate.since);
            }
            after.push(candidate.endpoint);
        }
        if changed || before.len() != after.len() {
            if after.is_empty() {
                self.emptied.push(Arc::clone(slice));
            } else {
                self.updated.push((Arc::clone(slice), after));
            }
        } else if slice.metadata.labels.as_ref() != Some(labels) {
            self.updated.push((Arc::clone(slice), after));
        } else {
            self.unchanged.push(Arc::clone(slice));
        }
    }

    fn top_up(&mut self, remaining: &mut Vec<Candidate>) {
        self.updated
            .sort_by_key(|(_, endpoints)| std::cmp::Reverse(endpoints.len()));
        for (_, endpoints) in &mut self.updated {
            let room = ENDPOINTS_MAX
                .saturating_sub(endpoints.len())
                .min(remaining.len());
            endpoints.extend(remaining.drain(..room).map(|candidate| candidate.endpoint));
        }
    }

    fn place_rest(&mut self, mut remaining: Vec<Candidate>) {
        while !remaining.is_empty() {
            let count = remaining.len().min(ENDPOINTS_MAX);
            let fitting = if remaining.len() < ENDPOINTS_MAX {
                self.fullest_with_room(remaining.len())
            } else {
                None
            };
            let added = remaining.drain(..count).map(|candidate| candidate.endpoint);
            match fitting {
                Some(index) => {
                    let slice = self.unchanged.remove(index);
                    let mut endpoints = slice.endpoints.clone().unwrap_or_default();
                    endpoints.extend(added);
                    self.updated.push((slice, endpoints));
                }
                None => self.created.push(added.collect()),
            }
        }
    }

    fn fullest_with_room(&self, count: usize) -> Option<usize> {
        let sizes = self
            .unchanged
            .iter()
            .map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len));
        sizes
            .enumerate()
            .filter(|(_, size)| size + count <= ENDPOINTS_MAX)
            .max_by_key(|(_, size)| *size)
            .map(|(index, _)| index)
    }

    fn triggered_at(&mut self, since: Option<Timestamp>) {
        self.trigger = match (self.trigger, since) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// Says whether two forms of one endpoint differ only in hints.
fn same(a: &Endpoint, b: &Endpoint) -> bool {
    let target = |e: &Endpoint| {
        let target = e.target_ref.as_ref();
        target.map(|t| {
            (
                t.kind.clone(),
                t.namespace.clone(),
                t.name.clone(),
                t.uid.clone(),
            )
        })
    };
    a.node_name == b.node_name
        && a.zone == b.zone
        && a.conditions == b.conditions
        && target(a) == target(b)
}
