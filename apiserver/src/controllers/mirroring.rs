//! The mirroring controller: Endpoints that users make for Services without selector, as EndpointSlices.

mod plan;

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::endpointslice::{service_of, slices_of};
use super::queue::{Next, Queue};
use super::store::Key;
use super::write::{Error, perform_all};

const COMPONENT: &str = "endpoint-slice-mirroring-controller";
const MANAGED_BY: &str = "endpointslicemirroring-controller.k8s.io";

/// Adds the controller's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    let (by_endpoints, by_service, by_slice) =
        (Arc::clone(&queue), Arc::clone(&queue), Arc::clone(&queue));
    cluster.endpoints.observe(move |old, new| {
        if [old, new]
            .into_iter()
            .flatten()
            .any(|endpoints| plan::is_mirrored(endpoints))
        {
            let endpoints = new.or(old).map(|endpoints| Key::of(endpoints.as_ref()));
            endpoints.into_iter().for_each(|key| by_endpoints.add(key));
        }
    });
    cluster.services.observe(move |old, new| {
        let selects = |service: Option<&Arc<k8s_openapi::api::core::v1::Service>>| {
            service.map(|service| plan::has_selector(service))
        };
        if selects(old) != selects(new)
            && let Some(service) = new.or(old)
        {
            by_service.add(Key::of(service.as_ref()));
        }
    });
    cluster.endpoint_slices.observe(move |old, new| {
        for slice in [old, new].into_iter().flatten() {
            if let Some(key) = service_of(slice, MANAGED_BY) {
                by_slice.add(key);
            }
        }
    });
    cluster.reconcile("mirroring", queue, reconcile, shutdown, tasks);
}

async fn reconcile(cluster: Arc<Cluster>, key: Key) -> Result<Next, Error> {
    let endpoints = cluster.endpoints.get_key(&key);
    let service = cluster.services.get_key(&key);
    let slices = slices_of(&cluster, &key, MANAGED_BY);
    let plan::Plan { writes, notices } =
        plan::plan(endpoints.as_deref(), service.as_deref(), &slices);
    if let Some(endpoints) = &endpoints
        && !writes.is_empty()
    {
        cluster.tell(COMPONENT, endpoints.as_ref(), notices);
    }
    match perform_all(&cluster.client, writes).await {
        Err(error) if !error.is_namespace_terminating() => Err(error),
        Ok(()) | Err(_) => Ok(Next::OnChange),
    }
}
