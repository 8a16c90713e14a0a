//! Who could answer a service port, and which of them may: endpoints by Kubernetes' rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort},
        discovery::v1::{Endpoint, EndpointSlice},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::Cluster;
use crate::scenario::{Pod, PodState};

/// An endpoint of one service port, as one node sees it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    address: SocketAddr,
    here: bool,
    ready: bool,
    serving: bool,
    terminating: bool,
    for_nodes: Vec<String>,
    for_zones: Vec<String>,
}

/// From slices that users wrote for a Service.
pub(super) fn written(
    cluster: &Cluster,
    service: &Service,
    port: &ServicePort,
    node: &str,
    ipv4: bool,
) -> Vec<Known> {
    let label = |slice: &EndpointSlice, name: &str| {
        slice
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(name))
            .cloned()
    };
    let mut known = Vec::new();
    for slice in &cluster.slices {
        let ours = label(slice, "kubernetes.io/service-name") == service.metadata.name
            && label(slice, "service.kubernetes.io/headless").is_none()
            && slice.address_type == if ipv4 { "IPv4" } else { "IPv6" };
        let same = |name: Option<&str>, other: Option<&str>, absent: &str| {
            name.unwrap_or(absent) == other.unwrap_or(absent)
        };
        for own in slice.ports.iter().flatten().filter(|_| ours) {
            let number = own
                .port
                .and_then(|number| u16::try_from(number).ok())
                .unwrap_or(0);
            let joins = same(own.name.as_deref(), port.name.as_deref(), "")
                && same(own.protocol.as_deref(), port.protocol.as_deref(), "TCP");
            if joins && number != 0 {
                let all = slice.endpoints.iter().flatten();
                known.extend(all.filter_map(|endpoint| read(endpoint, number, node, ipv4)));
            }
        }
    }
    known
}

fn read(endpoint: &Endpoint, port: u16, node: &str, ipv4: bool) -> Option<Known> {
    let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let hints = endpoint.hints.clone().unwrap_or_default();
    let known = Known {
        address: SocketAddr::new(ip, port),
        here: endpoint.node_name.as_deref() == Some(node),
        ready: conditions.ready.unwrap_or(true),
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        for_nodes: hints
            .for_nodes
            .into_iter()
            .flatten()
            .map(|hint| hint.name)
            .collect(),
        for_zones: hints
            .for_zones
            .into_iter()
            .flatten()
            .map(|hint| hint.name)
            .collect(),
    };
    (ip.is_ipv4() == ipv4).then_some(known)
}

/// From pods that a Service's selector chooses.
pub(super) fn selected(
    cluster: &Cluster,
    service: &Service,
    port: &ServicePort,
    node: &str,
) -> Vec<Known> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let Some(selector) = spec
        .selector
        .as_ref()
        .filter(|selector| !selector.is_empty())
    else {
        return Vec::new();
    };
    let published = spec.publish_not_ready_addresses == Some(true);
    let chosen = cluster.pods.iter().filter(|pod| {
        selector
            .iter()
            .all(|(key, value)| pod.labels.get(key) == Some(value))
    });
    let known = chosen.filter_map(|pod| {
        let number = target_port(port, pod)?;
        let leaving = pod.state == PodState::Leaving;
        let ready = published || pod.state == PodState::Ready;
        let zone = cluster.nodes[&pod.node].clone();
        let (for_nodes, for_zones) = match spec.traffic_distribution.as_deref() {
            Some("PreferSameNode") if ready => (vec![pod.node.clone()], zone.into_iter().collect()),
            Some("PreferClose" | "PreferSameZone") if ready => {
                (Vec::new(), zone.into_iter().collect())
            }
            _ => (Vec::new(), Vec::new()),
        };
        Some(Known {
            address: SocketAddr::new(cluster.addresses[&pod.name], number),
            here: pod.node == node,
            ready,
            serving: pod.state != PodState::Unready,
            terminating: leaving,
            for_nodes,
            for_zones,
        })
    });
    known.collect()
}

fn target_port(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target_port {
        None => u16::try_from(port.port).ok(),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => pod
            .ports
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, number)| *number),
    }
}

/// One of each address: the one that is not leaving, then the readier, then the one on this node.
pub(super) fn distinct(mut all: Vec<Known>) -> Vec<Known> {
    let rank = |known: &Known| {
        let answers = known.ready || known.serving;
        (known.terminating, !known.ready, !answers, !known.here)
    };
    all.sort_by_key(rank);
    let mut by_address: BTreeMap<SocketAddr, Known> = BTreeMap::new();
    for known in all {
        by_address.entry(known.address).or_insert(known);
    }
    by_address.into_values().collect()
}

fn addresses<'a>(chosen: impl Iterator<Item = &'a Known>) -> BTreeSet<SocketAddr> {
    chosen.map(|known| known.address).collect()
}

fn leaving(known: &Known) -> bool {
    !known.ready && known.serving && known.terminating
}

/// Whether anybody could answer somewhere.
pub(super) fn usable_anywhere(all: &[Known]) -> bool {
    all.iter().any(|known| known.ready || leaving(known))
}

/// Policy Local: the ready ones here, or else those here that are leaving.
pub(super) fn usable_here(all: &[Known]) -> BTreeSet<SocketAddr> {
    let ready = addresses(all.iter().filter(|known| known.here && known.ready));
    if ready.is_empty() {
        addresses(all.iter().filter(|known| known.here && leaving(known)))
    } else {
        ready
    }
}

/// Policy Cluster: the ready ones as far as hints go, or else all that are leaving.
pub(super) fn usable_in_cluster(
    all: &[Known],
    node: &str,
    zone: Option<&str>,
) -> BTreeSet<SocketAddr> {
    let ready: Vec<&Known> = all.iter().filter(|known| known.ready).collect();
    if ready.is_empty() {
        return addresses(all.iter().filter(|known| leaving(known)));
    }
    let hinted = |hints: fn(&Known) -> &Vec<String>, name: &str| {
        let all_hinted = ready.iter().all(|known| !hints(known).is_empty());
        let meant = ready
            .iter()
            .copied()
            .filter(|known| hints(known).iter().any(|h| h == name));
        addresses(meant.filter(|_| all_hinted))
    };
    let same_node = hinted(|known| &known.for_nodes, node);
    let same_zone = zone
        .map(|zone| hinted(|known| &known.for_zones, zone))
        .unwrap_or_default();
    match (same_node.is_empty(), same_zone.is_empty()) {
        (false, _) => same_node,
        (true, false) => same_zone,
        (true, true) => addresses(ready.into_iter()),
    }
}
