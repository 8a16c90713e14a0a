//! Reads the cluster's settings from the ConfigMap `kube-system/knarr`, and follows it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::StreamExt;
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use k8s_openapi::api::core::v1::ConfigMap;
use knarr_client::Api;
use kube::Client;
use kube::runtime::watcher;
use tokio::sync::watch;

use crate::host::Cluster;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "knarr";

/// The settings as they are; those of no cluster while there are none.
pub(super) async fn read(client: &Client) -> Cluster {
    let api = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    match api.get_opt(NAME).await {
        Ok(found) => found.map(|found| settings(&found)).unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "reading the cluster's settings");
            Cluster::default()
        }
    }
}

/// Follows the settings until dropped.
pub(super) async fn follow(client: Client, sender: watch::Sender<Cluster>) {
    let only = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let mut events = knarr_client::watch::<ConfigMap>(client, Some(NAMESPACE), only);
    while let Some(event) = events.next().await {
        let (watcher::Event::Apply(found) | watcher::Event::InitApply(found)) = event else {
            continue;
        };
        let new = settings(&found);
        sender.send_if_modified(|known| {
            let changed = *known != new;
            *known = new;
            changed
        });
    }
}

fn settings(found: &ConfigMap) -> Cluster {
    let value = |key: &str| {
        found
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(String::as_str)
            .unwrap_or_default()
    };
    let words = |key: &str| -> Vec<String> {
        value(key)
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    Cluster {
        service_cidrs: words("service-cidr")
            .iter()
            .flat_map(|word| nets(word))
            .collect(),
        lb_pool: words("lb-pool")
            .iter()
            .flat_map(|word| nets(word))
            .collect(),
        dns: words("cluster-dns"),
        domain: value("cluster-domain").to_owned(),
    }
}

/// The networks that an address, a CIDR or a range `from-to` covers.
fn nets(text: &str) -> Vec<IpNet> {
    if let Ok(net) = text.parse() {
        return vec![net];
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return vec![address.into()];
    }
    let Some((from, to)) = text.split_once('-') else {
        return Vec::new();
    };
    let (from, to) = (from.trim(), to.trim());
    if let (Ok(from), Ok(to)) = (from.parse::<Ipv4Addr>(), to.parse::<Ipv4Addr>()) {
        return Ipv4Subnets::new(from, to, 0).map(IpNet::from).collect();
    }
    match (from.parse::<Ipv6Addr>(), to.parse::<Ipv6Addr>()) {
        (Ok(from), Ok(to)) => Ipv6Subnets::new(from, to, 0).map(IpNet::from).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<String> = nets(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_pool_may_be_addresses_networks_or_ranges() {
        check("10.1.0.0/24", &["10.1.0.0/24"]);
        check("10.1.0.9", &["10.1.0.9/32"]);
        check("10.1.0.8-10.1.0.12", &["10.1.0.8/30", "10.1.0.12/32"]);
        check("fd00::8-fd00::b", &["fd00::8/126"]);
        check("nonsense", &[]);
        check("1-2", &[]);
    }
}
