//! The canonical layout of subsets: ports that exactly the same addresses offer stand together. Knows no Service and no pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset};

/// One address and the ports it offers, of which there may be none.
pub(in super::super) struct Offer {
    pub(in super::super) address: EndpointAddress,
    pub(in super::super) ready: bool,
    pub(in super::super) ports: Vec<EndpointPort>,
}

/// Two pods may share an address: those of a node's own network do.
type AddressKey = (String, Option<String>);

/// Hash, then name, protocol, number and application protocol; the hash gives the order.
type PortKey = (u128, String, String, i32, Option<String>);

/// Who offers something, and whether each is ready.
type Offerers = BTreeMap<AddressKey, bool>;

/// Lays offers out as subsets. Of an address that is both ready and not on one port, not ready counts.
pub(in super::super) fn repack(offers: impl IntoIterator<Item = Offer>) -> Vec<EndpointSubset> {
    let mut addresses: BTreeMap<AddressKey, EndpointAddress> = BTreeMap::new();
    let mut ports: BTreeMap<PortKey, EndpointPort> = BTreeMap::new();
    let mut offerers: BTreeMap<Option<PortKey>, Offerers> = BTreeMap::new();
    for offer in offers {
        let address = address_key(&offer.address);
        let mut keys: Vec<Option<PortKey>> = Vec::new();
        for port in offer.ports {
            let key = port_key(&port);
            keys.push(Some(key.clone()));
            ports.entry(key).or_insert(port);
        }
        if keys.is_empty() {
            keys.push(None);
        }
        for key in keys {
            let ready = offerers.entry(key).or_default();
            let ready = ready.entry(address.clone()).or_insert(true);
            *ready = *ready && offer.ready;
        }
        addresses.entry(address).or_insert(offer.address);
    }
    let mut subsets: BTreeMap<Offerers, Vec<EndpointPort>> = BTreeMap::new();
    for (port, offerers) in offerers {
        let port = port.and_then(|port| ports.get(&port).cloned());
        subsets.entry(offerers).or_default().extend(port);
    }
    let subset = |(offerers, ports): (Offerers, Vec<EndpointPort>)| {
        let (mut ready, mut not_ready) = (Vec::new(), Vec::new());
        for (key, is_ready) in offerers {
            let list = if is_ready { &mut ready } else { &mut not_ready };
            list.extend(addresses.get(&key).cloned());
        }
        EndpointSubset {
            addresses: Some(ready).filter(|addresses| !addresses.is_empty()),
            not_ready_addresses: Some(not_ready).filter(|addresses| !addresses.is_empty()),
            ports: Some(ports).filter(|ports| !ports.is_empty()),
        }
    };
    subsets.into_iter().map(subset).collect()
}

fn address_key(address: &EndpointAddress) -> AddressKey {
    let target = address.target_ref.as_ref();
    let uid = target.map(|target| target.uid.clone().unwrap_or_default());
    (address.ip.clone(), uid)
}

fn port_key(port: &EndpointPort) -> PortKey {
    (
        hash(port),
        port.name.clone().unwrap_or_default(),
        port.protocol.clone().unwrap_or_default(),
        port.port,
        port.app_protocol.clone(),
    )
}

/// Kubernetes orders ports by the FNV-1a hash of their printed form, which clients and tables show.
fn hash(port: &EndpointPort) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let printed = format!(
        "(v1.EndpointPort){{Name:(string){} Port:(int32){} Protocol:(v1.Protocol){} AppProtocol:(*string){}}}",
        port.name.as_deref().unwrap_or_default(),
        port.port,
        port.protocol.as_deref().unwrap_or_default(),
        port.app_protocol.as_deref().unwrap_or("<nil>"),
    );
    printed.bytes().fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn offers(subsets: &Value) -> Vec<Offer> {
        let subsets: Vec<EndpointSubset> =
            serde_json::from_value(subsets.clone()).expect("subsets");
        let of_subset = |subset: EndpointSubset| {
            let ports = subset.ports.unwrap_or_default();
            let ready = subset.addresses.into_iter().flatten().map(|a| (a, true));
            let not_ready = subset.not_ready_addresses.into_iter().flatten();
            ready
                .chain(not_ready.map(|a| (a, false)))
                .map(move |(address, ready)| Offer {
                    address,
                    ready,
                    ports: ports.clone(),
                })
        };
        subsets.into_iter().flat_map(of_subset).collect()
    }

    fn check(subsets: Value, expected: Value) {
        assert_eq!(json!(repack(offers(&subsets))), expected);
        assert_eq!(json!(repack(offers(&expected))), expected, "not canonical");
    }

    fn port(name: &str, number: i32, protocol: &str) -> Value {
        json!({"name": name, "port": number, "protocol": protocol})
    }

    #[test]
    fn ports_of_the_same_addresses_stand_together() {
        let (web, metrics) = (port("web", 8080, "TCP"), port("metrics", 9090, "TCP"));
        check(
            json!([{"addresses": [{"ip": "10.0.0.2"}], "ports": [web]}, {"addresses": [{"ip": "10.0.0.2"}], "ports": [metrics]}]),
            json!([{"addresses": [{"ip": "10.0.0.2"}], "ports": [metrics, web]}]),
        );
        check(
            json!([{"addresses": [{"ip": "10.0.0.3"}], "ports": [web]}, {"addresses": [{"ip": "10.0.0.2"}], "ports": [web]}]),
            json!([{"addresses": [{"ip": "10.0.0.2"}, {"ip": "10.0.0.3"}], "ports": [web]}]),
        );
        check(json!([]), json!([]));
    }

    #[test]
    fn a_port_that_more_addresses_offer_stands_alone() {
        let (old, new) = (port("web", 8080, "TCP"), port("web", 8081, "TCP"));
        let metrics = port("metrics", 9090, "TCP");
        check(
            json!([{"addresses": [{"ip": "10.0.0.2"}], "ports": [old, metrics]}, {"addresses": [{"ip": "10.0.0.3"}], "ports": [new, metrics]}]),
            json!([
                {"addresses": [{"ip": "10.0.0.2"}], "ports": [old]},
                {"addresses": [{"ip": "10.0.0.2"}, {"ip": "10.0.0.3"}], "ports": [metrics]},
                {"addresses": [{"ip": "10.0.0.3"}], "ports": [new]},
            ]),
        );
    }

    #[test]
    fn not_ready_wins_and_pods_of_one_address_stay_two() {
        let web = port("web", 80, "TCP");
        check(
            json!([{"addresses": [{"ip": "10.0.0.2"}], "ports": [web]}, {"notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [web]}]),
            json!([{"notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [web]}]),
        );
        let (one, two) = (
            json!({"ip": "10.0.0.2", "targetRef": {"uid": "a"}}),
            json!({"ip": "10.0.0.2", "targetRef": {"uid": "b"}}),
        );
        check(
            json!([{"addresses": [two, one], "ports": [web]}]),
            json!([{"addresses": [one, two], "ports": [web]}]),
        );
        check(
            json!([{"addresses": [{"ip": "10.0.0.2"}]}]),
            json!([{"addresses": [{"ip": "10.0.0.2"}]}]),
        );
    }

    #[test]
    fn ports_are_ordered_by_the_hash_of_their_printed_form() {
        let of = |value: Value| hash(&serde_json::from_value(value).expect("a port"));
        let mut dns = port("dns", 53, "UDP");
        dns["appProtocol"] = json!("dns");
        assert_eq!(of(dns), 0x2325_e908_947b_e194_e994_dd06_9e88_79ae);
        let http = of(port("http", 8080, "TCP"));
        assert_eq!(http, 0x2530_4a33_da9e_6ece_350a_4142_a45f_5b75);
    }
}
