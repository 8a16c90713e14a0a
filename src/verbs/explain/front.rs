//! Looks for a front: who holds the fronts' Lease, whether it is renewed, and which nodes say that they are well.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use knarr_client::Api;
use knarr_netproxy::{
    announce::{LEASE_NAME, LEASE_NAMESPACE},
    explain::{Front, Kernel, Renewal},
    front::passing,
};
use knarr_netproxy_plan::{FrontNode, ServiceKey};
use kube::Client;

/// Nodes give a front up after three seconds; one that is there renews its Lease several times in this time.
const RENEWAL_TIME_MAX: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

type Services = BTreeMap<ServiceKey, (Arc<Service>, Vec<Arc<EndpointSlice>>)>;

/// The front that holds the Lease; nothing where none does, and nothing is waited for then.
pub(super) async fn find(
    client: &Client,
    nodes: &[Node],
    services: &Services,
) -> Result<Option<Front>> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASE_NAMESPACE);
    let Some(lease) = leases.get_opt(LEASE_NAME).await? else {
        return Ok(None);
    };
    let holder = lease.spec.as_ref();
    let holder = holder.and_then(|spec| spec.holder_identity.as_deref());
    let Some(holder) = holder.filter(|holder| !holder.is_empty()) else {
        return Ok(None);
    };
    let name = Front::name_of(holder).to_owned();
    let nodes = nodes.iter().filter_map(|node| {
        let name = node.metadata.name.clone()?;
        Some((name, FrontNode::read(node)))
    });
    let mut front = Front {
        kernel: Kernel::Unread(format!("this machine is not {name}")),
        name,
        renewal: Renewal::Lapsed,
        nodes: nodes.collect(),
        passing: BTreeSet::new(),
    };
    let checks = front.checks(services);
    let (renewal, passing) = tokio::join!(renewal(&leases, &lease), passing(checks));
    (front.renewal, front.passing) = (renewal?, passing);
    Ok(Some(front))
}

/// Whether a Lease is another soon; clocks of two machines are never compared.
async fn renewal(leases: &Api<Lease>, first: &Lease) -> Result<Renewal> {
    let began = Instant::now();
    while began.elapsed() < RENEWAL_TIME_MAX {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let now = leases.get_opt(LEASE_NAME).await?;
        let now = now.and_then(|lease| lease.metadata.resource_version);
        if now.is_some() && now != first.metadata.resource_version {
            return Ok(Renewal::Renewed);
        }
    }
    Ok(Renewal::Lapsed)
}
