//! Follows the Nodes: where the others are, and what the API has of this one. Writes none.

use std::net::IpAddr;

use futures_util::StreamExt;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::runtime::watcher;
use tokio::sync::watch;

use super::own_node::Said;
use crate::network::peers::Peer;

/// Follows the nodes until dropped: the others, and what the API has of this one.
pub(super) async fn follow(
    client: Client,
    own_name: String,
    sender: watch::Sender<Vec<Peer>>,
    own: watch::Sender<Option<Said>>,
) {
    let mut events = knarr_client::watch::<Node>(client, None, watcher::Config::default());
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        if let watcher::Event::InitApply(node) | watcher::Event::Apply(node) = &event
            && node.metadata.name.as_ref() == Some(&own_name)
        {
            tell(&own, Said::of(node));
        }
        match event {
            watcher::Event::Init => listed = Vec::new(),
            watcher::Event::InitApply(node) => listed.extend(peer(&node, &own_name)),
            watcher::Event::InitDone => replace(&sender, std::mem::take(&mut listed)),
            watcher::Event::Apply(node) => {
                let mut peers = sender.borrow().clone();
                peers.retain(|peer| Some(&peer.name) != node.metadata.name.as_ref());
                peers.extend(peer(&node, &own_name));
                replace(&sender, peers);
            }
            watcher::Event::Delete(node) => {
                let mut peers = sender.borrow().clone();
                peers.retain(|peer| Some(&peer.name) != node.metadata.name.as_ref());
                replace(&sender, peers);
            }
        }
    }
}

fn tell(own: &watch::Sender<Option<Said>>, said: Said) {
    let said = Some(said);
    own.send_if_modified(|known| {
        let changed = *known != said;
        *known = said;
        changed
    });
}

fn replace(sender: &watch::Sender<Vec<Peer>>, mut peers: Vec<Peer>) {
    peers.sort_by(|one, other| one.name.cmp(&other.name));
    sender.send_if_modified(|known| {
        let changed = *known != peers;
        *known = peers;
        changed
    });
}

fn peer(node: &Node, own_name: &str) -> Option<Peer> {
    let name = node.metadata.name.clone().filter(|name| name != own_name)?;
    Some(Peer {
        name,
        pod_cidrs: pod_cidrs(node),
        addresses: internal_ips(node),
    })
}

/// The addresses that others reach a node at.
pub(super) fn internal_ips(node: &Node) -> Vec<IpAddr> {
    let status = node.status.iter();
    let addresses = status.flat_map(|status| status.addresses.iter().flatten());
    addresses
        .filter(|address| address.type_ == "InternalIP")
        .filter_map(|address| address.address.parse().ok())
        .collect()
}

/// The pod CIDRs of a node.
pub(super) fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else {
        return Vec::new();
    };
    let several = spec.pod_cidrs.iter().flatten();
    let texts: Vec<&String> = match several.clone().next() {
        Some(_) => several.collect(),
        None => spec.pod_cidr.iter().collect(),
    };
    texts
        .into_iter()
        .filter_map(|text| text.parse().ok())
        .collect()
}
