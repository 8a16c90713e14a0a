//! Node ports on localhost: where to listen on the loopback link, and which of the node's own addresses carries on from there.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::{
    changes::Changes,
    frontend::{Answer, Frontend, Plan},
    key::{Address, Family, FrontendKey, Protocol},
};

/// A place on the loopback link where clients of this node may knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Doorstep {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// 127.0.0.1 or ::1, and the node port.
    pub address: SocketAddr,
}

/// Each doorstep, and the node's own address and port that answers for it.
pub type Doorsteps = BTreeMap<Doorstep, SocketAddr>;

/// The doorsteps of a plan on a node with these addresses.
///
/// A node port that nobody answers has none: the kernel refuses at a port where nobody listens.
#[must_use]
pub fn doorsteps(plan: &Plan, node_ips: &[IpAddr]) -> Doorsteps {
    let first = FrontendKey {
        address: Address::Node(Family::V4),
        protocol: Protocol::Tcp,
        port: 0,
    };
    let accepts = |ip: &&IpAddr| {
        let ranges = &plan.ranges.node_port_addresses;
        ranges.iter().any(|range| range.contains(*ip))
    };
    let own = |family| {
        let mut of_family = node_ips.iter().filter(|ip| Family::of(ip) == family);
        of_family.find(accepts).copied()
    };
    let of_families = [(Family::V4, own(Family::V4)), (Family::V6, own(Family::V6))];
    let node_ports = plan.frontends.range(first..);
    let answered = node_ports.filter(|(_, frontend)| is_answered(frontend));
    answered
        .filter_map(|(key, _)| {
            let family = key.address.family();
            let to = of_families.iter().find(|(of, _)| *of == family)?.1?;
            Some((doorstep(key)?, SocketAddr::new(to, key.port)))
        })
        .collect()
}

/// Whether changes add a doorstep or take one away.
#[must_use]
pub fn concerns_doorsteps(changes: &Changes) -> bool {
    let differs = |key: &FrontendKey| {
        let change = changes.frontends.get(key);
        change.is_some_and(|change| {
            change.from().is_some_and(is_answered) != change.to().is_some_and(is_answered)
        })
    };
    changes.ranges.is_some()
        || changes
            .frontends
            .keys()
            .any(|key| doorstep(key).is_some() && differs(key))
}

fn is_answered(frontend: &Frontend) -> bool {
    match frontend.answer {
        Answer::Backends { .. } => true,
        Answer::Reject | Answer::Drop => false,
    }
}

fn doorstep(key: &FrontendKey) -> Option<Doorstep> {
    let loopback = match key.address {
        Address::Node(Family::V4) => IpAddr::from(Ipv4Addr::LOCALHOST),
        Address::Node(Family::V6) => IpAddr::from(Ipv6Addr::LOCALHOST),
        Address::Ip(_) => return None,
    };
    match key.protocol {
        Protocol::Tcp | Protocol::Udp => Some(Doorstep {
            protocol: key.protocol,
            address: SocketAddr::new(loopback, key.port),
        }),
        // A datagram of SCTP cannot be handed on without speaking SCTP.
        Protocol::Sctp => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
    use serde_json::json;

    use super::*;
    use crate::{ServiceKey, Settings, Snapshot, changes::diff, plan};

    /// A plan with one dual-stack Service on node port 30080, TCP and SCTP, and its endpoints of IPv4 and IPv6.
    fn planned(v4: &[&str], v6: &[&str], node_ips: &[&str]) -> (Plan, Vec<IpAddr>) {
        let node_ips: Vec<IpAddr> = node_ips
            .iter()
            .map(|ip| ip.parse().expect("an address"))
            .collect();
        let service: Service = serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "default" },
            "spec": {
                "type": "NodePort", "clusterIP": "10.0.128.7", "clusterIPs": ["10.0.128.7", "fd43::7"],
                "ports": [
                    { "name": "web", "port": 80, "nodePort": 30080 },
                    { "name": "sctp", "port": 80, "nodePort": 30080, "protocol": "SCTP" },
                ],
            },
        }))
        .expect("a Service");
        let slice = |kind: &str, addresses: &[&str]| -> Arc<EndpointSlice> {
            let endpoints: Vec<_> = addresses
                .iter()
                .map(|ip| json!({ "addresses": [ip] }))
                .collect();
            let ports = ["web", "sctp"].map(|name| {
                let protocol = if name == "web" { "TCP" } else { "SCTP" };
                json!({ "name": name, "port": 8080, "protocol": protocol })
            });
            let slice = json!({ "addressType": kind, "ports": ports, "endpoints": endpoints });
            Arc::new(serde_json::from_value(slice).expect("a slice"))
        };
        let slices = vec![slice("IPv4", v4), slice("IPv6", v6)];
        let snapshot = Snapshot {
            settings: Settings {
                node_name: "node-1".into(),
                node_ips: node_ips.clone(),
                ..Settings::default()
            },
            services: [(
                ServiceKey::new("default", "web"),
                (Arc::new(service), slices),
            )]
            .into(),
        };
        (plan(&snapshot).0, node_ips)
    }

    fn check(v4: &[&str], v6: &[&str], node_ips: &[&str], expected: &[&str]) {
        let (plan, node_ips) = planned(v4, v6, node_ips);
        let found: Vec<String> = doorsteps(&plan, &node_ips)
            .iter()
            .map(|(step, to)| format!("{} {} {to}", step.protocol, step.address))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn an_answered_node_port_has_a_doorstep_in_each_family() {
        let node = ["192.168.7.1", "fd07::1"];
        let v4 = "tcp 127.0.0.1:30080 192.168.7.1:30080";
        let v6 = "tcp [::1]:30080 [fd07::1]:30080";
        check(&["10.42.0.5"], &["fd42::5"], &node, &[v4, v6]);
        check(&["10.42.0.5"], &[], &node, &[v4]);
        check(&[], &[], &node, &[]);
        check(&["10.42.0.5"], &["fd42::5"], &node[1..], &[v6]);
    }

    #[test]
    fn only_changes_from_nobody_to_somebody_concern_doorsteps() {
        let node = ["192.168.7.1"];
        let check = |from: &[&str], to: &[&str], expected: bool| {
            let (from, to) = (planned(from, &[], &node).0, planned(to, &[], &node).0);
            let changes = diff(&from, &to);
            assert!(!changes.is_empty());
            assert_eq!(concerns_doorsteps(&changes), expected);
        };
        check(&["10.42.0.5"], &["10.42.0.6"], false);
        check(&["10.42.0.5"], &[], true);
        check(&[], &["10.42.0.5"], true);
    }
}
