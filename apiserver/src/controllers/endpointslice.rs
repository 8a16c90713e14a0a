//! The endpointslice controller: a Service's selected pods, as EndpointSlices.
//!
//! It touches only slices that carry its own managed-by label; slices made by users live beside them.

mod endpoint;
mod hints;
mod pack;
mod plan;
mod proportion;

use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::event::Notice;
use super::queue::{Next, Queue};
use super::selection;
use super::store::Key;
use super::terms;
use super::well_known::{MANAGED_BY_LABEL, SERVICE_NAME_LABEL};
use super::write::{Error, Write, perform_all};

pub(super) use endpoint::{hostname, is_ipv6_first, port_number, publishes_not_ready};
pub(super) use plan::{PortMap, port_map};

const COMPONENT: &str = "endpoint-slice-controller";
const MANAGED_BY: &str = "endpointslice-controller.k8s.io";

/// Adds the controller's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    selection::observe(cluster, &queue);
    let own_slices = Arc::clone(&queue);
    cluster.endpoint_slices.observe(move |old, new| {
        for slice in [old, new].into_iter().flatten() {
            if let Some(key) = service_of(slice, MANAGED_BY) {
                own_slices.add(key);
            }
        }
    });
    let (known, shared) = (Arc::downgrade(cluster), Arc::clone(&queue));
    cluster.nodes.observe(move |old, new| {
        let Some(cluster) = known.upgrade().filter(|_| proportion::differ(old, new)) else {
            return;
        };
        let term = terms::everywhere(terms::PROPORTIONAL);
        let services = &cluster.services;
        for service in services.found_by("", &term, hints::is_proportional) {
            shared.add(Key::of(service.as_ref()));
        }
    });
    cluster.reconcile("endpointslice", queue, reconcile, shutdown, tasks);
}

/// The slices of a Service that the given manager keeps.
pub(super) fn slices_of(
    cluster: &Cluster,
    service: &Key,
    managed_by: &str,
) -> Vec<Arc<EndpointSlice>> {
    let term = terms::service_name(&service.name);
    cluster
        .endpoint_slices
        .found_by(&service.namespace, &term, |slice| {
            service_of(slice, managed_by).as_ref() == Some(service)
        })
}

/// The Service that a slice of the given manager belongs to.
pub(super) fn service_of(slice: &EndpointSlice, managed_by: &str) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY_LABEL)? != managed_by {
        return None;
    }
    let namespace = slice.metadata.namespace.clone()?;
    Some(Key::new(namespace, labels.get(SERVICE_NAME_LABEL)?))
}

async fn reconcile(cluster: Arc<Cluster>, key: Key) -> Result<Next, Error> {
    let Some(service) = cluster.services.get_key(&key) else {
        return Ok(Next::OnChange);
    };
    if selection::served_selector(&service).is_none() {
        return Ok(Next::OnChange);
    }
    let plan::Plan { writes, notices } = {
        let pods = selection::selected_pods(&cluster, &service);
        let mut slices = slices_of(&cluster, &key, MANAGED_BY);
        slices.retain(|slice| slice.metadata.deletion_timestamp.is_none());
        let node = |name: &str| cluster.nodes.get("", name);
        let zones = hints::is_proportional(&service)
            .then(|| proportion::zones(&cluster.nodes.all()))
            .flatten();
        plan::plan(&plan::Snapshot {
            service: &service,
            pods: &pods,
            node: &node,
            slices: &slices,
            zones,
        })
    };
    cluster.tell(COMPONENT, service.as_ref(), notices);
    let written = perform_all::<EndpointSlice>(&cluster.client, writes).await;
    if let Err(error) = &written
        && !error.is_conflict()
        && !error.is_namespace_terminating()
    {
        let message = format!(
            "Error updating Endpoint Slices for Service {key}: {}",
            error.message()
        );
        let notice = Notice::warning("FailedToUpdateEndpointSlices", message);
        cluster.tell(COMPONENT, service.as_ref(), vec![notice]);
    }
    match written {
        Err(error) if error.is_namespace_terminating() => Ok(Next::OnChange),
        written => written.map(|()| Next::OnChange),
    }
}

/// The deletion of one slice, if it is still the one planned for.
fn deletion(slice: &EndpointSlice) -> Write<EndpointSlice> {
    Write::delete(slice)
}
