//! Node ports of one Service, its health-check port among them.

use std::collections::{BTreeMap, BTreeSet};

use knarr_api::{
    field::{Error, Path},
    kinds::service::SERVICE,
    meta,
    status::Status,
};
use serde_json::Value;

use super::{Bands, Claim, Draft, Mode};

/// Where a dry run's pretended ports start.
const DRY_PORT_FIRST: i64 = 32769;

/// Why a port cannot be had, in Kubernetes' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unavailable {
    #[error("provided port is not in the valid range. The range of valid ports is {0}-{1}")]
    OutOfRange(u16, u16),
    #[error("provided port is already allocated")]
    Taken,
}

impl Draft<'_> {
    /// Ports with the same number share a node port, whatever their protocols.
    pub(super) fn allocate_ports(&mut self, service: &mut Value) -> Result<(), Status> {
        let allocates = allocates_node_ports(service);
        let requested = requested_node_ports(service);
        let mut given: BTreeMap<u64, i64> = BTreeMap::new();
        for index in 0..port_count(service) {
            let (port, node_port) = port_at(service, index);
            if node_port == 0 && !allocates {
                continue;
            }
            let shared = given.get(&port).copied();
            let chosen = match (shared, requested.get(&port)) {
                (Some(shared), _) if node_port == 0 || node_port == shared => shared,
                (Some(_), _) => self.take_port_at(service, index, node_port)?,
                (None, Some(&wanted)) => self.take_port_at(service, index, wanted)?,
                (None, None) => self.next_port_for_service()?,
            };
            given.entry(port).or_insert(chosen);
            set_node_port(service, index, chosen);
        }
        Ok(())
    }

    /// Ports that are new get numbers of their own; numbers that are no longer used are given back.
    pub(super) fn update_ports(&mut self, service: &mut Value, old: &Value) -> Result<(), Status> {
        let allocates = allocates_node_ports(service);
        let kept = node_ports(old);
        let mut seen = BTreeSet::new();
        for index in 0..port_count(service) {
            let (_, mut node_port) = port_at(service, index);
            if node_port == 0 && !allocates {
                continue;
            }
            if node_port == 0 {
                node_port = self.next_port_for_service()?;
                set_node_port(service, index, node_port);
            } else if !kept.contains(&node_port) && !self.ports.contains(&node_port) {
                self.take_port_at(service, index, node_port)?;
            }
            let protocol = service["spec"]["ports"][index]["protocol"].as_str();
            let protocol = protocol.unwrap_or_default().to_owned();
            if !seen.insert((protocol.clone(), node_port)) {
                let text = format!("duplicate nodePort: {{{protocol} {node_port}}}");
                return Err(Status::failure(500, "", text));
            }
        }
        let used = node_ports(service);
        for port in kept.difference(&used) {
            self.release_port(&Value::from(*port));
        }
        Ok(())
    }

    pub(super) fn allocate_health_check_port(&mut self, service: &mut Value) -> Result<(), Status> {
        let field = "healthCheckNodePort";
        let wanted = number(&service["spec"][field]);
        if wanted != 0 {
            return self.take_port(wanted).map_err(|reason| {
                let what = "failed to allocate requested HealthCheck NodePort";
                Status::internal(format!("{what} {wanted}: {reason}"))
            });
        }
        let port = self.next_port().ok_or_else(|| {
            Status::internal("failed to allocate a HealthCheck NodePort 0: range is full")
        })?;
        if let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert(field.into(), port.into());
        }
        Ok(())
    }

    pub(super) fn release_ports(&mut self, service: &Value) {
        for port in node_ports(service) {
            self.release_port(&Value::from(port));
        }
    }

    pub(super) fn release_port(&mut self, port: &Value) {
        if let Some(port) = port.as_u64().and_then(|p| u16::try_from(p).ok())
            && port != 0
        {
            let owner = self.owner.clone();
            self.freed.push(Claim::NodePort { port, owner });
        }
    }

    fn take_port_at(&mut self, service: &Value, index: usize, wanted: i64) -> Result<i64, Status> {
        self.take_port(wanted).map_err(|reason| {
            let path = Path::new("spec").child("ports").index(index);
            let error = Error::invalid(&path.child("nodePort"), wanted, &reason.to_string());
            Status::invalid(&SERVICE, meta::name(service), &[error])
        })?;
        Ok(wanted)
    }

    fn take_port(&mut self, wanted: i64) -> Result<(), Unavailable> {
        let range = &self.allocator.node_ports;
        let in_range = u16::try_from(wanted).is_ok_and(|port| range.contains(&port));
        // A dry run does not mind the range, as in Kubernetes.
        if !in_range && self.mode == Mode::Real {
            return Err(Unavailable::OutOfRange(*range.start(), *range.end()));
        }
        if self.is_port_taken(wanted) {
            return Err(Unavailable::Taken);
        }
        self.ports.push(wanted);
        Ok(())
    }

    fn next_port_for_service(&mut self) -> Result<i64, Status> {
        self.next_port()
            .ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))
    }

    fn next_port(&mut self) -> Option<i64> {
        let port = match self.mode {
            Mode::Dry => self
                .ports
                .iter()
                .max()
                .map_or(DRY_PORT_FIRST, |last| last + 1),
            Mode::Real => {
                let bands = Bands::ports(&self.allocator.node_ports);
                let is_free = |number| i64::try_from(number).is_ok_and(|p| !self.is_port_taken(p));
                let number = bands.choose(&self.allocator.random, is_free)?;
                i64::try_from(number).ok()?
            }
        };
        self.ports.push(port);
        Some(port)
    }

    fn is_port_taken(&self, port: i64) -> bool {
        let claimed = u16::try_from(port).is_ok_and(|p| self.claims.node_port(p).is_some());
        claimed || self.ports.contains(&port)
    }
}

fn allocates_node_ports(service: &Value) -> bool {
    match service["spec"]["type"].as_str() {
        Some("NodePort") => true,
        Some("LoadBalancer") => service["spec"]["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

/// For each port number, the first node port that some entry with it asks for.
fn requested_node_ports(service: &Value) -> BTreeMap<u64, i64> {
    let mut requested = BTreeMap::new();
    for index in 0..port_count(service) {
        let (port, node_port) = port_at(service, index);
        if node_port != 0 {
            requested.entry(port).or_insert(node_port);
        }
    }
    requested
}

pub(super) fn node_ports(service: &Value) -> BTreeSet<i64> {
    (0..port_count(service))
        .map(|index| port_at(service, index).1)
        .filter(|&port| port != 0)
        .collect()
}

fn port_count(service: &Value) -> usize {
    service["spec"]["ports"].as_array().map_or(0, Vec::len)
}

/// `port` and `nodePort` of an entry.
fn port_at(service: &Value, index: usize) -> (u64, i64) {
    let entry = &service["spec"]["ports"][index];
    (
        entry["port"].as_u64().unwrap_or(0),
        number(&entry["nodePort"]),
    )
}

/// What is no number counts as unset; negative and too large numbers stay, for errors to name.
fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn set_node_port(service: &mut Value, index: usize, node_port: i64) {
    let entry = service.pointer_mut(&format!("/spec/ports/{index}"));
    if let Some(entry) = entry.and_then(Value::as_object_mut) {
        entry.insert("nodePort".into(), node_port.into());
    }
}
