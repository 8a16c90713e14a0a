//! Revisions: which ReplicaSet is the current one, how they are numbered, and which old ones are forgotten.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::draft::{DESIRED_ANNOTATION, Draft, MAX_ANNOTATION, Member};
use crate::controllers::claim::controller_reference;
use crate::controllers::selector::Labels;
use crate::controllers::template;
use crate::controllers::write::Write;

pub(super) const REVISION_ANNOTATION: &str = "deployment.kubernetes.io/revision";
const HISTORY_ANNOTATION: &str = "deployment.kubernetes.io/revision-history";
const HASH_LABEL: &str = "pod-template-hash";
/// Longest revision history kept in its annotation.
const HISTORY_LENGTH_MAX: usize = 2000;
/// Annotations that are about the Deployment itself, not its template.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION_ANNOTATION,
    HISTORY_ANNOTATION,
    DESIRED_ANNOTATION,
    MAX_ANNOTATION,
    "deprecated.deployment.rollback.to",
];

/// Says whether two sets stamp out the same pods.
pub(super) fn same_template(a: &ReplicaSet, b: &ReplicaSet) -> bool {
    let template = |set: &ReplicaSet| set.spec.template.clone().map(without_hash);
    template(a) == template(b)
}

fn without_hash(mut template: PodTemplateSpec) -> PodTemplateSpec {
    if let Some(meta) = &mut template.metadata {
        if let Some(labels) = &mut meta.labels {
            labels.remove(HASH_LABEL);
        }
        meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
        meta.creation_timestamp = None;
    }
    template
}

impl Draft<'_> {
    /// Finds the set with the Deployment's template: the oldest, should several have it.
    pub(super) fn find_current(&mut self) {
        let wanted = without_hash(self.spec.template.clone());
        self.current = self.sets.iter().position(|member| {
            let template = member.set.spec.template.clone();
            template.map(without_hash).as_ref() == Some(&wanted)
        });
    }

    fn next_revision(&self) -> i64 {
        let newest = self
            .old()
            .filter_map(|member| number(member.annotation(REVISION_ANNOTATION)))
            .max();
        newest.unwrap_or(0) + 1
    }

    /// Brings the current set's revision, annotations and `minReadySeconds` up to date.
    pub(super) fn number_current(&mut self) {
        let revision = self.next_revision();
        let copied = self.copied_annotations();
        let min_ready_seconds = self.spec.min_ready_seconds;
        let Some(member) = self.current.and_then(|index| self.sets.get_mut(index)) else {
            return;
        };
        for (key, value) in copied {
            member.annotate(&key, value);
        }
        let earlier = member.annotation(REVISION_ANNOTATION).map(str::to_owned);
        if number(earlier.as_deref()).unwrap_or(0) < revision {
            member.annotate(REVISION_ANNOTATION, revision.to_string());
            if let Some(earlier) = earlier {
                let history = history(member.annotation(HISTORY_ANNOTATION), &earlier);
                member.annotate(HISTORY_ANNOTATION, history);
            }
        }
        let spec = &mut member.set.spec;
        if spec.min_ready_seconds.unwrap_or(0) != min_ready_seconds.unwrap_or(0) {
            spec.min_ready_seconds = min_ready_seconds;
        }
        let revision = member.annotation(REVISION_ANNOTATION).map(str::to_owned);
        if let Some(revision) = revision {
            let annotations = self.deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(REVISION_ANNOTATION.to_owned(), revision);
        }
    }

    fn copied_annotations(&self) -> Labels {
        let own = self.deployment.metadata.annotations.iter().flatten();
        own.filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Adds a set for the Deployment's template, without pods yet.
    pub(super) fn add_current(&mut self) {
        let collisions = self
            .deployment
            .status
            .as_ref()
            .and_then(|status| status.collision_count);
        let hash = template::hash(&without_hash(self.spec.template.clone()), collisions);
        let mut template = self.spec.template.clone();
        let labels = template
            .metadata
            .get_or_insert_default()
            .labels
            .get_or_insert_default();
        labels.insert(HASH_LABEL.to_owned(), hash.clone());
        let labels = labels.clone();
        let mut selector = self.spec.selector.clone();
        let pairs = selector.match_labels.get_or_insert_default();
        pairs.insert(HASH_LABEL.to_owned(), hash.clone());
        let name = self.deployment.metadata.name.as_deref().unwrap_or_default();
        let set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{name}-{hash}")),
                namespace: self.deployment.metadata.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![controller_reference(&self.deployment)]),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                min_ready_seconds: self.spec.min_ready_seconds,
                replicas: Some(0),
                selector,
                template: Some(template),
            },
            status: None,
        };
        let (wanted, surge) = (self.wanted(), self.bounds().surge);
        let mut member = Member { set, origin: None };
        member.annotate(DESIRED_ANNOTATION, wanted.to_string());
        member.annotate(MAX_ANNOTATION, (wanted + surge).to_string());
        self.sets.push(member);
        self.current = Some(self.sets.len() - 1);
        self.number_current();
    }

    /// The deletions of empty old sets beyond the history limit, lowest revision first.
    pub(super) fn forgotten(&self) -> Vec<Write<ReplicaSet>> {
        let Some(limit) = self
            .spec
            .revision_history_limit
            .and_then(|limit| usize::try_from(limit).ok())
        else {
            return Vec::new();
        };
        let alive = |member: &&Member| member.set.metadata.deletion_timestamp.is_none();
        let mut old: Vec<&Member> = self.old().filter(alive).collect();
        let surplus = old.len().saturating_sub(limit);
        old.sort_by_key(|member| number(member.annotation(REVISION_ANNOTATION)));
        let empty = old.into_iter().take(surplus).filter(|member| {
            let status = member.set.status.as_ref();
            let observed = status.and_then(|status| status.observed_generation);
            member.replicas() == 0
                && status.is_none_or(|status| status.replicas == 0)
                && member.set.metadata.generation <= observed
        });
        empty.map(|member| Write::delete(&member.set)).collect()
    }
}

fn number(revision: Option<&str>) -> Option<i64> {
    revision?.parse().ok()
}

fn history(earlier: Option<&str>, revision: &str) -> String {
    let mut entries: Vec<&str> = earlier
        .into_iter()
        .flat_map(|list| list.split(','))
        .filter(|e| !e.is_empty())
        .collect();
    entries.push(revision);
    while entries.len() > 1 && entries.join(",").len() > HISTORY_LENGTH_MAX {
        entries.remove(0);
    }
    entries.join(",")
}
