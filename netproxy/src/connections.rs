//! How many connections each frontend has led to a backend, as the kernel counts them.
//!
//! Reads the kernel once a scrape. Keeps no count of its own.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use knarr_netproxy_plan::{Address, Family, FrontendKey};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};

use crate::{
    census::Owner,
    nftables::wire::{self, Error, Socket},
};

/// Attempts to read counts while syncs change the table.
const ATTEMPTS_MAX: usize = 5;

/// The counts of one moment.
#[derive(Debug, Default)]
pub(crate) struct Connections(Vec<(FrontendKey, Owner, u64)>);

impl Connections {
    /// Reads the kernel; nothing when it cannot be read, for a partial answer would look like a restart.
    pub(crate) async fn count(owners: Vec<(FrontendKey, Owner)>) -> Self {
        let read = tokio::task::spawn_blocking(|| (0..ATTEMPTS_MAX).find_map(|_| read()));
        match read.await {
            Ok(Some(Ok(counts))) => Self::of(owners, &counts),
            Ok(Some(Err(error))) => {
                tracing::warn!("counts of connections: {error}");
                Self::default()
            }
            Ok(None) | Err(_) => Self::default(),
        }
    }

    /// Counts of frontends that are owned.
    fn of(owners: Vec<(FrontendKey, Owner)>, counts: &BTreeMap<FrontendKey, u64>) -> Self {
        let counted = owners.into_iter().filter_map(|(key, owner)| {
            let count = *counts.get(&key)?;
            Some((key, owner, count))
        });
        Self(counted.collect())
    }
}

/// Nothing when the table changed meanwhile.
fn read() -> Option<Result<BTreeMap<FrontendKey, u64>, Error>> {
    let read = || {
        let mut socket = Socket::open()?;
        let mut counts = BTreeMap::new();
        for family in Family::BOTH {
            counts.extend(wire::connections(&mut socket, family)?);
        }
        Ok(counts)
    };
    match read() {
        Err(Error::Stale) => None,
        result => Some(result),
    }
}

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let help = "New connections led to a backend";
        let kind = MetricType::Counter;
        let mut family = encoder.encode_descriptor("service_connections", help, None, kind)?;
        for (key, owner, count) in &self.0 {
            let labels = labels(key, owner);
            let labels: Vec<(&str, &str)> =
                labels.iter().map(|(name, of)| (*name, &**of)).collect();
            let metric = family.encode_family(&labels)?;
            ConstCounter::new(*count).encode(metric)?;
        }
        Ok(())
    }
}

fn labels<'a>(key: &FrontendKey, owner: &'a Owner) -> [(&'static str, Cow<'a, str>); 7] {
    let Owner { service_port, kind } = owner;
    let FrontendKey {
        address,
        protocol,
        port,
    } = key;
    let address = match address {
        Address::Ip(ip) => *ip,
        Address::Node(Family::V4) => Ipv4Addr::UNSPECIFIED.into(),
        Address::Node(Family::V6) => Ipv6Addr::UNSPECIFIED.into(),
    };
    [
        ("namespace", service_port.service.namespace.as_str().into()),
        ("service", service_port.service.name.as_str().into()),
        ("port_name", service_port.name.as_str().into()),
        ("protocol", protocol.to_string().to_uppercase().into()),
        ("kind", kind.to_string().into()),
        ("address", address.to_string().into()),
        ("port", port.to_string().into()),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use knarr_netproxy_plan::{FrontendKind, PortKey, Protocol, ServiceKey};
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    fn owned(address: Address, kind: FrontendKind, name: &str) -> (FrontendKey, Owner) {
        let key = FrontendKey {
            address,
            protocol: Protocol::Tcp,
            port: 80,
        };
        let service_port = Arc::new(PortKey {
            service: Arc::new(ServiceKey::new("shop", "web")),
            name: name.to_owned(),
            protocol: Protocol::Tcp,
        });
        (key, Owner { service_port, kind })
    }

    fn text(connections: Connections) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(connections));
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes all");
        text
    }

    #[test]
    fn only_frontends_of_services_are_told_and_only_if_the_kernel_counts_them() {
        let ip = |ip: &str| Address::Ip(ip.parse().expect("an address"));
        let web = owned(ip("10.0.128.7"), FrontendKind::ClusterIp, "http");
        let node = owned(Address::Node(Family::V6), FrontendKind::NodePort, "");
        let new = owned(ip("10.0.128.8"), FrontendKind::ClusterIp, "");
        let gone = owned(ip("10.0.128.9"), FrontendKind::ClusterIp, "").0;
        let counts = [(web.0, 3), (node.0, 0), (gone, 5)].into();
        let text = text(Connections::of(vec![web, node, new], &counts));
        assert_eq!(
            text,
            "# HELP service_connections New connections led to a backend\n\
             # TYPE service_connections counter\n\
             service_connections_total{namespace=\"shop\",service=\"web\",port_name=\"http\",\
             protocol=\"TCP\",kind=\"ClusterIP\",address=\"10.0.128.7\",port=\"80\"} 3\n\
             service_connections_total{namespace=\"shop\",service=\"web\",port_name=\"\",\
             protocol=\"TCP\",kind=\"NodePort\",address=\"::\",port=\"80\"} 0\n\
             # EOF\n"
        );
    }

    #[test]
    fn nothing_is_told_when_nothing_was_read() {
        assert_eq!(text(Connections::default()), "# EOF\n");
    }
}
