//! ControllerRevisions: the templates a DaemonSet or StatefulSet has had, numbered.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Resource;
use serde_json::{Value, json};

use super::claim::{controlled_by, controller_reference};
use super::store::{Object, Store};
use super::template;
use super::write::Write;

/// Marks pods with the revision they were made from.
pub(super) const HASH_LABEL: &str = "controller-revision-hash";

/// The revision of the present template, and the write that makes it the newest, if it is not.
pub(super) struct Current {
    pub(super) revision: ControllerRevision,
    pub(super) write: Option<Write<ControllerRevision>>,
}

/// What differs between the kinds that keep revisions.
pub(super) struct Naming {
    /// Label of a revision that holds its hash.
    pub(super) hash_label: &'static str,
    pub(super) collision_count: Option<i32>,
}

/// The revisions of `owner`, oldest first.
pub(super) fn owned<O: Object>(
    owner: &O,
    all: &Store<ControllerRevision>,
) -> Vec<Arc<ControllerRevision>> {
    let mut owned = controlled_by(owner, all);
    owned.sort_by_key(|revision| (revision.revision, revision.metadata.name.clone()));
    owned
}

/// Finds the revision of `template` among `known`, or makes the next one.
pub(super) fn current<O: Resource<DynamicType = ()>>(
    owner: &O,
    template: &PodTemplateSpec,
    known: &[Arc<ControllerRevision>],
    naming: &Naming,
) -> Current {
    let data = data(template);
    let newest = known
        .iter()
        .filter_map(|revision| revision.revision)
        .max()
        .unwrap_or(0);
    if let Some(same) = known.iter().rev().find(|revision| revision.data.0 == data) {
        let mut revision = (**same).clone();
        if same.revision == Some(newest) {
            return Current {
                revision,
                write: None,
            };
        }
        revision.revision = Some(newest + 1);
        let write = Write::merge(&revision, json!({"revision": newest + 1}));
        return Current {
            revision,
            write: Some(write),
        };
    }
    let hash = template::hash(&data, naming.collision_count);
    let name = owner.meta().name.as_deref().unwrap_or_default();
    let mut labels = template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.clone())
        .unwrap_or_default();
    labels.insert(naming.hash_label.to_owned(), hash.clone());
    let revision = ControllerRevision {
        data: RawExtension(data),
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: owner.meta().namespace.clone(),
            labels: Some(labels),
            annotations: owner.meta().annotations.clone(),
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        revision: Some(newest + 1),
    };
    Current {
        write: Some(Write::Create(revision.clone())),
        revision,
    }
}

/// A revision's content is the patch that brings its template back.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = json!(template);
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// The template that a revision holds.
pub(super) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The deletions of revisions beyond `limit` that no name in `used` keeps.
pub(super) fn surplus(
    known: &[Arc<ControllerRevision>],
    used: &[&str],
    limit: Option<i32>,
) -> Vec<Write<ControllerRevision>> {
    let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
    let is_used = |revision: &ControllerRevision| {
        let hash = revision
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(HASH_LABEL));
        let names = [revision.metadata.name.as_ref(), hash];
        names
            .into_iter()
            .flatten()
            .any(|name| used.contains(&name.as_str()))
    };
    let unused: Vec<_> = known.iter().filter(|revision| !is_used(revision)).collect();
    let count = unused.len().saturating_sub(limit);
    unused
        .into_iter()
        .take(count)
        .map(|revision| Write::delete(revision.as_ref()))
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::StatefulSet;

    use super::*;

    fn template(image: &str) -> PodTemplateSpec {
        let template = json!({"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": image}]}});
        serde_json::from_value(template).expect("a template")
    }

    #[test]
    fn a_template_has_one_revision_and_becomes_the_newest_again() {
        let owner = json!({"metadata": {"name": "db", "namespace": "ns", "uid": "me"},
            "spec": {"selector": {}, "template": {}, "serviceName": ""}});
        let owner: StatefulSet = serde_json::from_value(owner).expect("a StatefulSet");
        let naming = Naming {
            hash_label: HASH_LABEL,
            collision_count: None,
        };
        let mut known: Vec<Arc<ControllerRevision>> = Vec::new();
        for (image, number) in [("a", 1), ("b", 2)] {
            let current = current(&owner, &template(image), &known, &naming);
            assert!(matches!(current.write, Some(Write::Create(_))));
            assert_eq!(current.revision.revision, Some(number));
            assert_eq!(template_of(&current.revision), Some(template(image)));
            known.push(Arc::new(current.revision));
        }
        assert_eq!(current(&owner, &template("b"), &known, &naming).write, None);
        let back = current(&owner, &template("a"), &known, &naming);
        assert!(matches!(back.write, Some(Write::Merge { .. })));
        assert_eq!(back.revision.revision, Some(3));
        assert_eq!(surplus(&known, &[], Some(1)).len(), 1);
        let first = known[0].metadata.name.as_deref().expect("a name");
        assert_eq!(surplus(&known, &[first], Some(1)).len(), 0);
    }
}
