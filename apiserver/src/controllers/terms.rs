//! The terms by which controllers find objects: a few fields, read from the stored bytes without decoding them whole.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::partial::{Metadata, Partial};
use super::store::Term;
use super::well_known::{HINTS_ANNOTATIONS, LOAD_BALANCER_FINALIZER, SERVICE_NAME_LABEL};
use crate::storage::Stored;

/// A pod that ended.
pub(super) const ENDED: &str = "ended";
/// A pod that is being deleted and never got a node.
pub(super) const UNPLACED: &str = "unplaced";
/// A pod that has no node and has not ended.
pub(super) const WAITING: &str = "waiting";
/// A Service that wants an address of the load-balancer pool, or may have one.
pub(super) const BALANCED: &str = "balanced";

/// A Service with an annotation about hints.
pub(super) const PROPORTIONAL: &str = "proportional";

/// Objects that carry a label, and Services that select by one.
pub(super) fn label(key: &str, value: &str) -> Term {
    Term::InNamespace(format!("{key}={value}"))
}

/// Objects controlled by one of this kind and name.
pub(super) fn controller(kind: &str, name: &str) -> Term {
    Term::InNamespace(format!("{kind}/{name}"))
}

/// Pods of a node.
pub(super) fn node(name: &str) -> Term {
    Term::InCluster(format!("on {name}"))
}

/// What one of the words above stands for.
pub(super) fn everywhere(word: &str) -> Term {
    Term::InCluster(word.to_owned())
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Placed {
    node_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Phased {
    phase: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Selection {
    #[serde(rename = "type")]
    type_: Option<String>,
    selector: Option<BTreeMap<String, String>>,
}

fn controller_of(metadata: &Metadata) -> Option<Term> {
    let mut owners = metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    Some(controller(&owner.kind, &owner.name))
}

fn labels(stored: &Stored) -> impl Iterator<Item = Term> {
    stored.labels.iter().map(|(key, value)| label(key, value))
}

/// By each label, its controller, its node, and what it waits for.
pub(super) fn of_pod(stored: &Stored) -> Vec<Term> {
    let Partial {
        metadata,
        spec,
        status,
    } = Partial::<Placed, Phased>::read(stored);
    let placed = spec.node_name.filter(|node| !node.is_empty());
    let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let leaving = metadata.deletion_timestamp.is_some();
    let state = match (&placed, ended, leaving) {
        (None, _, true) => Some(UNPLACED),
        (None, false, false) => Some(WAITING),
        (_, true, _) | (Some(_), false, _) => None,
    };
    let terms = labels(stored).chain(controller_of(&metadata));
    let terms = terms.chain(placed.as_deref().map(node));
    let terms = terms.chain(ended.then(|| everywhere(ENDED)));
    terms.chain(state.map(everywhere)).collect()
}

/// By each label and its controller.
pub(super) fn of_owned(stored: &Stored) -> Vec<Term> {
    let Partial { metadata, .. } = Partial::<IgnoredAny>::read(stored);
    labels(stored).chain(controller_of(&metadata)).collect()
}

/// By one label that every pod it selects has, and by whether addresses of the pool or the zones of nodes concern it.
pub(super) fn of_service(stored: &Stored) -> Vec<Term> {
    let Partial { metadata, spec, .. } = Partial::<Selection>::read(stored);
    let type_ = spec.type_.as_deref();
    let selector = spec.selector.filter(|_| type_ != Some("ExternalName"));
    let selected = selector.iter().flatten().next();
    let selected = selected.map(|(key, value)| label(key, value));
    let balanced = type_ == Some("LoadBalancer") || metadata.has_finalizer(LOAD_BALANCER_FINALIZER);
    let annotations = metadata.annotations.iter().flatten();
    let mut annotations = annotations.map(|(key, _)| key.as_str());
    let proportional = annotations.any(|key| HINTS_ANNOTATIONS.contains(&key));
    let states = [(balanced, BALANCED), (proportional, PROPORTIONAL)].into_iter();
    let states = states.filter(|(holds, _)| *holds);
    let states = states.map(|(_, word)| everywhere(word));
    selected.into_iter().chain(states).collect()
}

/// By the name of its Service.
pub(super) fn of_slice(stored: &Stored) -> Vec<Term> {
    let service = stored.labels.get(SERVICE_NAME_LABEL);
    service.map(service_name).into_iter().collect()
}

/// EndpointSlices of a Service.
pub(super) fn service_name(name: &str) -> Term {
    label(SERVICE_NAME_LABEL, name)
}

#[cfg(test)]
mod tests {
    use knarr_api::kinds::pod::POD;
    use serde_json::{Value, json};

    use super::*;
    use crate::storage::{Key, Revision};

    fn check(terms: fn(&Stored) -> Vec<Term>, object: Value, expected: &[Term]) {
        let stored = Stored::new(Key::new(&POD, "ns", "a"), Revision(1), &object);
        assert_eq!(terms(&stored), expected, "{object}");
    }

    #[test]
    fn a_pod_is_found_by_labels_controller_node_and_state() {
        let owners = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "u", "controller": true}]);
        check(
            of_pod,
            json!({"metadata": {"labels": {"app": "web"}, "ownerReferences": owners}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}),
            &[
                label("app", "web"),
                controller("ReplicaSet", "web-1"),
                node("n"),
            ],
        );
        check(
            of_pod,
            json!({"metadata": {}, "spec": {}}),
            &[everywhere(WAITING)],
        );
        check(
            of_pod,
            json!({"metadata": {}, "spec": {"nodeName": "n"}, "status": {"phase": "Failed"}}),
            &[node("n"), everywhere(ENDED)],
        );
        let leaving = json!({"deletionTimestamp": "2026-06-01T12:00:00Z"});
        check(
            of_pod,
            json!({"metadata": leaving}),
            &[everywhere(UNPLACED)],
        );
        check(of_pod, json!({"metadata": 7}), &[everywhere(WAITING)]);
    }

    #[test]
    fn a_service_is_found_by_its_selector_and_by_the_addresses_it_may_have() {
        let service = |spec: Value| json!({"metadata": {}, "spec": spec});
        check(
            of_service,
            service(json!({"type": "LoadBalancer", "selector": {"app": "web", "tier": "x"}})),
            &[label("app", "web"), everywhere(BALANCED)],
        );
        check(
            of_service,
            service(json!({"type": "ExternalName", "selector": {"app": "web"}})),
            &[],
        );
        check(
            of_service,
            json!({"metadata": {"finalizers": [LOAD_BALANCER_FINALIZER]}, "spec": {"type": "ClusterIP"}}),
            &[everywhere(BALANCED)],
        );
        check(
            of_service,
            json!({"metadata": {"annotations": {HINTS_ANNOTATIONS[0]: "Auto"}}, "spec": {}}),
            &[everywhere(PROPORTIONAL)],
        );
    }
}
