//! The plan for one Service: every write that makes its slices say what its pods are.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::endpoint::{AddressType, address_types, candidate, ports, publishes_not_ready};
use super::hints::{Distribution, hints};
use super::pack::{Packing, pack};
use super::proportion::{self, Zones};
use super::{MANAGED_BY, deletion};
use crate::controllers::claim::{controller_reference, is_controlled_by};
use crate::controllers::event::Notice;
use crate::controllers::inventory::FOREGROUND_FINALIZER;
use crate::controllers::pods;
use crate::controllers::selection::is_headless;
use crate::controllers::selector::Labels;
use crate::controllers::well_known::{
    HEADLESS_LABEL, MANAGED_BY_LABEL, SERVICE_NAME_LABEL, TRIGGER_TIME_ANNOTATION,
};
use crate::controllers::write::Write;

/// Everything one Service's plan looks at.
pub(super) struct Snapshot<'a> {
    pub(super) service: &'a Service,
    /// The pods its selector selects, ordered by name.
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) node: &'a dyn Fn(&str) -> Option<Arc<Node>>,
    /// The slices this controller made for it.
    pub(super) slices: &'a [Arc<EndpointSlice>],
    /// Where a Service asks for hints in proportion to them.
    pub(super) zones: Option<Zones>,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) writes: Vec<Write<EndpointSlice>>,
    pub(super) notices: Vec<Notice>,
}

/// Ports in an order that does not depend on how they were listed.
pub(in crate::controllers) type PortMap = Vec<(String, String, i32, Option<String>)>;

/// Plans the writes; none when every slice is right already.
pub(super) fn plan(snapshot: &Snapshot<'_>) -> Plan {
    let service = snapshot.service;
    // Whatever is made for an owner that waits for its dependents would keep it waiting.
    let finalizers = service.metadata.finalizers.as_deref().unwrap_or_default();
    if finalizers
        .iter()
        .any(|finalizer| finalizer == FOREGROUND_FINALIZER)
    {
        return Plan::default();
    }
    let labels = slice_labels(service);
    let types = address_types(service);
    let of_type = |family: AddressType| -> Vec<Arc<EndpointSlice>> {
        let slices = snapshot.slices.iter();
        slices
            .filter(|slice| slice.address_type == family.name())
            .cloned()
            .collect()
    };
    let stray = snapshot.slices.iter().filter(|slice| {
        types
            .iter()
            .all(|family| family.name() != slice.address_type)
    });
    let mut plan = Plan {
        writes: stray.map(|slice| deletion(slice)).collect(),
        notices: Vec::new(),
    };
    for family in types {
        plan_family(snapshot, family, of_type(family), &labels, &mut plan);
    }
    plan
}

fn plan_family(
    snapshot: &Snapshot<'_>,
    family: AddressType,
    slices: Vec<Arc<EndpointSlice>>,
    labels: &Labels,
    plan: &mut Plan,
) {
    let (owned, mut deleted): (Vec<_>, Vec<_>) = slices
        .into_iter()
        .partition(|slice| is_controlled_by(&slice.metadata, snapshot.service));
    let mut existing: BTreeMap<PortMap, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    let existing_count = owned.len() + deleted.len();
    for slice in owned {
        let key = port_map(slice.ports.as_deref().unwrap_or_default());
        existing.entry(key).or_default().push(slice);
    }
    let mut draft = Draft::default();
    for (key, (ports, candidates)) in candidates(snapshot, family) {
        let slices = existing.remove(&key).unwrap_or_default();
        let packing = pack(&slices, candidates, labels);
        draft.take(packing, ports, &mut deleted);
    }
    deleted.extend(existing.into_values().flatten());
    if draft.created.is_empty() && deleted.len() == existing_count {
        draft.add_placeholder(&mut deleted, labels);
    }
    let frame = Frame {
        service: snapshot.service,
        family,
        labels,
        trigger: trigger(snapshot),
        distribution: Distribution::of(snapshot.service),
        zones: snapshot.zones.as_ref(),
        was_hinted: snapshot.slices.iter().any(is_hinted),
    };
    let writes = draft.writes(&frame, deleted, &mut plan.notices);
    plan.writes.extend(writes);
}

fn is_hinted(slice: &Arc<EndpointSlice>) -> bool {
    let mut endpoints = proportion::endpoints(slice).iter();
    endpoints.any(|endpoint| endpoint.hints.is_some())
}

fn candidates(
    snapshot: &Snapshot<'_>,
    family: AddressType,
) -> BTreeMap<PortMap, (Vec<EndpointPort>, Vec<Endpoint>)> {
    let service = snapshot.service;
    let mut by_ports: BTreeMap<PortMap, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    for pod in listed(snapshot) {
        let node = pods::node_name(pod).and_then(snapshot.node);
        let Some(candidate) = candidate(pod, node.as_deref(), service, family) else {
            continue;
        };
        let ports = ports(service, pod);
        let entry = by_ports
            .entry(port_map(&ports))
            .or_insert_with(|| (ports, Vec::new()));
        entry.1.push(candidate);
    }
    by_ports
}

/// The pods that count at all: those that have not ended, on nodes that there are.
fn listed<'a>(snapshot: &'a Snapshot<'_>) -> impl Iterator<Item = &'a Arc<Pod>> {
    let tolerates = publishes_not_ready(snapshot.service);
    let has_node = |pod: &Pod| pods::node_name(pod).and_then(snapshot.node).is_some();
    let pods = snapshot.pods.iter();
    pods.filter(move |pod| !pods::is_terminal(pod) && (tolerates || has_node(pod)))
}

pub(in crate::controllers) fn port_map(ports: &[EndpointPort]) -> PortMap {
    let mut map: PortMap = ports
        .iter()
        .map(|port| {
            (
                port.name.clone().unwrap_or_default(),
                port.protocol.clone().unwrap_or_default(),
                port.port.unwrap_or_default(),
                port.app_protocol.clone(),
            )
        })
        .collect();
    map.sort();
    map
}

/// The earliest change of readiness that the slices do not show yet; for the first ones, when the Service was made.
fn trigger(snapshot: &Snapshot<'_>) -> Option<Timestamp> {
    if snapshot.slices.is_empty() {
        let created = snapshot.service.metadata.creation_timestamp.as_ref();
        return created.map(|time| time.0);
    }
    let endpoints = snapshot.slices.iter().flat_map(|slice| &slice.endpoints);
    let shown: BTreeMap<&str, Option<bool>> = endpoints
        .flatten()
        .filter_map(|endpoint| {
            let uid = endpoint.target_ref.as_ref()?.uid.as_deref()?;
            Some((uid, endpoint.conditions.as_ref().and_then(|c| c.serving)))
        })
        .collect();
    let is_news = |pod: &&Arc<Pod>| {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        !pods::addresses(pod).is_empty() && shown.get(uid) != Some(&Some(pods::is_ready(pod)))
    };
    let news = listed(snapshot).filter(is_news);
    news.filter_map(|pod| pods::ready_since(pod)).min()
}

/// What all slices of one family share.
struct Frame<'a> {
    service: &'a Service,
    family: AddressType,
    labels: &'a Labels,
    trigger: Option<Timestamp>,
    distribution: Distribution,
    zones: Option<&'a Zones>,
    was_hinted: bool,
}

#[derive(Default)]
struct Draft {
    created: Vec<(Vec<EndpointPort>, Vec<Endpoint>)>,
    updated: Vec<(Arc<EndpointSlice>, Vec<EndpointPort>, Vec<Endpoint>)>,
    unchanged: Vec<Arc<EndpointSlice>>,
}

impl Draft {
    fn take(
        &mut self,
        packing: Packing,
        ports: Vec<EndpointPort>,
        deleted: &mut Vec<Arc<EndpointSlice>>,
    ) {
        let Packing {
            updated,
            unchanged,
            emptied,
            created,
        } = packing;
        let created = created
            .into_iter()
            .map(|endpoints| (ports.clone(), endpoints));
        self.created.extend(created);
        let updated = updated
            .into_iter()
            .map(|(slice, endpoints)| (slice, ports.clone(), endpoints));
        self.updated.extend(updated);
        self.unchanged.extend(unchanged);
        deleted.extend(emptied);
    }

    /// A Service without endpoints keeps one empty slice, so that "none" can be told from "not looked at yet".
    fn add_placeholder(&mut self, deleted: &mut Vec<Arc<EndpointSlice>>, labels: &Labels) {
        let is_placeholder = |slice: &Arc<EndpointSlice>| {
            slice.endpoints.as_ref().is_none_or(Vec::is_empty)
                && slice.ports.as_ref().is_none_or(Vec::is_empty)
                && slice.metadata.labels.as_ref() == Some(labels)
        };
        if let [only] = deleted.as_slice()
            && is_placeholder(only)
        {
            deleted.clear();
        } else {
            self.created.push((Vec::new(), Vec::new()));
        }
    }

    fn writes(
        self,
        frame: &Frame<'_>,
        mut deleted: Vec<Arc<EndpointSlice>>,
        notices: &mut Vec<Notice>,
    ) -> Vec<Write<EndpointSlice>> {
        let mut written = Vec::new();
        for (ports, endpoints) in self.created {
            let reusable = deleted
                .iter()
                .position(|slice| is_controlled_by(&slice.metadata, frame.service));
            let reused = reusable.map(|index| deleted.remove(index));
            written.push(frame.slice(reused.as_deref(), ports, endpoints));
        }
        for (slice, ports, endpoints) in self.updated {
            written.push(frame.slice(Some(&slice), ports, endpoints));
        }
        notices.extend(frame.hint(&mut written, self.unchanged));
        let write = |mut slice: EndpointSlice| {
            frame.stamp(&mut slice.metadata);
            match slice.metadata.name {
                Some(_) => Write::Replace(slice),
                None => Write::Create(slice),
            }
        };
        let deletions = deleted.iter().map(|slice| deletion(slice));
        written.into_iter().map(write).chain(deletions).collect()
    }
}

impl Frame<'_> {
    fn slice(
        &self,
        existing: Option<&EndpointSlice>,
        ports: Vec<EndpointPort>,
        endpoints: Vec<Endpoint>,
    ) -> EndpointSlice {
        let metadata = match existing {
            Some(slice) => slice.metadata.clone(),
            None => ObjectMeta {
                namespace: self.service.metadata.namespace.clone(),
                generate_name: Some(format!(
                    "{}-",
                    self.service.metadata.name.as_deref().unwrap_or_default()
                )),
                owner_references: Some(vec![controller_reference(self.service)]),
                ..ObjectMeta::default()
            },
        };
        EndpointSlice {
            metadata,
            address_type: self.family.name().to_owned(),
            endpoints: Some(endpoints),
            ports: Some(ports).filter(|ports| !ports.is_empty()),
        }
    }

    /// Labels and trigger time, which every slice that is written says anew.
    fn stamp(&self, metadata: &mut ObjectMeta) {
        metadata.labels = Some(self.labels.clone());
        let mut annotations = metadata.annotations.take().unwrap_or_default();
        match self.trigger {
            Some(time) => annotations.insert(TRIGGER_TIME_ANNOTATION.to_owned(), time.to_string()),
            None => annotations.remove(TRIGGER_TIME_ANNOTATION),
        };
        metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    }

    /// Hints what is written, and what need not be written but for its hints.
    fn hint(
        &self,
        written: &mut Vec<EndpointSlice>,
        mut kept: Vec<Arc<EndpointSlice>>,
    ) -> Option<Notice> {
        let family = self.family.name();
        if self.distribution == Distribution::Proportional {
            let outcome = proportion::hint(self.zones, written, &mut kept);
            return match outcome {
                Err(reason) => {
                    let message = format!("{reason}, addressType: {family}");
                    Some(Notice::warning("TopologyAwareHintsDisabled", message))
                }
                Ok(()) if self.was_hinted => None,
                Ok(()) => {
                    let message =
                        format!("Topology Aware Hints has been enabled, addressType: {family}");
                    Some(Notice::normal("TopologyAwareHintsEnabled", message))
                }
            };
        }
        let is_right = |e: &Endpoint| e.hints == hints(e, self.distribution);
        proportion::take_over(written, &mut kept, |slice| {
            proportion::endpoints(slice).iter().all(is_right)
        });
        let endpoints = written.iter_mut().flat_map(|slice| &mut slice.endpoints);
        for endpoint in endpoints.flatten() {
            endpoint.hints = hints(endpoint, self.distribution);
        }
        None
    }
}

/// The Service's own labels, beside those that consumers find slices by.
fn slice_labels(service: &Service) -> Labels {
    let reserved = [SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL];
    let own = service.metadata.labels.iter().flatten();
    let mut labels: Labels = own
        .filter(|(key, _)| !reserved.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if is_headless(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    let name = service.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME_LABEL.to_owned(), name);
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels
}

#[cfg(test)]
mod tests;
