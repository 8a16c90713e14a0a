//! The node's own objects: registers the Node, keeps its status true, renews its Lease.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use knarr_api::{kinds::node::NETWORKS_ANNOTATION, version::VERSION};
use knarr_client::Api;
use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::ipam;
use crate::pod::env::Capacity;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;
const RENEW_EVERY: Duration = Duration::from_secs(10);
const RENEW_RETRY: Duration = Duration::from_secs(2);
/// One /24 less the reserved addresses, rounded.
const PODS_MAX: u32 = 250;
/// What a node says about itself.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) capacity: Capacity,
}

/// A node's addresses in the families of its pods: those it was given, else the one it has among them.
pub(crate) fn addresses(given: &[IpAddr], pod_cidrs: &[IpNet]) -> Vec<IpAddr> {
    let in_family = |cidr: &IpNet| {
        let is_same = |address: &&IpAddr| address.is_ipv4() == cidr.addr().is_ipv4();
        let found: Vec<IpAddr> = given.iter().filter(is_same).copied().collect();
        if found.is_empty() {
            vec![ipam::node_address(*cidr)]
        } else {
            found
        }
    };
    pod_cidrs.iter().flat_map(in_family).collect()
}

/// Registers the node, or brings an existing one's labels up to date.
pub(crate) async fn register(client: &Client, node: &Description) -> Result<Node, kube::Error> {
    let api = Api::<Node>::all(client.clone());
    let labels = labels(&node.name);
    let object: Node = serde_json::from_value(json!({
        "metadata": { "name": node.name, "labels": labels }, "spec": {},
    }))
    .unwrap_or_default();
    let registered = match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
            api.patch(&node.name, &PatchParams::default(), &patch).await
        }
        answer => answer,
    };
    serde_json::from_value(registered?).map_err(kube::Error::SerdeError)
}

/// Writes the node's whole status.
pub(crate) async fn report(
    client: &Client,
    node: &Description,
    addresses: &[IpAddr],
) -> Result<(), kube::Error> {
    write_status(client, &node.name, status(node, addresses)).await
}

/// Writes the node's addresses and nothing else: times of conditions stay.
pub(crate) async fn report_addresses(
    client: &Client,
    name: &str,
    addresses: &[IpAddr],
) -> Result<(), kube::Error> {
    let status = json!({ "addresses": address_list(name, addresses) });
    write_status(client, name, status).await
}

async fn write_status(client: &Client, name: &str, status: Value) -> Result<(), kube::Error> {
    let api = Api::<Node>::all(client.clone());
    let patch = Patch::Strategic(json!({ "status": status }));
    api.patch_status(name, &PatchParams::default(), &patch)
        .await
        .map(drop)
}

/// The list merges by type, which two addresses of one type share: only replacing it whole is right.
fn address_list(name: &str, addresses: &[IpAddr]) -> Value {
    let internal = addresses
        .iter()
        .map(|address| json!({ "type": "InternalIP", "address": address.to_string() }));
    let hostname = json!({ "type": "Hostname", "address": name });
    std::iter::once(json!({ "$patch": "replace" }))
        .chain(internal)
        .chain([hostname])
        .collect()
}

/// Tells which networks the node's links are on, whenever they are others, until dropped.
pub(crate) async fn tell_networks(
    client: Client,
    node_name: String,
    mut networks: watch::Receiver<BTreeSet<IpNet>>,
) {
    const RETRY: Duration = Duration::from_secs(1);
    let api = Api::<Node>::all(client);
    while networks.changed().await.is_ok() {
        let texts: Vec<String> = networks
            .borrow_and_update()
            .iter()
            .map(ToString::to_string)
            .collect();
        let annotations = json!({ NETWORKS_ANNOTATION: texts.join(",") });
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        let params = PatchParams::default();
        if let Err(error) = api.patch(&node_name, &params, &patch).await {
            tracing::warn!(%error, "telling the node's networks");
            tokio::time::sleep(RETRY).await;
            networks.mark_changed();
        }
    }
}

/// Renews the node's lease until dropped. An unreachable server only delays the next renewal.
pub(crate) async fn renew(client: Client, node_name: String, node_uid: String) {
    let api = Api::<Lease>::namespaced(client, LEASE_NAMESPACE);
    loop {
        let pause = match renew_once(&api, &node_name, &node_uid).await {
            Ok(()) => RENEW_EVERY,
            Err(error) => {
                tracing::warn!(%error, "renewing the node's lease");
                RENEW_RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn renew_once(api: &Api<Lease>, name: &str, uid: &str) -> Result<(), kube::Error> {
    let spec = json!({
        "holderIdentity": name,
        "leaseDurationSeconds": LEASE_SECONDS,
        "renewTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
    });
    let patch = Patch::Merge(json!({ "spec": spec }));
    match api.patch(name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let owner = json!([{ "apiVersion": "v1", "kind": "Node", "name": name, "uid": uid }]);
            let metadata = json!({ "name": name, "ownerReferences": owner });
            let lease: Lease =
                serde_json::from_value(json!({ "metadata": metadata, "spec": spec }))
                    .unwrap_or_default();
            api.create(&PostParams::default(), &lease).await.map(drop)
        }
        other => other.map(drop),
    }
}

/// What the machine has.
pub(crate) fn capacity() -> Capacity {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = memory.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<i64>()
            .ok()
    });
    Capacity {
        cpu_millis: i64::try_from(cores).unwrap_or(1) * 1000,
        memory_bytes: kibibytes.unwrap_or_default() * 1024,
    }
}

fn labels(name: &str) -> Value {
    json!({
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture(),
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": architecture(),
    })
}

/// The architecture in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn status(node: &Description, addresses: &[IpAddr]) -> Value {
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        })
    };
    let resources = json!({
        "cpu": (node.capacity.cpu_millis / 1000).to_string(),
        "memory": format!("{}Ki", node.capacity.memory_bytes / 1024),
        "pods": PODS_MAX.to_string(),
    });
    json!({
        "capacity": resources,
        "allocatable": resources,
        "addresses": address_list(&node.name, addresses),
        "daemonEndpoints": { "kubeletEndpoint": { "Port": node.port } },
        "nodeInfo": node_info(),
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ],
    })
}

fn node_info() -> Value {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    json!({
        "machineID": read("/etc/machine-id"),
        "systemUUID": read("/sys/class/dmi/id/product_uuid"),
        "bootID": read("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": read("/proc/sys/kernel/osrelease"),
        "osImage": pretty.unwrap_or("Linux").trim_matches('"'),
        "containerRuntimeVersion": concat!("knarr://", env!("CARGO_PKG_VERSION")),
        "kubeletVersion": VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": architecture(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_addresses_in_the_families_of_its_pods() {
        let check = |given: &[&str], pod_cidrs: &[&str], expected: &[&str]| {
            let given: Vec<IpAddr> = given.iter().map(|text| text.parse().unwrap()).collect();
            let pod_cidrs: Vec<IpNet> =
                pod_cidrs.iter().map(|text| text.parse().unwrap()).collect();
            let found: Vec<String> = addresses(&given, &pod_cidrs)
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(found, expected, "{given:?} {pod_cidrs:?}");
        };
        let host = ["192.0.2.7", "2001:db8::7"];
        check(&host, &["10.42.0.0/24"], &["192.0.2.7"]);
        check(&host, &["fd42::/64"], &["2001:db8::7"]);
        check(
            &host,
            &["fd42::/64", "10.42.0.0/24"],
            &["2001:db8::7", "192.0.2.7"],
        );
        check(
            &host[..1],
            &["10.42.0.0/24", "fd42::/64"],
            &["192.0.2.7", "fd42::1"],
        );
        check(&[], &["10.42.0.0/24"], &["10.42.0.1"]);
    }
}
