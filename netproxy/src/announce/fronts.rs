//! Whether a front announces: then no node does. Fronts say so by renewing their Lease.

use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use knarr_client::Api;
use kube::{Client, runtime::watcher};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

/// The fronts' Lease.
pub const LEASE_NAME: &str = "knarr-front";
/// Where it is.
pub const LEASE_NAMESPACE: &str = "kube-system";
/// Longer than fronts take to stand in for each other.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// What was last heard of the Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Heard {
    holder: String,
    revision: Option<String>,
}

/// Follows the fronts' Lease until shutdown.
pub(crate) async fn run(client: Client, present: watch::Sender<bool>, shutdown: CancellationToken) {
    let api: Api<Lease> = Api::namespaced(client.clone(), LEASE_NAMESPACE);
    let named = watcher::Config::default().fields(&format!("metadata.name={LEASE_NAME}"));
    let mut events = knarr_client::watch(client, Some(LEASE_NAMESPACE), named);
    let mut heard = Heard::default();
    loop {
        let is_held = !heard.holder.is_empty();
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => event,
            () = tokio::time::sleep(SILENCE_MAX), if is_held => {
                if is_abandoned(&api, &heard).await {
                    heard = Heard::default();
                }
                tell(&present, &heard);
                continue;
            }
        };
        match event {
            Some(watcher::Event::Apply(lease) | watcher::Event::InitApply(lease)) => {
                heard = read(&lease);
            }
            // A Lease that is gone may be written again by the front that held it.
            Some(watcher::Event::Delete(_) | watcher::Event::Init | watcher::Event::InitDone) => {}
            None => return,
        }
        tell(&present, &heard);
    }
}

fn tell(present: &watch::Sender<bool>, heard: &Heard) {
    let is_held = !heard.holder.is_empty();
    present.send_if_modified(|was| {
        let differs = *was != is_held;
        *was = is_held;
        differs
    });
}

/// Whether the API answers and the Lease is still as it was long ago; who cannot ask changes nothing.
async fn is_abandoned(api: &Api<Lease>, heard: &Heard) -> bool {
    match timeout(SILENCE_MAX, api.get_opt(LEASE_NAME)).await {
        Ok(Ok(Some(lease))) => read(&lease).revision == heard.revision,
        Ok(Ok(None)) => true,
        Ok(Err(_)) | Err(_) => false,
    }
}

fn read(lease: &Lease) -> Heard {
    let holder = lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.clone());
    Heard {
        holder: holder.unwrap_or_default(),
        revision: lease.metadata.resource_version.clone(),
    }
}
