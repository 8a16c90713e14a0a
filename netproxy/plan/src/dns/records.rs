//! What one Service and one EndpointSlice add to the zone.

use std::net::IpAddr;

use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointSlice},
};

use super::name;
use crate::Protocol;

/// A Service's own records.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ServiceRecords {
    /// Has cluster IPs.
    Virtual {
        addresses: Vec<IpAddr>,
        ports: Vec<Port>,
    },
    /// Is answered with its endpoints.
    Headless,
    /// Is another name.
    Alias { target: String },
}

/// A named port; unnamed ones have no SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub name: String,
    pub protocol: Protocol,
    pub number: u16,
}

/// The ready endpoints of one slice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SliceRecords {
    pub endpoints: Vec<EndpointRecords>,
}

/// One endpoint of a headless Service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EndpointRecords {
    pub hostname: String,
    pub address: IpAddr,
    pub ports: Vec<Port>,
}

impl ServiceRecords {
    pub(super) fn of(service: &Service) -> Self {
        let spec = service.spec.clone().unwrap_or_default();
        if spec.type_.as_deref() == Some("ExternalName") {
            return ServiceRecords::Alias {
                target: name::canonical(&spec.external_name.unwrap_or_default()),
            };
        }
        let addresses: Vec<IpAddr> = spec
            .cluster_ips
            .iter()
            .flatten()
            .filter_map(|ip| ip.parse().ok())
            .collect();
        if addresses.is_empty() {
            return ServiceRecords::Headless;
        }
        let ports = spec.ports.into_iter().flatten();
        let ports = ports
            .filter_map(|p| port(p.name.as_deref(), p.protocol.as_deref(), Some(p.port)))
            .collect();
        ServiceRecords::Virtual { addresses, ports }
    }
}

impl SliceRecords {
    pub(super) fn of(slice: &EndpointSlice) -> Self {
        let ports: Vec<Port> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|p| port(p.name.as_deref(), p.protocol.as_deref(), p.port))
            .collect();
        let ready = slice
            .endpoints
            .iter()
            .flatten()
            .filter(|endpoint| is_ready(endpoint));
        let endpoints = ready
            .filter_map(|endpoint| endpoint_records(endpoint, &ports))
            .collect();
        SliceRecords { endpoints }
    }
}

fn endpoint_records(endpoint: &Endpoint, ports: &[Port]) -> Option<EndpointRecords> {
    // Only the first address has meaning.
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let hostname = endpoint
        .hostname
        .clone()
        .filter(|hostname| !hostname.is_empty());
    let hostname = hostname.map_or_else(
        || name::dashed(address),
        |hostname| hostname.to_ascii_lowercase(),
    );
    Some(EndpointRecords {
        hostname,
        address,
        ports: ports.to_vec(),
    })
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .and_then(|conditions| conditions.ready)
        .unwrap_or(true)
}

fn port(name: Option<&str>, protocol: Option<&str>, number: Option<i32>) -> Option<Port> {
    let name = name.filter(|name| !name.is_empty())?.to_owned();
    Some(Port {
        name,
        protocol: Protocol::parse(protocol)?,
        number: u16::try_from(number?).ok()?,
    })
}
