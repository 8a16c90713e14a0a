//! Where a packet starts: a pod, a node, or outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::Pod;
use knarr_netproxy_plan::Family;

use super::{Surroundings, cause};
use crate::{
    explain::{Cause, pods::Fitness, question::Client},
    nftables::trace::Origin,
};

/// A client with addresses.
pub(super) struct Departure {
    /// In words.
    pub(super) name: String,
    pub(super) text: String,
    addresses: Vec<IpAddr>,
    /// The node whose rules its packets meet, where the client decides that.
    pub(super) node: Option<String>,
    pub(super) origin: Origin,
}

impl Departure {
    pub(super) fn of(client: &Client, around: &Surroundings) -> Result<Self, Cause> {
        let name = client.to_string();
        match client {
            Client::Pod {
                namespace,
                name: pod,
            } => {
                let found = around.pod(namespace, pod).ok_or_else(|| {
                    cause(
                        format!("there is no pod {pod} in namespace {namespace}"),
                        format!("`knarr get pods -n {namespace}` lists those there are"),
                    )
                })?;
                of_pod(name, found)
            }
            Client::Node(node) => {
                let settings = around.nodes.get(node).ok_or_else(|| {
                    let names: Vec<&str> = around.nodes.keys().map(String::as_str).collect();
                    cause(
                        format!("there is no node {node}"),
                        format!("the nodes are {}", names.join(", ")),
                    )
                })?;
                Ok(Self {
                    text: format!("{name}, {}", list(&settings.node_ips)),
                    name,
                    addresses: settings.node_ips.clone(),
                    node: Some(node.clone()),
                    origin: Origin::Own,
                })
            }
            Client::Outside(ip) => {
                let any = [
                    Ipv4Addr::new(192, 0, 2, 1).into(),
                    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
                ];
                let addresses = ip.map_or_else(|| any.to_vec(), |ip| vec![ip]);
                let text = match ip {
                    Some(_) => name.clone(),
                    None => format!("outside the cluster, as {}", list(&addresses)),
                };
                Ok(Self {
                    name,
                    text,
                    addresses,
                    node: None,
                    origin: Origin::Arrives,
                })
            }
        }
    }

    /// The pair of addresses that the packet bears: the first destination that the client has the family for.
    pub(super) fn towards(&self, addresses: &[IpAddr]) -> Result<(IpAddr, IpAddr), Cause> {
        let own = |to: &IpAddr| {
            let mut own = self.addresses.iter();
            own.find(|from| Family::of(from) == Family::of(to)).copied()
        };
        let mut pairs = addresses.iter().filter_map(|to| Some((own(to)?, *to)));
        pairs.next().ok_or_else(|| {
            cause(
                format!(
                    "{} has no address of the family of {}",
                    self.name,
                    list(addresses)
                ),
                "give the cluster ranges of both families to have them on every pod",
            )
        })
    }
}

fn of_pod(name: String, pod: &Pod) -> Result<Departure, Cause> {
    let status = pod.status.clone().unwrap_or_default();
    let ips = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let ips = ips.chain(status.pod_ip.as_deref());
    let mut addresses: Vec<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
    addresses.dedup();
    let fitness = Fitness::of(pod);
    let spec = pod.spec.clone().unwrap_or_default();
    let (Some(node), false) = (spec.node_name, addresses.is_empty()) else {
        return Err(cause(
            format!("{name} sends nothing: it is {fitness}"),
            "look at its events: `kubectl describe pod`",
        ));
    };
    if fitness == Fitness::Ended {
        return Err(cause(
            format!("{name} sends nothing: its processes have ended"),
            "look at `kubectl logs --previous`",
        ));
    }
    // Processes of such a pod are processes of the node to its rules.
    let origin = match spec.host_network {
        Some(true) => Origin::Own,
        _ => Origin::Arrives,
    };
    Ok(Departure {
        text: format!("{name}, {fitness}, {} on {node}", list(&addresses)),
        name,
        addresses,
        node: Some(node),
        origin,
    })
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(" and ")
}
