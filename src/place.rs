//! Where the API server of this process is found: the address it advertises and the names it answers to, while the machine moves.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use knarr_apiserver::Server;
use tokio::{sync::watch, time::sleep};

use crate::{addresses::Addresses, ranges::Ranges, settings::Settings};

const RETRY: Duration = Duration::from_secs(1);

/// Where the API server is found, as far as it is known without looking.
pub(crate) struct Place {
    node_name: String,
    pub(crate) node_ips: watch::Receiver<Vec<IpAddr>>,
    /// For when the machine has no address of its own.
    fallback: IpAddr,
}

impl Place {
    pub(crate) fn new(settings: &Settings, addresses: &Addresses, ranges: &Ranges) -> Self {
        Place {
            node_name: settings.node_name.clone(),
            node_ips: addresses.node.clone(),
            fallback: fallback(ranges),
        }
    }

    /// Where the Service `default/kubernetes` leads: an address of its own family.
    pub(crate) fn advertised(&self, node_ips: &[IpAddr]) -> IpAddr {
        let is_same_family = |ip: &&IpAddr| ip.is_ipv4() == self.fallback.is_ipv4();
        let of_family = node_ips.iter().find(is_same_family);
        of_family.copied().unwrap_or(self.fallback)
    }

    /// What the server's certificate has to be good for.
    pub(crate) fn names(&self, node_ips: &[IpAddr]) -> Vec<String> {
        let addresses = node_ips.iter().chain([&self.fallback]);
        std::iter::once(self.node_name.clone())
            .chain(addresses.map(IpAddr::to_string))
            .collect()
    }

    /// Moves the server with the machine, until dropped.
    pub(crate) async fn keep(mut self, server: Arc<Server>) {
        while self.node_ips.changed().await.is_ok() {
            let node_ips = self.node_ips.borrow_and_update().clone();
            let (address, names) = (self.advertised(&node_ips), self.names(&node_ips));
            if let Err(error) = server.move_to(address, names).await {
                let error = anyhow::Error::new(error);
                tracing::warn!("moving the API server to {address}: {error:#}");
                sleep(RETRY).await;
                self.node_ips.mark_changed();
            }
        }
        // Addresses that were given do not change.
        std::future::pending().await
    }
}

/// On a host without network, pods still reach the first node at its address among them.
fn fallback(ranges: &Ranges) -> IpAddr {
    let is_v4 = ranges
        .service_cidr
        .first()
        .is_none_or(|range| range.addr().is_ipv4());
    let mut ranges = ranges.cluster_cidr.iter();
    let range = ranges.find(|range| range.addr().is_ipv4() == is_v4);
    let among_pods = range.and_then(|range| match range {
        IpNet::V4(range) => range.hosts().next().map(IpAddr::V4),
        IpNet::V6(range) => range.hosts().nth(1).map(IpAddr::V6),
    });
    among_pods.unwrap_or(match is_v4 {
        true => IpAddr::from(Ipv4Addr::LOCALHOST),
        false => IpAddr::from(Ipv6Addr::LOCALHOST),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_advertised_in_the_family_of_its_service() {
        let check = |node_ips: &[&str], service: &str, cluster: &str, expected: &str| {
            let nets = |text: &str| {
                text.split(',')
                    .map(|net| net.parse().expect("a CIDR"))
                    .collect()
            };
            let ranges = Ranges {
                cluster_cidr: nets(cluster),
                service_cidr: nets(service),
                lb_pool: Vec::new(),
            };
            let node_ips: Vec<IpAddr> = node_ips
                .iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect();
            let place = Place {
                node_name: "node-1".into(),
                node_ips: watch::channel(Vec::new()).1,
                fallback: fallback(&ranges),
            };
            let advertised = place.advertised(&node_ips).to_string();
            assert_eq!(advertised, expected, "{service}");
            let names = place.names(&node_ips);
            assert!(names.contains(&advertised), "{names:?}");
        };
        let host = ["192.0.2.7", "2001:db8::7"];
        check(&host, "10.0.128.0/17", "10.42.0.0/16", "192.0.2.7");
        check(
            &host,
            "fd43::/112,10.0.128.0/17",
            "10.42.0.0/16,fd42::/48",
            "2001:db8::7",
        );
        check(&host[..1], "fd43::/112", "fd42::/48", "fd42::1");
        check(&[], "10.0.128.0/17", "10.42.0.0/16", "10.42.0.1");
    }
}
