//! The endpoints controller: a Service's selected pods, as the Endpoints object of its name.

mod plan;
pub(super) mod repack;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Endpoints;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::event::Notice;
use super::queue::{Next, Queue};
use super::selection;
use super::store::Key;
use super::write::{Error, Write, perform};

const COMPONENT: &str = "endpoint-controller";

/// Adds the controller's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    selection::observe(cluster, &queue);
    let (known, own) = (Arc::downgrade(cluster), Arc::clone(&queue));
    cluster.endpoints.observe(move |old, new| {
        let Some(cluster) = known.upgrade() else {
            return;
        };
        if let Some(endpoints) = old.or(new) {
            let key = Key::of(endpoints.as_ref());
            if cluster.services.contains(&key) {
                own.add(key);
            }
        }
    });
    cluster.reconcile("endpoints", queue, reconcile, shutdown, tasks);
}

async fn reconcile(cluster: Arc<Cluster>, key: Key) -> Result<Next, Error> {
    let existing = cluster.endpoints.get_key(&key);
    let Some(service) = cluster.services.get_key(&key) else {
        if let Some(left_over) = existing {
            perform(&cluster.client, Write::delete(left_over.as_ref())).await?;
        }
        return Ok(Next::OnChange);
    };
    if selection::served_selector(&service).is_none() {
        return Ok(Next::OnChange);
    }
    let write = {
        let pods = selection::selected_pods(&cluster, &service);
        plan::plan(&service, &pods, existing.as_deref())
    };
    let Some(write) = write else {
        return Ok(Next::OnChange);
    };
    let (reason, what) = match write {
        Write::Create(_) => ("FailedToCreateEndpoint", "create endpoint for service"),
        _ => ("FailedToUpdateEndpoint", "update endpoint"),
    };
    match perform::<Endpoints>(&cluster.client, write).await {
        Ok(_) => Ok(Next::OnChange),
        Err(error) if error.is_namespace_terminating() => Ok(Next::OnChange),
        Err(error) => {
            if !error.is_conflict() {
                let message = format!("Failed to {what} {key}: {}", error.message());
                cluster.tell(
                    COMPONENT,
                    service.as_ref(),
                    vec![Notice::warning(reason, message)],
                );
            }
            Err(error)
        }
    }
}
