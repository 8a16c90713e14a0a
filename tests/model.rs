//! What Kubernetes does with the first packet of a flow: slow, obvious, read off its documented rules.
//!
//! Knows nothing of plans, tables and chains, so that it can contradict them.

mod agree;
mod draw;
mod endpoints;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use k8s_openapi::api::{
    core::v1::{Service, ServicePort, ServiceSpec},
    discovery::v1::EndpointSlice,
};

use crate::scenario::{Pod, Protocol};
use endpoints::{Known, usable_anywhere, usable_here, usable_in_cluster};

/// A cluster at one moment.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Nodes by name, with their zones.
    pub(crate) nodes: BTreeMap<String, Option<String>>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) services: Vec<Service>,
    /// Slices that users wrote; those of selectors follow from the pods.
    pub(crate) slices: Vec<EndpointSlice>,
    /// Addresses of nodes, pods and `client`.
    pub(crate) addresses: BTreeMap<String, IpAddr>,
    pub(crate) pod_range: IpNet,
    pub(crate) service_range: IpNet,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// One of these gets it, bearing that source.
    Answered(BTreeSet<(SocketAddr, IpAddr)>),
    /// Refused at once.
    Rejected,
    /// Lost without a word.
    Dropped,
    /// No business of any Service: it goes on, bearing that source.
    Untouched(IpAddr),
}

/// Which of a Service's addresses a client knocked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    ClusterIp,
    ExternalIp,
    LoadBalancerIp,
    NodePort,
}

/// The service port behind a door.
struct Opened<'a> {
    door: Door,
    service: &'a Service,
    spec: &'a ServiceSpec,
    port: &'a ServicePort,
}

/// Where a packet is about to be judged, and whose it is.
#[derive(Clone, Copy)]
struct Visit<'a> {
    node: &'a str,
    source: IpAddr,
    to: SocketAddr,
    protocol: Protocol,
    /// The backend that an earlier connection of the same client to the same service port got.
    before: Option<SocketAddr>,
}

impl Cluster {
    /// What becomes of a packet from a pod, a node or `client`.
    pub(crate) fn fate(&self, from: &str, to: SocketAddr, protocol: Protocol) -> Fate {
        self.fate_after(from, to, protocol, None)
    }

    /// The same for a client whose earlier connection got a backend.
    pub(crate) fn fate_after(
        &self,
        from: &str,
        to: SocketAddr,
        protocol: Protocol,
        before: Option<SocketAddr>,
    ) -> Fate {
        let visit = Visit {
            node: self.first_node(from, to.ip()),
            source: self.addresses[from],
            to,
            protocol,
            before,
        };
        match (self.at(visit), self.node_at(to.ip())) {
            (Fate::Untouched(_), Some(next)) if next != visit.node => self.at(Visit {
                node: next,
                ..visit
            }),
            (fate, _) => fate,
        }
    }

    /// The service port that a door on a node belongs to, as a name to compare.
    pub(crate) fn service_port(
        &self,
        from: &str,
        to: SocketAddr,
        protocol: Protocol,
    ) -> Option<(String, String, String)> {
        let node = self.first_node(from, to.ip());
        let node = self.node_at(to.ip()).unwrap_or(node);
        let opened = self.open(node, to, protocol)?;
        Some((
            node.to_owned(),
            opened.service.metadata.name.clone()?,
            opened.port.name.clone().unwrap_or_default() + word(protocol),
        ))
    }

    fn first_node(&self, from: &str, to: IpAddr) -> &str {
        if let Some((node, _)) = self.nodes.get_key_value(from) {
            return node;
        }
        match self.pods.iter().find(|pod| pod.name == from) {
            Some(pod) => &pod.node,
            None => self.node_at(to).unwrap_or("node-1"),
        }
    }

    fn node_at(&self, ip: IpAddr) -> Option<&str> {
        let mut nodes = self.nodes.keys();
        nodes
            .find(|node| self.addresses[*node] == ip)
            .map(String::as_str)
    }

    fn at(&self, visit: Visit<'_>) -> Fate {
        if let Some(opened) = self.open(visit.node, visit.to, visit.protocol) {
            return self.enter(&opened, visit);
        }
        let to = visit.to.ip();
        let is_cluster_ip =
            proxied(&self.services).any(|(_, spec)| cluster_ips(spec).contains(&to));
        if is_cluster_ip {
            Fate::Rejected
        } else if self.service_range.contains(&to) {
            Fate::Dropped
        } else {
            Fate::Untouched(self.seen_at(to, visit))
        }
    }

    /// Who a machine thinks that it hears when a packet comes to it as it was sent, or with another destination only.
    ///
    /// Pods are known to pods and nodes, and hide behind their node from everybody else.
    fn seen_at(&self, to: IpAddr, visit: Visit<'_>) -> IpAddr {
        let knows_pods = self.pod_range.contains(&to) || self.node_at(to).is_some();
        if self.is_pod_of(visit.node, visit.source) && !knows_pods {
            self.addresses[visit.node]
        } else {
            visit.source
        }
    }

    fn open(&self, node: &str, to: SocketAddr, protocol: Protocol) -> Option<Opened<'_>> {
        let knocks_at_node = to.ip() == self.addresses[node];
        for (service, spec) in proxied(&self.services) {
            let own = cluster_ips(spec);
            let in_family = own.iter().any(|ip| ip.is_ipv4() == to.is_ipv4());
            for port in spec.ports.iter().flatten().filter(|_| in_family) {
                let here = i32::from(to.port()) == port.port;
                let door = match () {
                    () if here && own.contains(&to.ip()) => Door::ClusterIp,
                    () if here && external_ips(spec).contains(&to.ip()) => Door::ExternalIp,
                    () if here && load_balancer_ips(service).contains(&to.ip()) => {
                        Door::LoadBalancerIp
                    }
                    () if knocks_at_node && port.node_port == Some(i32::from(to.port())) => {
                        Door::NodePort
                    }
                    () => continue,
                };
                if port.protocol.as_deref().unwrap_or("TCP") == word(protocol) {
                    return Some(Opened {
                        door,
                        service,
                        spec,
                        port,
                    });
                }
            }
        }
        None
    }

    fn enter(&self, opened: &Opened<'_>, visit: Visit<'_>) -> Fate {
        let Opened {
            door,
            service,
            spec,
            port,
        } = opened;
        if *door == Door::LoadBalancerIp && !self.admits(service, spec, visit) {
            return Fate::Dropped;
        }
        let known = self.endpoints(service, port, visit.node, visit.to.is_ipv4());
        if !usable_anywhere(&known) {
            return Fate::Rejected;
        }
        let external_is_local = spec.external_traffic_policy.as_deref() == Some("Local");
        let from_pod = self.pod_range.contains(&visit.source);
        let from_this_node = self.addresses[visit.node] == visit.source;
        let keeps_to_node = match door {
            Door::ClusterIp => spec.internal_traffic_policy.as_deref() == Some("Local"),
            Door::ExternalIp | Door::LoadBalancerIp | Door::NodePort => {
                external_is_local && !self.is_pod_of(visit.node, visit.source) && !from_this_node
            }
        };
        let mut backends = if keeps_to_node {
            usable_here(&known)
        } else {
            let zone = self.nodes[visit.node].as_deref();
            usable_in_cluster(&known, visit.node, zone)
        };
        let remembers = spec.session_affinity.as_deref() == Some("ClientIP");
        if let Some(before) = visit
            .before
            .filter(|before| remembers && backends.contains(before))
        {
            backends = [before].into();
        }
        if backends.is_empty() {
            return Fate::Dropped;
        }
        let masquerades = match door {
            Door::ClusterIp => !from_pod,
            Door::ExternalIp | Door::LoadBalancerIp | Door::NodePort if external_is_local => {
                from_this_node
            }
            Door::ExternalIp | Door::LoadBalancerIp | Door::NodePort => true,
        };
        let seen_by = |backend: SocketAddr| {
            if masquerades || backend.ip() == visit.source {
                self.addresses[visit.node]
            } else {
                self.seen_at(backend.ip(), visit)
            }
        };
        Fate::Answered(
            backends
                .into_iter()
                .map(|backend| (backend, seen_by(backend)))
                .collect(),
        )
    }

    fn is_pod_of(&self, node: &str, ip: IpAddr) -> bool {
        let mut own = self.pods.iter().filter(|pod| pod.node == node);
        own.any(|pod| self.addresses[&pod.name] == ip)
    }

    /// Whether a load balancer's source ranges let a client in.
    fn admits(&self, service: &Service, spec: &ServiceSpec, visit: Visit<'_>) -> bool {
        let ranges = spec.load_balancer_source_ranges.iter().flatten();
        let ranges: Vec<IpNet> = ranges
            .filter_map(|text| text.trim().parse().ok())
            .filter(|range: &IpNet| range.addr().is_ipv4() == visit.source.is_ipv4())
            .collect();
        let within = |ip: IpAddr| ranges.iter().any(|range| range.contains(&ip));
        // A node that has the address itself uses it as its source.
        let own = within(self.addresses[visit.node])
            && load_balancer_ips(service).contains(&visit.source);
        ranges.is_empty() || within(visit.source) || own
    }

    fn endpoints(
        &self,
        service: &Service,
        port: &ServicePort,
        node: &str,
        ipv4: bool,
    ) -> Vec<Known> {
        let written = endpoints::written(self, service, port, node, ipv4);
        let selected = endpoints::selected(self, service, port, node);
        endpoints::distinct(written.into_iter().chain(selected).collect())
    }
}

/// Services that this proxy serves.
fn proxied(services: &[Service]) -> impl Iterator<Item = (&Service, &ServiceSpec)> {
    services.iter().filter_map(|service| {
        let spec = service.spec.as_ref()?;
        let labels = service.metadata.labels.as_ref();
        let theirs = labels
            .is_some_and(|labels| labels.contains_key("service.kubernetes.io/service-proxy-name"));
        let skipped = theirs
            || spec.type_.as_deref() == Some("ExternalName")
            || matches!(spec.cluster_ip.as_deref(), None | Some("None" | ""));
        (!skipped).then_some((service, spec))
    })
}

fn parsed<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<IpAddr> {
    texts
        .into_iter()
        .filter_map(|text| text.parse().ok())
        .collect()
}

fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    parsed(spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip))
}

fn external_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    parsed(spec.external_ips.iter().flatten())
}

/// Only those whose packets arrive unchanged; a proxying load balancer keeps its own.
fn load_balancer_ips(service: &Service) -> Vec<IpAddr> {
    let status = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = status
        .iter()
        .flat_map(|status| status.ingress.iter().flatten());
    parsed(
        ingress
            .filter(|one| one.ip_mode.as_deref() != Some("Proxy"))
            .filter_map(|one| one.ip.as_ref()),
    )
}

/// Kubernetes' word for a protocol.
fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
        Protocol::Icmp => "ICMP",
    }
}
