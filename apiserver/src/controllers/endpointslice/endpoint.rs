//! One pod as an endpoint of one Service, and the ports it offers there.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Node, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::pods;
use super::super::selection::is_headless;
use super::super::well_known::ZONE_LABEL;

/// Family of a slice's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AddressType {
    Ipv4,
    Ipv6,
}

impl AddressType {
    pub(super) fn name(self) -> &'static str {
        match self {
            AddressType::Ipv4 => "IPv4",
            AddressType::Ipv6 => "IPv6",
        }
    }

    fn includes(self, address: &str) -> bool {
        match address.parse() {
            Ok(IpAddr::V4(_)) => self == AddressType::Ipv4,
            Ok(IpAddr::V6(_)) => self == AddressType::Ipv6,
            Err(_) => false,
        }
    }
}

/// The families a Service wants slices for.
pub(super) fn address_types(service: &Service) -> Vec<AddressType> {
    let spec = service.spec.as_ref();
    let families = spec
        .and_then(|spec| spec.ip_families.as_deref())
        .unwrap_or_default();
    let mut types: Vec<AddressType> = families
        .iter()
        .filter_map(|family| match family.as_str() {
            "IPv4" => Some(AddressType::Ipv4),
            "IPv6" => Some(AddressType::Ipv6),
            _ => None,
        })
        .collect();
    if types.is_empty() {
        let cluster_ip = spec
            .and_then(|spec| spec.cluster_ip.as_deref())
            .unwrap_or_default();
        types.push(match cluster_ip.parse() {
            Ok(IpAddr::V6(_)) => AddressType::Ipv6,
            Ok(IpAddr::V4(_)) | Err(_) => AddressType::Ipv4,
        });
    }
    types
}

/// Says whether IPv6 is the Service's first family, the only one its Endpoints object shows.
pub(in super::super) fn is_ipv6_first(service: &Service) -> bool {
    address_types(service).first() == Some(&AddressType::Ipv6)
}

/// What makes two endpoints the same one, whatever its conditions say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    addresses: Vec<String>,
    hostname: Option<String>,
    target: Option<(String, String)>,
}

pub(super) fn identity(endpoint: &Endpoint) -> Identity {
    let target = endpoint.target_ref.as_ref();
    Identity {
        addresses: endpoint.addresses.clone(),
        hostname: endpoint.hostname.clone(),
        target: target.map(|t| {
            (
                t.namespace.clone().unwrap_or_default(),
                t.name.clone().unwrap_or_default(),
            )
        }),
    }
}

/// The pod as an endpoint of `service`; `None` when it has no address of the family.
pub(super) fn candidate(
    pod: &Pod,
    node: Option<&Node>,
    service: &Service,
    family: AddressType,
) -> Option<Endpoint> {
    let addresses: Vec<String> = pods::addresses(pod)
        .into_iter()
        .filter(|address| family.includes(address))
        .map(str::to_owned)
        .collect();
    if addresses.is_empty() {
        return None;
    }
    let serving = pods::is_ready(pod);
    let terminating = pods::is_terminating(pod);
    Some(Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(publishes_not_ready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(pod, service),
        node_name: pods::node_name(pod).map(str::to_owned),
        target_ref: Some(pods::reference(pod)),
        zone: node
            .and_then(|node| node.metadata.labels.as_ref()?.get(ZONE_LABEL))
            .filter(|zone| !zone.is_empty())
            .cloned(),
        ..Endpoint::default()
    })
}

pub(in super::super) fn publishes_not_ready(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.publish_not_ready_addresses)
        .unwrap_or(false)
}

/// The name a pod has under a headless Service, if it asked for one there.
pub(in super::super) fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec
        .hostname
        .as_ref()
        .filter(|hostname| !hostname.is_empty())?;
    let here = spec.subdomain == service.metadata.name
        && pod.metadata.namespace == service.metadata.namespace;
    here.then(|| hostname.clone())
}

/// The Service's ports as this pod offers them; a port the pod lacks is left out.
pub(super) fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let spec = service.spec.as_ref();
    let service_ports = spec
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    if service_ports.is_empty() && is_headless(service) {
        return Vec::new();
    }
    let offered = service_ports.iter().filter_map(|port| {
        Some(EndpointPort {
            app_protocol: port.app_protocol.clone(),
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port_number(pod, port)?),
            protocol: Some(protocol(port.protocol.as_ref())),
        })
    });
    offered.collect()
}

fn protocol(protocol: Option<&String>) -> String {
    protocol.cloned().unwrap_or_else(|| "TCP".to_owned())
}

/// The number of a Service port on this pod; names are looked up among its containers and sidecars.
pub(in super::super) fn port_number(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => return Some(port.port),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let restarts = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(restarts);
    let wanted = protocol(port.protocol.as_ref());
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find(|offered| {
            offered.name.as_ref() == Some(name) && protocol(offered.protocol.as_ref()) == wanted
        })
        .map(|offered| offered.container_port)
}
