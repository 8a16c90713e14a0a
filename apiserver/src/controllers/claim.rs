//! Ownership: which objects a controller's object controls, adopts or lets go.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource;
use serde_json::json;

use super::selector;
use super::store::{Key, Object, Store};
use super::terms;
use super::write::Write;

/// The reference of the one owner that controls the object.
pub(super) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|reference| reference.controller == Some(true))
}

/// Says whether `owner` controls the object with `meta`.
pub(super) fn is_controlled_by<K: Resource<DynamicType = ()>>(
    meta: &ObjectMeta,
    owner: &K,
) -> bool {
    controller_of(meta).is_some_and(|reference| Some(&reference.uid) == owner.meta().uid.as_ref())
}

/// The reference by which `owner` controls what it creates.
pub(super) fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What `owner` controls, ordered by name.
pub(super) fn controlled_by<O: Object, K: Object>(owner: &O, store: &Store<K>) -> Vec<Arc<K>> {
    let Key { namespace, name } = Key::of(owner);
    let term = terms::controller(&O::kind(&()), &name);
    store.found_by(&namespace, &term, |object| {
        is_controlled_by(object.meta(), owner)
    })
}

/// Everything that `owner` could have to do with: what it controls, and what its selector may select; ordered by name.
pub(super) fn candidates<O: Object, K: Object>(
    owner: &O,
    labels: &LabelSelector,
    store: &Store<K>,
) -> Vec<Arc<K>> {
    let namespace = Key::of(owner).namespace;
    let Some((key, value)) = labels.match_labels.iter().flatten().next() else {
        return store.in_namespace(&namespace);
    };
    let label = terms::label(key, value);
    let mut found = store.found_by(&namespace, &label, |object| {
        !is_controlled_by(object.meta(), owner)
    });
    found.extend(controlled_by(owner, store));
    found.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
    found
}

/// What a selector and the controller references together say about `candidates`.
pub(super) struct Claim<K> {
    /// Controlled already and still selected.
    pub(super) owned: Vec<Arc<K>>,
    /// Selected, and nobody's: to be taken over.
    pub(super) adopted: Vec<Arc<K>>,
    /// Controlled, but selected no longer: to be let go.
    pub(super) released: Vec<Arc<K>>,
}

/// Sorts `candidates` by what `owner` has to do with them.
pub(super) fn claim<O, K>(owner: &O, labels: &LabelSelector, candidates: Vec<Arc<K>>) -> Claim<K>
where
    O: Resource<DynamicType = ()>,
    K: Object,
{
    let leaving = owner.meta().deletion_timestamp.is_some();
    let mut claim = Claim {
        owned: Vec::new(),
        adopted: Vec::new(),
        released: Vec::new(),
    };
    for object in candidates {
        let meta = object.meta();
        let selected = selector::matches(labels, meta.labels.as_ref());
        match controller_of(meta) {
            Some(reference) if Some(&reference.uid) != owner.meta().uid.as_ref() => {}
            Some(_) if selected => claim.owned.push(object),
            Some(_) if !leaving => claim.released.push(object),
            None if selected && !leaving && meta.deletion_timestamp.is_none() => {
                claim.adopted.push(object)
            }
            Some(_) | None => {}
        }
    }
    claim
}

impl<K: Object> Claim<K> {
    /// The patches that make the adoptions and releases true.
    pub(super) fn writes<O: Resource<DynamicType = ()>>(&self, owner: &O) -> Vec<Write<K>> {
        let adopt = self.adopted.iter().map(|object| {
            let mut references = object.meta().owner_references.clone().unwrap_or_default();
            references.push(controller_reference(owner));
            rewritten(object.as_ref(), references)
        });
        let release = self.released.iter().map(|object| {
            let references = object.meta().owner_references.iter().flatten();
            let others =
                references.filter(|reference| Some(&reference.uid) != owner.meta().uid.as_ref());
            rewritten(object.as_ref(), others.cloned().collect())
        });
        adopt.chain(release).collect()
    }
}

fn rewritten<K: Object>(object: &K, references: Vec<OwnerReference>) -> Write<K> {
    let references = Some(references).filter(|references| !references.is_empty());
    let patch = json!({"metadata": {
        "ownerReferences": references,
        "resourceVersion": object.meta().resource_version,
    }});
    Write::merge(object, patch)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, app: &str, controller: Option<&str>) -> Arc<Pod> {
        let owners: Vec<Value> = controller
            .iter()
            .map(|uid| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": uid, "controller": true}))
            .collect();
        let pod = json!({"metadata": {"name": name, "namespace": "ns", "labels": {"app": app}, "ownerReferences": owners}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn selector_and_controller_reference_decide_together() {
        let owner = json!({"metadata": {"name": "web", "namespace": "ns", "uid": "me"}});
        let owner: ReplicaSet = serde_json::from_value(owner).expect("a ReplicaSet");
        let labels = LabelSelector {
            match_labels: Some([("app".to_owned(), "web".to_owned())].into()),
            ..LabelSelector::default()
        };
        let pods = vec![
            pod("mine", "web", Some("me")),
            pod("strayed", "other", Some("me")),
            pod("orphan", "web", None),
            pod("theirs", "web", Some("you")),
            pod("unrelated", "other", None),
        ];
        let claim = claim(&owner, &labels, pods);
        let names = |pods: &[Arc<Pod>]| -> Vec<String> {
            pods.iter()
                .filter_map(|p| p.metadata.name.clone())
                .collect()
        };
        assert_eq!(names(&claim.owned), ["mine"]);
        assert_eq!(names(&claim.adopted), ["orphan"]);
        assert_eq!(names(&claim.released), ["strayed"]);
        assert_eq!(claim.writes(&owner).len(), 2);
    }
}
