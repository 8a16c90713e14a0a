//! The names of Services: what the cluster's zone answers, after the Kubernetes DNS specification 1.1.0.
//!
//! Owns the records and the difference between "no such name" and "no such record". Never sees a packet.

mod lookup;
mod name;
mod records;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

use self::records::{ServiceRecords, SliceRecords};
use crate::ServiceKey;

/// Everything the cluster's zone knows, kept in step one object at a time.
#[derive(Debug, Default)]
pub struct Zone {
    /// Lower case, without the final dot: `cluster.local`.
    domain: String,
    services: BTreeMap<ServiceKey, ServiceRecords>,
    slices: BTreeMap<ServiceKey, BTreeMap<String, SliceRecords>>,
    namespaces: BTreeSet<String>,
    /// What each address is called, for PTR; several Services may lead to one endpoint.
    addresses: BTreeMap<IpAddr, BTreeSet<String>>,
    revision: u64,
}

/// The record types that the zone holds; all others have no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// An alias.
    Cname,
    /// A name of an address.
    Ptr,
    /// A port and a host.
    Srv,
    /// The specification's version.
    Txt,
    /// Something the zone never holds.
    Other,
}

/// One record; names are absolute and without the final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Record {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME.
    Cname(String),
    /// PTR.
    Ptr(String),
    /// SRV; weight is the same for all.
    Srv {
        /// The port.
        port: u16,
        /// The host.
        target: String,
    },
    /// TXT.
    Txt(&'static str),
}

/// What a question is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Records of the name that was asked for, and the addresses of hosts they mention.
    Records {
        /// Answers to the question.
        answers: Vec<Record>,
        /// Addresses of SRV targets.
        additional: Vec<(String, IpAddr)>,
    },
    /// The name exists, but not with that type.
    NoData,
    /// There is no such name (NXDOMAIN).
    NoName,
    /// The name is outside the zone: somebody else's to answer.
    NotOurs,
}

impl Zone {
    /// An empty zone for a cluster domain such as `cluster.local`.
    #[must_use]
    pub fn new(domain: &str) -> Self {
        Zone {
            domain: name::canonical(domain),
            ..Zone::default()
        }
    }

    /// The zone's own name.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Another number whenever an answer may differ.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Forgets everything, and answers for another domain.
    pub fn rename(&mut self, domain: &str) {
        *self = Zone {
            revision: self.revision + 1,
            ..Zone::new(domain)
        };
    }

    /// Adds or replaces a Service.
    pub fn set_service(&mut self, service: &Service) {
        let Some(key) = key_of(&service.metadata.namespace, &service.metadata.name) else {
            return;
        };
        self.revision += 1;
        self.forget_addresses(&key);
        self.services
            .insert(key.clone(), ServiceRecords::of(service));
        self.learn_addresses(&key);
    }

    /// Removes a Service; its slices go with their own events.
    pub fn remove_service(&mut self, key: &ServiceKey) {
        self.revision += 1;
        self.forget_addresses(key);
        self.services.remove(key);
    }

    /// Adds or replaces an EndpointSlice.
    pub fn set_slice(&mut self, slice: &EndpointSlice) {
        let Some((service, name)) = owner_of(slice) else {
            return;
        };
        self.revision += 1;
        self.forget_addresses(&service);
        self.slices
            .entry(service.clone())
            .or_default()
            .insert(name, SliceRecords::of(slice));
        self.learn_addresses(&service);
    }

    /// Removes an EndpointSlice.
    pub fn remove_slice(&mut self, slice: &EndpointSlice) {
        let Some((service, name)) = owner_of(slice) else {
            return;
        };
        self.revision += 1;
        self.forget_addresses(&service);
        if let Some(slices) = self.slices.get_mut(&service) {
            slices.remove(&name);
            if slices.is_empty() {
                self.slices.remove(&service);
            }
        }
        self.learn_addresses(&service);
    }

    /// Replaces all that is known of one Service.
    pub fn replace<'a>(
        &mut self,
        key: &ServiceKey,
        service: Option<&Service>,
        slices: impl Iterator<Item = &'a EndpointSlice>,
    ) {
        let records = service.map(ServiceRecords::of);
        let own: BTreeMap<String, SliceRecords> = match records {
            // A Service with cluster IPs is answered with those: its endpoints have no names.
            Some(ServiceRecords::Virtual { .. }) => BTreeMap::new(),
            Some(ServiceRecords::Headless | ServiceRecords::Alias { .. }) | None => slices
                .filter_map(|slice| Some((slice.metadata.name.clone()?, SliceRecords::of(slice))))
                .collect(),
        };
        let own = Some(own).filter(|own| !own.is_empty());
        if records.as_ref() == self.services.get(key) && own.as_ref() == self.slices.get(key) {
            return;
        }
        self.revision += 1;
        self.forget_addresses(key);
        match records {
            Some(records) => self.services.insert(key.clone(), records),
            None => self.services.remove(key),
        };
        match own {
            Some(own) => self.slices.insert(key.clone(), own),
            None => self.slices.remove(key),
        };
        self.learn_addresses(key);
    }

    /// Names the namespaces that exist, so that the others do not.
    pub fn set_namespaces(&mut self, namespaces: BTreeSet<String>) {
        if namespaces != self.namespaces {
            self.revision += 1;
            self.namespaces = namespaces;
        }
    }

    fn learn_addresses(&mut self, key: &ServiceKey) {
        for (address, name) in self.reverse_names(key) {
            self.addresses.entry(address).or_default().insert(name);
        }
    }

    fn forget_addresses(&mut self, key: &ServiceKey) {
        for (address, name) in self.reverse_names(key) {
            if let Some(names) = self.addresses.get_mut(&address) {
                names.remove(&name);
                if names.is_empty() {
                    self.addresses.remove(&address);
                }
            }
        }
    }

    /// Cluster IPs are called by their Service's name, endpoints of headless Services by their own.
    fn reverse_names(&self, key: &ServiceKey) -> Vec<(IpAddr, String)> {
        let Some(service) = self.services.get(key) else {
            return Vec::new();
        };
        let base = self.service_name(key);
        match service {
            ServiceRecords::Virtual { addresses, .. } => {
                addresses.iter().map(|ip| (*ip, base.clone())).collect()
            }
            ServiceRecords::Headless => self
                .endpoints(key)
                .map(|endpoint| (endpoint.address, format!("{}.{base}", endpoint.hostname)))
                .collect(),
            ServiceRecords::Alias { .. } => Vec::new(),
        }
    }

    fn endpoints(&self, key: &ServiceKey) -> impl Iterator<Item = &records::EndpointRecords> {
        self.slices
            .get(key)
            .into_iter()
            .flat_map(BTreeMap::values)
            .flat_map(|slice| &slice.endpoints)
    }

    fn service_name(&self, key: &ServiceKey) -> String {
        format!("{}.{}.svc.{}", key.name, key.namespace, self.domain)
    }
}

fn key_of(namespace: &Option<String>, name: &Option<String>) -> Option<ServiceKey> {
    Some(ServiceKey::new(namespace.clone()?, name.clone()?))
}

fn owner_of(slice: &EndpointSlice) -> Option<(ServiceKey, String)> {
    let service = slice
        .metadata
        .labels
        .as_ref()?
        .get("kubernetes.io/service-name")?;
    Some((
        ServiceKey::new(slice.metadata.namespace.clone()?, service.clone()),
        slice.metadata.name.clone()?,
    ))
}

#[cfg(test)]
mod tests;
