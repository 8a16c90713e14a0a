//! Which Services a pod belongs to, and when that or their endpoints may have changed.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use k8s_openapi::api::core::v1::{Node, Pod, Service};

use super::cluster::Cluster;
use super::pods;
use super::queue::Queue;
use super::selector::{self, Labels};
use super::store::Key;
use super::terms;
use super::well_known::ZONE_LABEL;

/// The selector by which the endpoint controllers serve this Service, if they do at all.
pub(super) fn served_selector(service: &Service) -> Option<&Labels> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector
        .as_ref()
        .filter(|selector| !selector.is_empty())
}

/// Says whether the Service has no cluster IP.
pub(super) fn is_headless(service: &Service) -> bool {
    let cluster_ip = service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref());
    matches!(cluster_ip, None | Some("" | "None"))
}

/// The pods that the Service's selector selects, ordered by name.
pub(super) fn selected_pods(cluster: &Cluster, service: &Service) -> Vec<Arc<Pod>> {
    let (Some(selector), Some(namespace)) = (served_selector(service), &service.metadata.namespace)
    else {
        return Vec::new();
    };
    let Some((key, value)) = selector.iter().next() else {
        return Vec::new();
    };
    let term = terms::label(key, value);
    cluster.pods.found_by(namespace, &term, |pod| {
        selector::pairs_match(selector, pod.metadata.labels.as_ref())
    })
}

/// Queues a Service whenever it, a pod it selects, or a node of such a pod changes in a way endpoints show.
pub(super) fn observe(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>) {
    let services = Arc::clone(queue);
    cluster.services.observe(move |old, new| {
        if let Some(service) = new.or(old) {
            services.add(Key::of(service.as_ref()));
        }
    });
    let (known, affected) = (Arc::downgrade(cluster), Arc::clone(queue));
    cluster.pods.observe(move |old, new| {
        if !shows_change(old, new) {
            return;
        }
        let Some(cluster) = known.upgrade() else {
            return;
        };
        for service in selecting(&cluster, old, new) {
            affected.add(Key::of(service.as_ref()));
        }
    });
    let (known, affected) = (Arc::downgrade(cluster), Arc::clone(queue));
    cluster.nodes.observe(move |old, new| {
        if zone(old) != zone(new) || old.is_some() != new.is_some() {
            queue_node(&known, &affected, old.or(new));
        }
    });
}

fn queue_node(cluster: &Weak<Cluster>, queue: &Queue<Key>, node: Option<&Arc<Node>>) {
    let (Some(cluster), Some(node)) = (cluster.upgrade(), node) else {
        return;
    };
    let name = node.metadata.name.as_deref().unwrap_or_default();
    for pod in pods::of_node(&cluster, name) {
        for service in selecting(&cluster, Some(&pod), None) {
            queue.add(Key::of(service.as_ref()));
        }
    }
}

fn selecting(
    cluster: &Cluster,
    old: Option<&Arc<Pod>>,
    new: Option<&Arc<Pod>>,
) -> Vec<Arc<Service>> {
    let Some(namespace) = new
        .or(old)
        .and_then(|pod| pod.metadata.namespace.as_deref())
    else {
        return Vec::new();
    };
    let pods = old.into_iter().chain(new);
    let labels: BTreeSet<(&String, &String)> = pods
        .flat_map(|pod| pod.metadata.labels.iter().flatten())
        .collect();
    let by_label = labels.into_iter().map(|(key, value)| {
        let term = terms::label(key, value);
        cluster.services.found_by(namespace, &term, |service| {
            served_selector(service).is_some_and(|selector| {
                let selects =
                    |pod: &Arc<Pod>| selector::pairs_match(selector, pod.metadata.labels.as_ref());
                old.is_some_and(selects) || new.is_some_and(selects)
            })
        })
    });
    by_label.flatten().collect()
}

fn zone(node: Option<&Arc<Node>>) -> Option<&String> {
    node?.metadata.labels.as_ref()?.get(ZONE_LABEL)
}

fn shows_change(old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) -> bool {
    let (Some(old), Some(new)) = (old, new) else {
        return true;
    };
    let shown = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        (
            pods::is_ready(pod),
            pods::is_terminal(pod),
            pods::is_terminating(pod),
            pod.metadata.uid.clone(),
            spec.map(|spec| {
                (
                    spec.node_name.clone(),
                    spec.hostname.clone(),
                    spec.subdomain.clone(),
                )
            }),
        )
    };
    shown(old) != shown(new)
        || old.metadata.labels != new.metadata.labels
        || pods::addresses(old) != pods::addresses(new)
}
