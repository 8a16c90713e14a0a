//! Cluster IPs and node ports of Services: which to take and which to give back when one is written.
//!
//! Nothing is held while a request is under way. A decision is made on what is committed, the claims go to disk in the same
//! transaction as the Service, and the store refuses a claim that somebody else was faster with; the caller then decides anew.

mod addresses;
mod bands;
mod ports;
mod repair;

#[cfg(test)]
mod tests;

use std::{net::IpAddr, ops::RangeInclusive, sync::RwLockReadGuard};

use ipnet::IpNet;
use knarr_api::{
    kinds::{networking::IP_ADDRESS, service},
    meta,
    names::address::Family,
    status::Status,
};
use serde_json::{Value, json};

use self::bands::Bands;
pub use self::{bands::Random, repair::repairs};
use crate::{
    clock,
    config::Config,
    storage::{Claim, Claims, Expect, Key, Owner, Store, Write},
};

/// Whether a request means it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Real,
    /// Shows what would be, and holds on to nothing.
    Dry,
}

/// Decides over the cluster IPs and node ports of a store.
pub struct Allocator {
    store: Store,
    families: service::Families,
    node_ports: RangeInclusive<u16>,
    random: Box<Random>,
}

impl Allocator {
    pub fn new(store: Store, config: &Config, random: Box<Random>) -> Self {
        let mut families = config.service_cidrs.iter().map(family_of);
        Allocator {
            store,
            families: service::Families {
                primary: families.next().unwrap_or(Family::Ipv4),
                secondary: families.next(),
            },
            node_ports: config.node_port_range.clone(),
            random,
        }
    }

    /// Fills in what a new Service gets, and returns the claims to commit with it.
    ///
    /// # Errors
    /// 422 when it asks for what it cannot have, 500 when nothing is left.
    pub fn create(&self, service: &mut Value, mode: Mode) -> Result<Vec<Write>, Status> {
        service::normalise_cluster_ips(service, None);
        self.settle_families(service, None)?;
        let mut draft = self.draft(service, mode);
        draft.allocate_addresses(service)?;
        if needs_node_ports(service) {
            draft.allocate_ports(service)?;
        }
        if needs_health_check_port(service) {
            draft.allocate_health_check_port(service)?;
        }
        Ok(draft.writes())
    }

    /// As [`Allocator::create`] for a Service that changes, which may also give things back.
    pub fn update(
        &self,
        service: &mut Value,
        old: &Value,
        mode: Mode,
    ) -> Result<Vec<Write>, Status> {
        service::patch_allocated_values(service, old);
        service::normalise_cluster_ips(service, Some(old));
        self.settle_families(service, Some(old))?;
        let mut draft = self.draft(service, mode);
        draft.update_addresses(service, old)?;
        if needs_node_ports(old) && !needs_node_ports(service) {
            draft.release_ports(old);
        }
        if needs_node_ports(service) {
            draft.update_ports(service, old)?;
        }
        match (
            needs_health_check_port(old),
            needs_health_check_port(service),
        ) {
            (false, true) => draft.allocate_health_check_port(service)?,
            (true, false) => draft.release_port(&old["spec"]["healthCheckNodePort"]),
            (true, true) | (false, false) => {}
        }
        Ok(draft.writes())
    }

    /// What a deleted Service gives back.
    pub fn release(&self, service: &Value) -> Vec<Write> {
        let mut draft = self.draft(service, Mode::Real);
        draft.release_addresses(service);
        draft.release_ports(service);
        if needs_health_check_port(service) {
            draft.release_port(&service["spec"]["healthCheckNodePort"]);
        }
        draft.writes()
    }

    fn settle_families(&self, service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let errors = service::normalise_families(service, old, &self.families);
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(
            &service::SERVICE,
            meta::name(service),
            &errors,
        ))
    }

    fn draft(&self, service: &Value, mode: Mode) -> Draft<'_> {
        Draft {
            allocator: self,
            claims: self.store.claims(),
            owner: owner(service),
            mode,
            addresses: Vec::new(),
            ports: Vec::new(),
            freed: Vec::new(),
        }
    }
}

/// What one request takes and gives back, so far.
struct Draft<'a> {
    allocator: &'a Allocator,
    claims: RwLockReadGuard<'a, Claims>,
    owner: Owner,
    mode: Mode,
    addresses: Vec<IpAddr>,
    ports: Vec<i64>,
    freed: Vec<Claim>,
}

impl Draft<'_> {
    fn writes(self) -> Vec<Write> {
        if self.mode == Mode::Dry {
            return Vec::new();
        }
        let mut writes = Vec::new();
        for claim in self.freed {
            if let Claim::ClusterIp { address, .. } = &claim {
                writes.push(Write::Delete {
                    key: ip_address_key(*address),
                    expect: Expect::Any,
                });
            }
            writes.push(Write::Release(claim));
        }
        for address in self.addresses {
            let owner = self.owner.clone();
            writes.push(put_ip_address(address, &owner));
            writes.push(Write::Claim(Claim::ClusterIp { address, owner }));
        }
        for port in self.ports {
            let owner = self.owner.clone();
            // Real ports were checked against the range, whose bounds are 16 bits wide.
            if let Ok(port) = u16::try_from(port) {
                writes.push(Write::Claim(Claim::NodePort { port, owner }));
            }
        }
        writes
    }
}

fn owner(service: &Value) -> Owner {
    Owner {
        namespace: meta::namespace(service).to_owned(),
        name: meta::name(service).to_owned(),
    }
}

fn ip_address_key(address: IpAddr) -> Key {
    Key::new(&IP_ADDRESS, "", address.to_string())
}

/// The IPAddress object that shows who holds an address.
pub(crate) fn put_ip_address(address: IpAddr, owner: &Owner) -> Write {
    let family = match address {
        IpAddr::V4(_) => Family::Ipv4,
        IpAddr::V6(_) => Family::Ipv6,
    };
    let object = json!({
        "apiVersion": IP_ADDRESS.api_version(),
        "kind": IP_ADDRESS.kind,
        "metadata": {
            "name": address.to_string(),
            "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": clock::now(),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": family.wire(),
                "ipaddress.kubernetes.io/managed-by": MANAGER,
            },
        },
        "spec": {
            "parentRef": { "resource": "services", "namespace": owner.namespace, "name": owner.name },
        },
    });
    Write::Put {
        key: ip_address_key(address),
        expect: Expect::Absent,
        object,
    }
}

/// Who manages the IPAddresses of Services.
pub(crate) const MANAGER: &str = "ipallocator.k8s.io";

fn family_of(range: &IpNet) -> Family {
    match range {
        IpNet::V4(_) => Family::Ipv4,
        IpNet::V6(_) => Family::Ipv6,
    }
}

fn needs_node_ports(service: &Value) -> bool {
    matches!(
        service["spec"]["type"].as_str(),
        Some("NodePort" | "LoadBalancer")
    )
}

fn needs_health_check_port(service: &Value) -> bool {
    service["spec"]["type"] == "LoadBalancer" && service["spec"]["externalTrafficPolicy"] == "Local"
}
