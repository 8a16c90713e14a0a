//! Keeps IPAddresses and the Services that hold them in step: makes what is missing anew, removes what nobody holds.
//!
//! The claims that decide who has an address are the allocator's; this only sees to what shows them.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, ParentReference};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::event::Notice;
use super::queue::{Next, Queue};
use super::store::Key;
use super::write::{Error, Write, perform};
use crate::allocate::MANAGER;

const COMPONENT: &str = "ipallocator-repair-controller";
const FAMILY_LABEL: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGED_BY_LABEL: &str = "ipaddress.kubernetes.io/managed-by";
/// An address of this age without its Service belongs to no request that is still under way.
const LEAKED_AFTER: SignedDuration = SignedDuration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Work {
    Service(Key),
    Address(Key),
}

/// Adds the controller's observers and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    let (changed, left) = (Arc::clone(&queue), Arc::clone(&queue));
    cluster.ip_addresses.observe(move |old, new| {
        if let Some(address) = new {
            changed.add(Work::Address(Key::of(address.as_ref())));
        }
        if let Some(holder) = old.and_then(|address| parent(address)) {
            changed.add(Work::Service(holder));
        }
    });
    cluster.services.observe(move |old, new| {
        let (old, new) = (
            old.map(|s| cluster_ips(s)),
            new.map(|s| (s, cluster_ips(s))),
        );
        let kept = new
            .as_ref()
            .map(|(_, ips)| ips.as_slice())
            .unwrap_or_default();
        if let Some((service, ips)) = &new
            && old.as_ref() != Some(ips)
        {
            left.add(Work::Service(Key::of(service.as_ref())));
        }
        for ip in old.iter().flatten().filter(|ip| !kept.contains(ip)) {
            left.add(Work::Address(Key::new("", ip.as_str())));
        }
    });
    cluster.reconcile("ipaddress", queue, reconcile, shutdown, tasks);
}

async fn reconcile(cluster: Arc<Cluster>, work: Work) -> Result<Next, Error> {
    match work {
        Work::Service(key) => show(&cluster, &key).await,
        Work::Address(key) => clean(&cluster, &key).await,
    }
}

/// Makes sure that every address of a Service is shown as its own.
async fn show(cluster: &Cluster, key: &Key) -> Result<Next, Error> {
    let Some(service) = cluster.services.get_key(key) else {
        return Ok(Next::OnChange);
    };
    for ip in cluster_ips(&service) {
        let address = cluster.ip_addresses.get("", &ip);
        let other = address.as_deref().and_then(parent);
        let other = other.and_then(|other| cluster.services.get_key(&other));
        let (notice, write) = plan(&service, &ip, address.as_deref(), other.as_deref());
        cluster.tell(COMPONENT, service.as_ref(), notice.into_iter().collect());
        let Some(write) = write else { continue };
        let is_removal = matches!(write, Write::Delete { .. });
        match perform(&cluster.client, write).await {
            Ok(_) if is_removal => return Ok(Next::After(Duration::ZERO)),
            Ok(_) => {}
            Err(error) if error.is_already_exists() || error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Next::OnChange)
}

/// Removes an address of the allocator's that no Service holds.
async fn clean(cluster: &Cluster, key: &Key) -> Result<Next, Error> {
    let Some(address) = cluster.ip_addresses.get_key(key).filter(|a| is_managed(a)) else {
        return Ok(Next::OnChange);
    };
    let holder = parent(&address).and_then(|holder| cluster.services.get_key(&holder));
    let notice = match verdict(&address, holder.as_deref(), Timestamp::now()) {
        Verdict::Held => return Ok(Next::OnChange),
        Verdict::Wait(time) => return Ok(Next::After(time)),
        Verdict::Remove(notice) => notice,
    };
    cluster.tell(COMPONENT, address.as_ref(), vec![notice]);
    match perform(&cluster.client, Write::delete(address.as_ref())).await {
        Err(error) if !error.is_not_found() => return Err(error),
        Ok(_) | Err(_) => {}
    }
    // Whoever holds it is not who the address named, so nothing else leads there.
    let services = cluster.services.all().into_iter();
    let mut holders = services.filter(|service| cluster_ips(service).contains(&key.name));
    match holders.next() {
        Some(holder) => show(cluster, &Key::of(holder.as_ref())).await,
        None => Ok(Next::OnChange),
    }
}

/// What to say and do about one address of a Service; `other` is the Service that the address names.
fn plan(
    service: &Service,
    ip: &str,
    address: Option<&IPAddress>,
    other: Option<&Service>,
) -> (Option<Notice>, Option<Write<IPAddress>>) {
    let family = family(ip);
    let about = format!("[{family}]: {ip}");
    let Some(address) = address else {
        let text = format!("Cluster IP {about} is not allocated; repairing");
        let made = Write::Create(shown(ip, service));
        return (
            Some(Notice::warning("ClusterIPNotAllocated", text)),
            Some(made),
        );
    };
    let own = Key::of(service);
    let recreate = Some(Write::delete(address));
    let holds = |other: &Service| cluster_ips(other).iter().any(|held| held == ip);
    match (parent(address), other) {
        (Some(named), _) if named == own => {}
        (Some(_), Some(other)) if holds(other) => {
            let text = format!(
                "Cluster IP [{family}]:{ip} was assigned to multiple services; please recreate service"
            );
            return (
                Some(Notice::warning("ClusterIPAlreadyAllocated", text)),
                None,
            );
        }
        // What another Service is named for and does not hold goes as a wrong reference.
        (Some(_), Some(_)) => return (None, None),
        (_, None) | (None, Some(_)) => {
            let text =
                format!("the ClusterIP {about} for Service {own} has a wrong reference; repairing");
            return (
                Some(Notice::warning("ClusterIPNotAllocated", text)),
                recreate,
            );
        }
    }
    let has = |name: &str, value: &str| label(address, name) == Some(value);
    let is_labelled = has(FAMILY_LABEL, family) && has(MANAGED_BY_LABEL, MANAGER);
    (None, recreate.filter(|_| !is_labelled))
}

/// What becomes of an address of the allocator's.
enum Verdict {
    Held,
    Wait(Duration),
    Remove(Notice),
}

fn verdict(address: &IPAddress, holder: Option<&Service>, now: Timestamp) -> Verdict {
    let name = address.metadata.name.as_deref().unwrap_or_default();
    let Some(named) = parent(address) else {
        let text = format!(
            "IPAddress {name} appears to have been modified, not referencing a Service: cleaning up"
        );
        return Verdict::Remove(Notice::warning("IPAddressNotAllocated", text));
    };
    if holder.is_some_and(|service| cluster_ips(service).iter().any(|ip| ip == name)) {
        return Verdict::Held;
    }
    let made = address.metadata.creation_timestamp.as_ref();
    let age = made.map_or(LEAKED_AFTER, |made| now.duration_since(made.0));
    let left = LEAKED_AFTER - age;
    if left.is_positive() {
        return Verdict::Wait(left.unsigned_abs());
    }
    Verdict::Remove(match holder {
        None => Notice::warning(
            "IPAddressNotAllocated",
            format!("IPAddress: {name} for Service {named} appears to have leaked: cleaning up"),
        ),
        Some(_) => Notice::warning(
            "IPAddressWrongReference",
            format!("IPAddress: {name} for Service {named} has a wrong reference; cleaning up"),
        ),
    })
}

/// The Service that an address says it belongs to.
fn parent(address: &IPAddress) -> Option<Key> {
    let parent = &address.spec.parent_ref;
    let in_core = parent.group.as_deref().unwrap_or_default().is_empty();
    let namespace = parent.namespace.clone().unwrap_or_default();
    (in_core && parent.resource == "services").then(|| Key::new(namespace, parent.name.as_str()))
}

fn cluster_ips(service: &Service) -> Vec<String> {
    let spec = service.spec.as_ref();
    let ips = spec.and_then(|spec| spec.cluster_ips.clone());
    let mut ips = ips.unwrap_or_default();
    ips.retain(|ip| ip != "None" && !ip.is_empty());
    ips
}

fn is_managed(address: &IPAddress) -> bool {
    label(address, MANAGED_BY_LABEL) == Some(MANAGER)
}

fn label<'a>(address: &'a IPAddress, name: &str) -> Option<&'a str> {
    address
        .metadata
        .labels
        .as_ref()?
        .get(name)
        .map(String::as_str)
}

fn family(ip: &str) -> &'static str {
    if ip.contains(':') { "IPv6" } else { "IPv4" }
}

fn shown(ip: &str, service: &Service) -> IPAddress {
    let mut address = IPAddress::default();
    address.metadata.name = Some(ip.to_owned());
    address.metadata.labels = serde_json::from_value(json!({
        FAMILY_LABEL: family(ip),
        MANAGED_BY_LABEL: MANAGER,
    }))
    .ok();
    address.spec.parent_ref = ParentReference {
        group: None,
        name: service.metadata.name.clone().unwrap_or_default(),
        namespace: service.metadata.namespace.clone(),
        resource: "services".to_owned(),
    };
    address
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const IP: &str = "10.0.128.7";
    const MADE: &str = "2026-06-01T12:00:00Z";

    fn service(name: &str, ips: &[&str]) -> Service {
        let service =
            json!({"metadata": {"namespace": "n", "name": name}, "spec": {"clusterIPs": ips}});
        serde_json::from_value(service).expect("a Service")
    }

    fn address(resource: &str, parent: &str, manager: &str) -> IPAddress {
        let labels = json!({FAMILY_LABEL: "IPv4", MANAGED_BY_LABEL: manager});
        let address = json!({
            "metadata": {"name": IP, "uid": "u", "creationTimestamp": MADE, "labels": labels},
            "spec": {"parentRef": {"resource": resource, "namespace": "n", "name": parent}}});
        serde_json::from_value(address).expect("an IPAddress")
    }

    fn check_plan(
        address: Option<&IPAddress>,
        other: Option<&Service>,
        reason: Value,
        write: &str,
    ) {
        let (notice, planned) = plan(&service("web", &[IP]), IP, address, other);
        assert_eq!(json!(notice.map(|n| n.reason)), reason);
        let planned = match planned {
            Some(Write::Create(made)) => {
                assert_eq!(parent(&made), Some(Key::new("n", "web")));
                "create"
            }
            Some(Write::Delete { .. }) => "delete",
            None => "",
            Some(other) => panic!("unexpected {other:?}"),
        };
        assert_eq!(planned, write);
    }

    #[test]
    fn every_address_of_a_service_is_shown_as_its_own() {
        let web = service("web", &[IP]);
        let good = address("services", "web", MANAGER);
        check_plan(None, None, json!("ClusterIPNotAllocated"), "create");
        check_plan(Some(&good), Some(&web), json!(null), "");
        let unlabelled = address("services", "web", "somebody");
        check_plan(Some(&unlabelled), Some(&web), json!(null), "delete");
        let gateway = address("gateways", "web", MANAGER);
        check_plan(
            Some(&gateway),
            None,
            json!("ClusterIPNotAllocated"),
            "delete",
        );
        let others = address("services", "other", MANAGER);
        check_plan(
            Some(&others),
            None,
            json!("ClusterIPNotAllocated"),
            "delete",
        );
        let twin = service("other", &[IP]);
        check_plan(
            Some(&others),
            Some(&twin),
            json!("ClusterIPAlreadyAllocated"),
            "",
        );
        check_plan(Some(&others), Some(&service("other", &[])), json!(null), "");
    }

    fn check_verdict(address: &IPAddress, holder: Option<&Service>, seconds: i64, expected: Value) {
        let now = MADE.parse::<Timestamp>().expect("a time") + SignedDuration::from_secs(seconds);
        let seen = match verdict(address, holder, now) {
            Verdict::Held => json!("held"),
            Verdict::Wait(time) => json!(time.as_secs()),
            Verdict::Remove(notice) => json!(notice.reason),
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn an_address_without_its_service_goes_after_a_minute() {
        let of_web = address("services", "web", MANAGER);
        check_verdict(&of_web, Some(&service("web", &[IP])), 99, json!("held"));
        check_verdict(&of_web, None, 59, json!(1));
        check_verdict(&of_web, None, 60, json!("IPAddressNotAllocated"));
        let moved = service("web", &["10.0.128.8"]);
        check_verdict(&of_web, Some(&moved), 10, json!(50));
        check_verdict(&of_web, Some(&moved), 60, json!("IPAddressWrongReference"));
        let gateway = address("gateways", "web", MANAGER);
        check_verdict(&gateway, None, 0, json!("IPAddressNotAllocated"));
    }
}
