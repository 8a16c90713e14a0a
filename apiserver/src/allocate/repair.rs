//! Brings claims and IPAddress objects back in line with the Services there are.
//!
//! They are written together, so there is nothing to do but after an IPAddress was edited by hand or a database restored.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use knarr_api::{
    kinds::{networking::IP_ADDRESS, service::SERVICE},
    names::address::parse_sloppy,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    MANAGER, addresses, ip_address_key, needs_health_check_port, owner, ports, put_ip_address,
};
use crate::storage::{Claim, Expect, Key, Owner, Store, Stored, Write};

/// What should be claimed, by whom.
#[derive(Default)]
struct Wanted {
    addresses: BTreeMap<IpAddr, Owner>,
    ports: BTreeMap<u16, Owner>,
}

/// The writes that make claims follow Services; empty when they do.
pub fn repairs(store: &Store) -> Vec<Write> {
    let services = store.list(&SERVICE, None).objects;
    let mut wanted = Wanted::default();
    for service in &services {
        wanted.add(&holder(service));
    }
    let mut writes = wanted.release_leaked(store);
    writes.extend(wanted.claim_missing(store));
    writes.extend(wanted.mirror(store));
    writes
}

/// What a Service's claims depend on: a start would take long over the whole of every Service.
fn holder(service: &Stored) -> Value {
    #[derive(Default, Deserialize)]
    struct Fields {
        #[serde(default)]
        spec: Value,
    }
    let Fields { spec } = serde_json::from_slice(&service.document).unwrap_or_default();
    let Key {
        kind: _,
        namespace,
        name,
    } = &service.key;
    json!({ "metadata": { "namespace": namespace, "name": name }, "spec": spec })
}

impl Wanted {
    /// The first Service keeps what two of them name.
    fn add(&mut self, service: &Value) {
        let holder = owner(service);
        if addresses::holds_addresses(service) {
            let texts = addresses::texts(&service["spec"]["clusterIPs"]);
            for address in texts.iter().filter_map(|text| parse_sloppy(text)) {
                self.addresses.entry(address).or_insert(holder.clone());
            }
        }
        let mut numbers = ports::node_ports(service);
        if needs_health_check_port(service) {
            numbers.extend(service["spec"]["healthCheckNodePort"].as_i64());
        }
        for port in numbers.into_iter().filter_map(|p| u16::try_from(p).ok()) {
            self.ports.entry(port).or_insert(holder.clone());
        }
    }

    fn release_leaked(&self, store: &Store) -> Vec<Write> {
        let is_leaked = |claim: &Claim| match claim {
            Claim::ClusterIp { address, owner } => self.addresses.get(address) != Some(owner),
            Claim::NodePort { port, owner } => self.ports.get(port) != Some(owner),
        };
        let claims = store.claims();
        claims
            .iter()
            .filter(is_leaked)
            .map(Write::Release)
            .collect()
    }

    fn claim_missing(&self, store: &Store) -> Vec<Write> {
        let claims = store.claims();
        let addresses = self
            .addresses
            .iter()
            .filter(|(address, owner)| claims.cluster_ip(**address) != Some(owner))
            .map(|(&address, owner)| Claim::ClusterIp {
                address,
                owner: owner.clone(),
            });
        let ports = self
            .ports
            .iter()
            .filter(|(port, owner)| claims.node_port(**port) != Some(owner))
            .map(|(&port, owner)| Claim::NodePort {
                port,
                owner: owner.clone(),
            });
        addresses.chain(ports).map(Write::Claim).collect()
    }

    /// IPAddress objects that are not the allocator's are their makers' business.
    fn mirror(&self, store: &Store) -> Vec<Write> {
        let objects = store.list(&IP_ADDRESS, None).objects;
        let present: BTreeSet<&str> = objects.iter().map(|o| o.key.name.as_str()).collect();
        let wanted: BTreeSet<String> = self.addresses.keys().map(IpAddr::to_string).collect();
        let is_leaked = |stored: &&std::sync::Arc<Stored>| {
            let manager = stored.labels.get("ipaddress.kubernetes.io/managed-by");
            manager.is_some_and(|m| m == MANAGER) && !wanted.contains(&stored.key.name)
        };
        let leaked = objects
            .iter()
            .filter(is_leaked)
            .map(|stored| Write::Delete {
                key: stored.key.clone(),
                expect: Expect::Revision(stored.revision),
            });
        let missing = self
            .addresses
            .iter()
            .filter(|(address, _)| !present.contains(ip_address_key(**address).name.as_str()))
            .map(|(&address, owner)| put_ip_address(address, owner));
        leaked.chain(missing).collect()
    }
}
