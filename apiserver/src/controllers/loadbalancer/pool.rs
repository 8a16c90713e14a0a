//! Which addresses a Service may have: its Namespace's pool or else the cluster's, narrowed by the Service itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::Resource;

use crate::controllers::addresses::AddressRange;

/// On a Namespace: the pool of its Services, in place of the cluster's. On a Service: the part of that pool it is content with.
pub(super) const POOL_ANNOTATION: &str = "knarr.io/load-balancer-pool";

/// The pools of a cluster.
#[derive(Debug, Default)]
pub(super) struct Pools {
    cluster: Vec<AddressRange>,
    namespaces: BTreeMap<String, Ranges>,
}

/// Ranges as an annotation has them, or what is wrong with it.
type Ranges = Result<Vec<AddressRange>, String>;

pub(super) fn annotation_of<K: Resource>(object: &K) -> Option<&str> {
    let annotations = object.meta().annotations.as_ref()?;
    annotations.get(POOL_ANNOTATION).map(String::as_str)
}

impl Pools {
    pub(super) fn new<'a>(
        cluster: &[AddressRange],
        namespaces: impl IntoIterator<Item = &'a Namespace>,
    ) -> Pools {
        let annotated = namespaces.into_iter().filter_map(|namespace| {
            let name = namespace.metadata.name.clone()?;
            let ranges = read(annotation_of(namespace)?)
                .map_err(|error| format!("namespace {name:?}: {error}"));
            Some((name, ranges))
        });
        Pools {
            cluster: cluster.to_vec(),
            namespaces: annotated.collect(),
        }
    }

    /// The addresses that a Service may have; none where nobody gave it a pool.
    ///
    /// Who may write a Service must not thereby be able to claim any address of the link, the router's for one.
    pub(super) fn of(&self, service: &Service) -> Ranges {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let granted = match self.namespaces.get(namespace) {
            Some(ranges) => ranges.clone()?,
            None => self.cluster.clone(),
        };
        let Some(text) = annotation_of(service) else {
            return Ok(granted);
        };
        let wanted = read(text)?;
        let is_granted = |range: &AddressRange| granted.iter().any(|g| g.contains_all_of(range));
        match wanted.iter().find(|range| !is_granted(range)) {
            None => Ok(wanted),
            Some(range) => Err(format!(
                "{POOL_ANNOTATION}: {range} is not in the pool of namespace {namespace:?}"
            )),
        }
    }

    /// Whether an address is in some pool of this cluster.
    pub(super) fn have(&self, address: IpAddr) -> bool {
        let annotated = self.namespaces.values().flatten().flatten();
        let mut all = self.cluster.iter().chain(annotated);
        all.any(|range| range.contains(address))
    }
}

fn read(text: &str) -> Ranges {
    AddressRange::parse_list(text).map_err(|error| format!("{POOL_ANNOTATION}: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(namespace_pool: Option<&str>, service_pool: Option<&str>, expected: &str) {
        let annotations = |pool: Option<&str>| {
            pool.map(|pool| json!({ POOL_ANNOTATION: pool }))
                .unwrap_or_default()
        };
        let namespace: Namespace = serde_json::from_value(
            json!({ "metadata": { "name": "shop", "annotations": annotations(namespace_pool) } }),
        )
        .expect("a Namespace");
        let service: Service = serde_json::from_value(json!({ "metadata": {
            "name": "web", "namespace": "shop", "annotations": annotations(service_pool),
        } }))
        .expect("a Service");
        let cluster = AddressRange::parse_list("192.0.2.0-192.0.2.9").expect("a pool");
        let seen = match Pools::new(&cluster, [&namespace]).of(&service) {
            Ok(ranges) => ranges
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(","),
            Err(why) => why,
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_namespace_replaces_the_clusters_pool_and_a_service_narrows_it() {
        check(None, None, "192.0.2.0-192.0.2.9");
        check(None, Some("192.0.2.5"), "192.0.2.5-192.0.2.5");
        check(Some("198.51.100.0/30"), None, "198.51.100.0-198.51.100.3");
        check(
            Some("198.51.100.0/30"),
            Some("198.51.100.2-198.51.100.3"),
            "198.51.100.2-198.51.100.3",
        );
    }

    #[test]
    fn a_service_cannot_widen_its_pool() {
        let outside = "knarr.io/load-balancer-pool: 192.0.2.9-192.0.2.10 is not in the pool of namespace \"shop\"";
        check(None, Some("192.0.2.9-192.0.2.10"), outside);
        let replaced = "knarr.io/load-balancer-pool: 192.0.2.1-192.0.2.1 is not in the pool of namespace \"shop\"";
        check(Some("198.51.100.0/30"), Some("192.0.2.1"), replaced);
    }

    #[test]
    fn unreadable_pools_say_what_is_wrong() {
        let wrong = "\"x\" is neither an address, a range FIRST-LAST nor a CIDR";
        check(None, Some("x"), &format!("{POOL_ANNOTATION}: {wrong}"));
        check(
            Some("x"),
            None,
            &format!("namespace \"shop\": {POOL_ANNOTATION}: {wrong}"),
        );
    }
}
