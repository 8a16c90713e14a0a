//! Packing: which endpoint goes into which slice of one family and port map, moving as few as possible.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::endpoint::{Identity, identity};
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
}

/// Fits `candidates` into `slices`: keep what is there, top up slices written anyway, then one that fits, then new ones.
pub(super) fn pack(
    slices: &[Arc<EndpointSlice>],
    candidates: Vec<Endpoint>,
    labels: &Labels,
) -> Packing {
    let mut wanted: BTreeMap<Identity, Endpoint> = BTreeMap::new();
    let mut order: Vec<Identity> = Vec::new();
    for candidate in candidates {
        let identity = identity(&candidate);
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
    let mut remaining: Vec<Endpoint> = placed_by_pod.collect();
    packing.top_up(&mut remaining);
    packing.place_rest(remaining);
    packing
}

impl Packing {
    /// Keeps in `slice` what is still wanted, in its new form.
    fn keep(
        &mut self,
        slice: &Arc<EndpointSlice>,
        wanted: &mut BTreeMap<Identity, Endpoint>,
        labels: &Labels,
    ) {
        let before = slice.endpoints.as_deref().unwrap_or_default();
        let mut after = Vec::with_capacity(before.len());
        let mut changed = false;
        for endpoint in before {
            let Some(candidate) = wanted.remove(&identity(endpoint)) else {
                continue;
            };
            changed |= !same(endpoint, &candidate);
            after.push(candidate);
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

    fn top_up(&mut self, remaining: &mut Vec<Endpoint>) {
        self.updated
            .sort_by_key(|(_, endpoints)| std::cmp::Reverse(endpoints.len()));
        for (_, endpoints) in &mut self.updated {
            let room = ENDPOINTS_MAX
                .saturating_sub(endpoints.len())
                .min(remaining.len());
            endpoints.extend(remaining.drain(..room));
        }
    }

    fn place_rest(&mut self, mut remaining: Vec<Endpoint>) {
        while !remaining.is_empty() {
            let count = remaining.len().min(ENDPOINTS_MAX);
            let fitting = if remaining.len() < ENDPOINTS_MAX {
                self.fullest_with_room(remaining.len())
            } else {
                None
            };
            let added = remaining.drain(..count);
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
