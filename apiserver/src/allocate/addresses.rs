//! Cluster IPs of one Service.

use std::net::IpAddr;

use ipnet::IpNet;
use knarr_api::{
    field::{Error, Path, quote},
    kinds::{networking::SERVICE_CIDR, service::SERVICE},
    meta,
    names::address::{Family, parse_sloppy},
    status::Status,
    value,
};
use serde_json::{Value, json};

use super::{Bands, Claim, Draft, Mode, bands, family_of, ip_address_key};
use crate::storage::Store;

const HEADLESS: &str = "None";

/// Why an address cannot be had, in Kubernetes' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unavailable {
    #[error("the provided network does not match the current range")]
    NoRange,
    #[error("the provided IP ({0}) is not in the valid range. The range of valid IPs is {1}")]
    OutOfRange(IpAddr, IpNet),
    #[error("provided IP is already allocated")]
    Taken,
}

impl Draft<'_> {
    /// Gives a Service an address of each of its families, those it asks for where it asks.
    pub(super) fn allocate_addresses(&mut self, service: &mut Value) -> Result<(), Status> {
        let families = families(service);
        if !holds_addresses(service) {
            return Ok(());
        }
        let mut wanted = texts(&service["spec"]["clusterIPs"]);
        wanted.resize(families.len().max(wanted.len()), String::new());
        let mut addresses = wanted.clone();
        for (index, family) in families.into_iter().enumerate() {
            addresses[index] = self.allocate_address(service, family, &wanted, index)?;
        }
        set_addresses(service, &addresses);
        Ok(())
    }

    pub(super) fn update_addresses(
        &mut self,
        service: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        let is_named = |service: &Value| service["spec"]["type"] == "ExternalName";
        match (is_named(old), is_named(service)) {
            (true, true) => return Ok(()),
            (true, false) => return self.allocate_addresses(service),
            (false, true) => {
                self.release_addresses(old);
                return Ok(());
            }
            (false, false) => {}
        }
        if !holds_addresses(old) {
            return Ok(());
        }
        match (families(old).len(), families(service).as_slice()) {
            (1, [_, second]) => {
                let mut addresses = texts(&service["spec"]["clusterIPs"]);
                addresses.resize(2, String::new());
                addresses[1] = self.allocate_address(service, *second, &addresses, 1)?;
                set_addresses(service, &addresses);
            }
            (2, [_]) => {
                if let Some(second) = texts(&old["spec"]["clusterIPs"]).get(1) {
                    self.release_address(second);
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn release_addresses(&mut self, service: &Value) {
        if holds_addresses(service) {
            for address in texts(&service["spec"]["clusterIPs"]) {
                self.release_address(&address);
            }
        }
    }

    fn release_address(&mut self, text: &str) {
        if let Some(address) = parse_sloppy(text) {
            let owner = self.owner.clone();
            self.freed.push(Claim::ClusterIp { address, owner });
        }
    }

    /// The address for place `index` of the Service, which wants `addresses`; those it leaves to us are empty.
    fn allocate_address(
        &mut self,
        service: &Value,
        family: Family,
        addresses: &[String],
        index: usize,
    ) -> Result<String, Status> {
        let name = meta::name(service);
        let ranges = Ranges::of(&self.allocator.store, family);
        let wanted = addresses.get(index).map(String::as_str).unwrap_or_default();
        if wanted.is_empty() {
            let address = self.next_address(&ranges).ok_or_else(|| {
                let name = quote(name);
                Status::internal(format!(
                    "failed to allocate a serviceIP for Service {name}: range is full"
                ))
            })?;
            self.addresses.push(address);
            return Ok(address.to_string());
        }
        let address = parse_sloppy(wanted).ok_or_else(|| {
            Status::internal(format!("failed to parse service IP {}", quote(wanted)))
        })?;
        if let Err(reason) = self.check_address(&ranges, address) {
            let path = Path::new("spec").child("clusterIPs");
            let detail = format!("failed to allocate IP {wanted}: {reason}");
            let error = Error::invalid(&path, json!(addresses), &detail);
            return Err(Status::invalid(&SERVICE, name, &[error]));
        }
        self.addresses.push(address);
        Ok(wanted.to_owned())
    }

    fn next_address(&self, ranges: &Ranges) -> Option<IpAddr> {
        if self.mode == Mode::Dry {
            return ranges.0.first().map(IpNet::network);
        }
        ranges.0.iter().find_map(|range| {
            let is_free = |number| {
                bands::address(range, number).is_some_and(|address| !self.is_taken(address))
            };
            let number = Bands::addresses(range).choose(&self.allocator.random, is_free)?;
            bands::address(range, number)
        })
    }

    fn check_address(&self, ranges: &Ranges, address: IpAddr) -> Result<(), Unavailable> {
        let holds = |range: &&IpNet| {
            range.contains(&address) && Bands::addresses(range).contains(bands::number(address))
        };
        if self.mode == Mode::Dry {
            // A dry run looks at one range and at no other request.
            let range = ranges.0.first().ok_or(Unavailable::NoRange)?;
            let out = Unavailable::OutOfRange(address, *range);
            return if holds(&range) { Ok(()) } else { Err(out) };
        }
        ranges.0.iter().find(holds).ok_or(Unavailable::NoRange)?;
        if self.is_taken(address) {
            return Err(Unavailable::Taken);
        }
        Ok(())
    }

    /// An IPAddress that somebody made by hand keeps its address from everybody, too.
    fn is_taken(&self, address: IpAddr) -> bool {
        self.claims.cluster_ip(address).is_some()
            || self.addresses.contains(&address)
            || self.allocator.store.get(&ip_address_key(address)).is_some()
    }
}

/// The ready ranges of one family, the default one first.
struct Ranges(Vec<IpNet>);

impl Ranges {
    fn of(store: &Store, family: Family) -> Ranges {
        let mut objects = store.list(&SERVICE_CIDR, None).objects;
        objects.sort_by_key(|stored| stored.key.name != "kubernetes");
        let ranges = objects
            .iter()
            .map(|stored| stored.object())
            .filter(is_ready)
            .flat_map(|object| texts(&object["spec"]["cidrs"]))
            .filter_map(|text| text.parse::<IpNet>().ok())
            .filter(|range| family_of(range) == family)
            .collect();
        Ranges(ranges)
    }
}

/// A range that nobody has judged yet is taken as ready.
fn is_ready(range: &Value) -> bool {
    let conditions = value::items(&range["status"]["conditions"]);
    let ready = conditions.iter().find(|c| c["type"] == "Ready");
    meta::deletion_timestamp(range).is_none() && ready.is_none_or(|ready| ready["status"] == "True")
}

/// Neither by name nor headless.
pub(super) fn holds_addresses(service: &Value) -> bool {
    service["spec"]["type"] != "ExternalName" && service["spec"]["clusterIPs"][0] != HEADLESS
}

fn families(service: &Value) -> Vec<Family> {
    texts(&service["spec"]["ipFamilies"])
        .iter()
        .filter_map(|text| Family::from_wire(text))
        .collect()
}

pub(super) fn texts(list: &Value) -> Vec<String> {
    value::texts(list).into_iter().map(String::from).collect()
}

fn set_addresses(service: &mut Value, addresses: &[String]) {
    if let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) {
        if let Some(first) = addresses.first() {
            spec.insert("clusterIP".into(), first.as_str().into());
        }
        spec.insert("clusterIPs".into(), json!(addresses));
    }
}
