//! What a name means to a client: through a pod's search list, in the cluster's zone, or elsewhere.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::PodSpec;
use knarr_netproxy_plan::dns::{Answer, Question as Wanted, Record, Zone};

use super::{Question, Surroundings, cause};
use crate::explain::{
    Cause,
    question::{Client, Host},
};

const NDOTS_DEFAULT: usize = 5;
/// An alias of an alias of an alias… ends somewhere.
const ALIAS_DEPTH_MAX: usize = 8;

/// What a destination means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// These addresses, under that name.
    Addresses {
        /// Without its final dot.
        name: String,
        /// IPv4 first.
        addresses: Vec<IpAddr>,
    },
    /// A name that the cluster's zone has, without addresses.
    Nobody(String),
    /// A name of the cluster that does not exist; every one that was tried.
    Missing(Vec<String>),
    /// Somebody else's name.
    Elsewhere(String),
}

/// Looks a destination up as its client would.
pub(super) fn meaning(question: &Question, around: &Surroundings) -> Meaning {
    let host = match &question.to.host {
        Host::Ip(ip) => {
            return Meaning::Addresses {
                name: ip.to_string(),
                addresses: vec![*ip],
            };
        }
        Host::Name(name) => name.trim_end_matches('.').to_ascii_lowercase(),
    };
    let zone = zone(around);
    let absolute = matches!(&question.to.host, Host::Name(name) if name.ends_with('.'));
    let tried = match absolute {
        true => vec![host],
        false => candidates(&host, &question.from, around),
    };
    let mut missing = Vec::new();
    for name in tried {
        match addresses_of(&zone, &name, ALIAS_DEPTH_MAX) {
            Meaning::Missing(names) => missing.extend(names),
            found => return found,
        }
    }
    Meaning::Missing(missing)
}

/// The addresses of a destination, and a line on how they were found.
pub(super) fn addresses(
    question: &Question,
    around: &Surroundings,
) -> Result<(Option<String>, Vec<IpAddr>), Cause> {
    let Host::Name(asked) = &question.to.host else {
        return match meaning(question, around) {
            Meaning::Addresses { addresses, .. } => Ok((None, addresses)),
            _ => Ok((None, Vec::new())),
        };
    };
    let text = |addresses: &[IpAddr]| {
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        texts.join(", ")
    };
    let is_cluster_client = !matches!(question.from, Client::Outside(_));
    match meaning(question, around) {
        Meaning::Addresses { name, addresses } if is_cluster_client => {
            let line = if name == asked.trim_end_matches('.').to_ascii_lowercase() {
                format!("{name} is {}", text(&addresses))
            } else {
                format!("{asked} is {name}: {}", text(&addresses))
            };
            Ok((Some(line), addresses))
        }
        Meaning::Addresses { name, addresses } => Err(cause(
            format!("{name} is a name inside the cluster, and means nothing outside"),
            format!(
                "ask for {}, or for a load-balancer IP or node port",
                text(&addresses)
            ),
        )),
        Meaning::Nobody(name) => Err(cause(
            format!("{name} has no address: it is headless, and no endpoint of it is ready"),
            "see with `knarr explain svc/NAME` why",
        )),
        // The last that is tried is the name as it was asked for.
        Meaning::Missing(names) => {
            let name = names.last().map_or("", String::as_str);
            Err(cause(
                format!("{name} is not a Service's name"),
                near(name, around),
            ))
        }
        Meaning::Elsewhere(name) if around.elsewhere.is_empty() => Err(cause(
            format!("{name} is neither a Service's name nor one that this host's resolvers know"),
            near(&name, around),
        )),
        Meaning::Elsewhere(name) => {
            let addresses = around.elsewhere.clone();
            let line = format!(
                "{name} is {}, as this host's resolvers say",
                text(&addresses)
            );
            Ok((Some(line), addresses))
        }
    }
}

/// Services of that name elsewhere.
fn near(name: &str, around: &Surroundings) -> String {
    let first = name.split('.').next().unwrap_or_default();
    let others: Vec<String> = around
        .services
        .keys()
        .filter(|key| key.name == first)
        .map(|key| format!("{}.{}", key.name, key.namespace))
        .collect();
    if others.is_empty() {
        "`knarr get services -A` lists those there are".to_owned()
    } else {
        format!("there is {}", others.join(", "))
    }
}

/// The names that a client's resolver tries, in order.
fn candidates(name: &str, client: &Client, around: &Surroundings) -> Vec<String> {
    let Client::Pod {
        namespace,
        name: pod,
    } = client
    else {
        return vec![name.to_owned()];
    };
    let spec = around.pod(namespace, pod).and_then(|pod| pod.spec.as_ref());
    let search = spec.map_or_else(Vec::new, |spec| {
        search_list(spec, namespace, &around.domain)
    });
    let ndots = spec.and_then(ndots).unwrap_or(NDOTS_DEFAULT);
    let through_search = search.iter().map(|domain| format!("{name}.{domain}"));
    let itself = std::iter::once(name.to_owned());
    if name.matches('.').count() >= ndots {
        itself.chain(through_search).collect()
    } else {
        through_search.chain(itself).collect()
    }
}

fn search_list(spec: &PodSpec, namespace: &str, domain: &str) -> Vec<String> {
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirst" => spec.host_network != Some(true),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut search = Vec::new();
    if cluster {
        search.push(format!("{namespace}.svc.{domain}"));
        search.push(format!("svc.{domain}"));
        search.push(domain.to_owned());
    }
    let own = spec.dns_config.as_ref();
    search.extend(
        own.and_then(|config| config.searches.clone())
            .unwrap_or_default(),
    );
    search
}

fn ndots(spec: &PodSpec) -> Option<usize> {
    let options = spec.dns_config.as_ref()?.options.as_ref()?;
    let option = options
        .iter()
        .find(|option| option.name.as_deref() == Some("ndots"))?;
    option.value.as_ref()?.parse().ok()
}

fn zone(around: &Surroundings) -> Zone {
    let mut zone = Zone::new(&around.domain);
    zone.set_namespaces(around.namespaces.clone());
    for (service, slices) in around.services.values() {
        zone.set_service(service);
        slices.iter().for_each(|slice| zone.set_slice(slice));
    }
    zone
}

fn addresses_of(zone: &Zone, name: &str, depth: usize) -> Meaning {
    let mut addresses = Vec::new();
    let mut exists = false;
    for wanted in [Wanted::A, Wanted::Aaaa] {
        match zone.lookup(name, wanted) {
            Answer::NotOurs => return Meaning::Elsewhere(name.to_owned()),
            Answer::NoName => {}
            Answer::NoData => exists = true,
            Answer::Records { answers, .. } => {
                exists = true;
                for record in answers {
                    match record {
                        Record::Address(ip) => addresses.push(ip),
                        Record::Cname(target) if depth > 0 => {
                            return addresses_of(zone, &target, depth - 1);
                        }
                        Record::Cname(_) | Record::Ptr(_) | Record::Srv { .. } | Record::Txt(_) => {
                        }
                    }
                }
            }
        }
    }
    let name = name.to_owned();
    match (exists, addresses.is_empty()) {
        (_, false) => Meaning::Addresses { name, addresses },
        (true, true) => Meaning::Nobody(name),
        (false, true) => Meaning::Missing(vec![name]),
    }
}
