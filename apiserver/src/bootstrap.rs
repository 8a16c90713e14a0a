//! The objects every cluster has, made when missing: namespaces, the Service of the API itself, its range, the settings.
//!
//! Says what they are; a start that finds them all writes nothing.

mod roles;

use std::{collections::BTreeMap, net::IpAddr};

use knarr_api::{
    kind::Kind,
    kinds::{
        configmap::CONFIG_MAP,
        endpoints::ENDPOINTS,
        endpointslice::ENDPOINT_SLICE,
        namespace::NAMESPACE,
        networking::{IP_ADDRESS, SERVICE_CIDR},
        service::SERVICE,
    },
    meta,
    value::items,
};
use serde_json::{Value, json};

pub(crate) use self::roles::node_rules;
use crate::{
    allocate, clock,
    config::{Config, first, nth},
    storage::{Claim, CommitError, Expect, Key, Owner, Store, Write},
};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// The place of the cluster DNS in a service range, by convention.
const DNS_OFFSET: u128 = 10;

/// Makes what is missing and corrects what follows from the settings.
pub(crate) async fn ensure(store: &Store, config: &Config) -> Result<(), CommitError> {
    let mut writes = allocate::repairs(store);
    for object in objects(config) {
        writes.extend(write(store, object));
    }
    writes.extend(claims(
        store,
        "default",
        "kubernetes",
        &api_addresses(config),
    ));
    writes.extend(claims(
        store,
        "kube-system",
        "kube-dns",
        &dns_service_addresses(config),
    ));
    if writes.is_empty() {
        return Ok(());
    }
    store.commit(writes).await.map(drop)
}

/// Leads `default/kubernetes` to this server at another address.
pub(crate) async fn readvertise(
    store: &Store,
    config: &Config,
    address: IpAddr,
) -> Result<(), CommitError> {
    let objects = [
        api_endpoints(config, address),
        api_endpoint_slice(config, address),
    ];
    let writes: Vec<Write> = objects
        .into_iter()
        .filter_map(|object| write(store, object))
        .collect();
    if writes.is_empty() {
        return Ok(());
    }
    store.commit(writes).await.map(drop)
}

/// What becomes of an object that is already there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// It is the users'.
    AsItIs,
    /// These parts follow the settings.
    Except(&'static [&'static str]),
    /// The users may add to this list, and take from it only if they say that they keep it themselves.
    WithMore(&'static str),
}

struct Wanted {
    kind: &'static Kind,
    keep: Keep,
    object: Value,
}

fn objects(config: &Config) -> Vec<Wanted> {
    let mut objects: Vec<Wanted> = NAMESPACES.iter().map(|name| namespace(name)).collect();
    objects.extend(roles::objects());
    objects.push(service_cidr(config));
    objects.push(settings(config));
    objects.extend(api_service(config));
    let address = config.advertise_address;
    objects.push(api_endpoints(config, address));
    objects.push(api_endpoint_slice(config, address));
    objects.extend(dns_service(config));
    objects
}

fn namespace(name: &str) -> Wanted {
    Wanted {
        kind: &NAMESPACE,
        keep: Keep::AsItIs,
        object: json!({
            "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } },
            "spec": { "finalizers": ["kubernetes"] },
            "status": { "phase": "Active" },
        }),
    }
}

fn service_cidr(config: &Config) -> Wanted {
    let cidrs: Vec<String> = config.service_cidrs.iter().map(|c| c.to_string()).collect();
    Wanted {
        kind: &SERVICE_CIDR,
        keep: Keep::AsItIs,
        object: json!({
            "metadata": {
                "name": "kubernetes",
                "finalizers": ["networking.k8s.io/service-cidr-finalizer"],
            },
            "spec": { "cidrs": cidrs },
            "status": { "conditions": [{
                "type": "Ready",
                "status": "True",
                "lastTransitionTime": clock::now(),
                "reason": "",
                "message": "Kubernetes Service CIDR is ready",
            }] },
        }),
    }
}

/// What agents and proxies need to know of the cluster.
fn settings(config: &Config) -> Wanted {
    let Config {
        data_dir: _,
        advertise_address: _,
        bind: _,
        port: _,
        server_names: _,
        service_cidrs,
        cluster_cidrs,
        node_port_range,
        lb_pool,
        cluster_domain,
        cluster_dns: _,
        requests_inflight_max: _,
        mutating_requests_inflight_max: _,
        give_back_memory: _,
    } = config;
    let (start, end) = (node_port_range.start(), node_port_range.end());
    let data = BTreeMap::from([
        ("cluster-cidr", join(cluster_cidrs)),
        ("service-cidr", join(service_cidrs)),
        ("lb-pool", lb_pool.clone()),
        ("node-port-range", format!("{start}-{end}")),
        ("cluster-domain", cluster_domain.clone()),
        ("cluster-dns", join(&dns_addresses(config))),
    ]);
    Wanted {
        kind: &CONFIG_MAP,
        keep: Keep::Except(&["data"]),
        object: json!({
            "metadata": { "name": "knarr", "namespace": "kube-system" },
            "data": data,
        }),
    }
}

/// Where pods ask for names.
fn dns_addresses(config: &Config) -> Vec<IpAddr> {
    if !config.cluster_dns.is_empty() {
        return config.cluster_dns.clone();
    }
    let tenth = |range| nth(range, DNS_OFFSET);
    config.service_cidrs.iter().filter_map(tenth).collect()
}

/// Those of them that a Service can have; a server elsewhere has none.
fn dns_service_addresses(config: &Config) -> Vec<IpAddr> {
    let mut addresses = dns_addresses(config);
    let ranges = &config.service_cidrs;
    addresses.retain(|address| ranges.iter().any(|range| range.contains(address)));
    addresses
}

/// `kube-system/kube-dns` without a selector: every node answers it by itself.
fn dns_service(config: &Config) -> Option<Wanted> {
    let addresses = dns_service_addresses(config);
    let primary = addresses.first()?;
    let port = |name: &str, protocol: &str| json!({ "name": name, "port": 53, "protocol": protocol, "targetPort": 53 });
    Some(Wanted {
        kind: &SERVICE,
        keep: Keep::AsItIs,
        object: json!({
            "metadata": {
                "name": "kube-dns",
                "namespace": "kube-system",
                "labels": { "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true" },
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": primary,
                "clusterIPs": addresses,
                "ipFamilies": addresses.iter().map(family).collect::<Vec<_>>(),
                "ipFamilyPolicy": family_policy(&addresses),
                "internalTrafficPolicy": "Cluster",
                "sessionAffinity": "None",
                "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
            },
            "status": { "loadBalancer": {} },
        }),
    })
}

fn family_policy(addresses: &[IpAddr]) -> &'static str {
    match addresses {
        [] | [_] => "SingleStack",
        [_, _, ..] => "PreferDualStack",
    }
}

fn join<T: ToString>(values: &[T]) -> String {
    let texts: Vec<String> = values.iter().map(T::to_string).collect();
    texts.join(",")
}

/// `default/kubernetes` at the first address of the primary range: the API has one address, so the Service has one family.
fn api_service(config: &Config) -> Option<Wanted> {
    let addresses = api_addresses(config);
    let primary = addresses.first()?;
    let families: Vec<&str> = addresses.iter().map(family).collect();
    Some(Wanted {
        kind: &SERVICE,
        keep: Keep::Except(&["spec"]),
        object: json!({
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": { "component": "apiserver", "provider": "kubernetes" },
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": primary,
                "clusterIPs": addresses,
                "ipFamilies": families,
                "ipFamilyPolicy": family_policy(&addresses),
                "internalTrafficPolicy": "Cluster",
                "sessionAffinity": "None",
                "ports": [{
                    "name": "https",
                    "protocol": "TCP",
                    "port": 443,
                    "targetPort": config.port,
                }],
            },
            "status": { "loadBalancer": {} },
        }),
    })
}

fn api_addresses(config: &Config) -> Vec<IpAddr> {
    let primary = config.service_cidrs.first();
    primary.into_iter().filter_map(first).collect()
}

fn api_endpoints(config: &Config, address: IpAddr) -> Wanted {
    Wanted {
        kind: &ENDPOINTS,
        keep: Keep::Except(&["subsets"]),
        object: json!({
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
            },
            "subsets": [{
                "addresses": [{ "ip": address }],
                "ports": [{ "name": "https", "port": config.port, "protocol": "TCP" }],
            }],
        }),
    }
}

fn api_endpoint_slice(config: &Config, address: IpAddr) -> Wanted {
    Wanted {
        kind: &ENDPOINT_SLICE,
        keep: Keep::Except(&["addressType", "endpoints", "ports"]),
        object: json!({
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "generation": 1,
                "labels": { "kubernetes.io/service-name": "kubernetes" },
            },
            "addressType": family(&address),
            "endpoints": [{
                "addresses": [address],
                "conditions": { "ready": true },
            }],
            "ports": [{ "name": "https", "port": config.port, "protocol": "TCP" }],
        }),
    }
}

fn family(address: &IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// What has to be written for a wanted object, if anything.
fn write(store: &Store, wanted: Wanted) -> Option<Write> {
    let Wanted {
        kind,
        keep,
        mut object,
    } = wanted;
    let key = Key::new(kind, meta::namespace(&object), meta::name(&object));
    let Some(stored) = store.get(&key) else {
        complete(kind, &mut object);
        return Some(Write::Put {
            key,
            expect: Expect::Absent,
            object,
        });
    };
    let mut present = stored.object();
    let fields = match keep {
        Keep::AsItIs => return None,
        Keep::Except(fields) => fields,
        Keep::WithMore(list) => {
            return with_more(key, present, list, &object[list]);
        }
    };
    if fields.iter().all(|field| present[*field] == object[*field]) {
        return None;
    }
    for field in fields {
        present[*field] = object[*field].take();
    }
    Some(Write::Put {
        key,
        expect: Expect::Any,
        object: present,
    })
}

/// Adds what is missing from a list, unless the object says that it is not to be kept up to date.
fn with_more(key: Key, mut present: Value, list: &str, wanted: &Value) -> Option<Write> {
    let annotations = &present["metadata"]["annotations"];
    if annotations[roles::AUTOUPDATE] == "false" {
        return None;
    }
    let is_missing = |item: &&Value| !items(&present[list]).contains(item);
    let missing: Vec<Value> = items(wanted).iter().filter(is_missing).cloned().collect();
    if missing.is_empty() {
        return None;
    }
    let mut kept = items(&present[list]).to_vec();
    kept.extend(missing);
    present[list] = kept.into();
    Some(Write::Put {
        key,
        expect: Expect::Any,
        object: present,
    })
}

/// Adds what every stored object has.
fn complete(kind: &Kind, object: &mut Value) {
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.into();
    object["metadata"]["uid"] = uuid::Uuid::new_v4().to_string().into();
    object["metadata"]["creationTimestamp"] = clock::now().into();
}

/// The claims of a Service on its addresses; one that somebody else holds stays theirs.
fn claims(store: &Store, namespace: &str, name: &str, addresses: &[IpAddr]) -> Vec<Write> {
    let owner = Owner {
        namespace: namespace.into(),
        name: name.into(),
    };
    let mut writes = Vec::new();
    for address in addresses {
        if store.claims().cluster_ip(*address).is_none() {
            writes.push(Write::Claim(Claim::ClusterIp {
                address: *address,
                owner: owner.clone(),
            }));
        }
        let key = Key::new(&IP_ADDRESS, "", address.to_string());
        if store.get(&key).is_none() {
            writes.push(allocate::put_ip_address(*address, &owner));
        }
    }
    writes
}
