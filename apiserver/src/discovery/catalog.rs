//! What discovery lists: the registry's kinds and the kinds that are answered but never stored.

use knarr_api::{
    kind::{Kind, Scope, Subresource},
    kinds,
};

/// A kind that exists only as a question and its answer, such as `SubjectAccessReview`.
#[derive(Debug)]
pub(crate) struct Virtual {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) scope: Scope,
}

const VIRTUAL: &[Virtual] = &[
    Virtual {
        group: "",
        version: "v1",
        kind: "Binding",
        plural: "bindings",
        singular: "binding",
        scope: Scope::Namespaced,
    },
    Virtual {
        group: "authentication.k8s.io",
        version: "v1",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        scope: Scope::Cluster,
    },
    Virtual {
        group: "authentication.k8s.io",
        version: "v1",
        kind: "TokenReview",
        plural: "tokenreviews",
        singular: "tokenreview",
        scope: Scope::Cluster,
    },
    Virtual {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        scope: Scope::Namespaced,
    },
    Virtual {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        scope: Scope::Cluster,
    },
    Virtual {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        scope: Scope::Cluster,
    },
    Virtual {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
        scope: Scope::Cluster,
    },
];

/// Finds a kind that is answered but never stored.
pub(crate) fn virtual_kind(group: &str, version: &str, plural: &str) -> Option<&'static Virtual> {
    VIRTUAL
        .iter()
        .find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// One line of discovery, from either source.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
    pub(super) singular: &'static str,
    pub(super) scope: Scope,
    pub(super) verbs: Vec<&'static str>,
    pub(super) short_names: &'static [&'static str],
    pub(super) categories: &'static [&'static str],
    pub(super) subresources: Vec<Subresource>,
}

impl Entry {
    fn of_kind(kind: &'static Kind) -> Self {
        let mut subresources = kind.subresources.to_vec();
        subresources.sort_by_key(|s| s.name);
        let mut verbs = kind.verbs.to_vec();
        verbs.sort_unstable();
        Entry {
            group: kind.group,
            version: kind.version,
            kind: kind.kind,
            plural: kind.plural,
            singular: kind.singular,
            scope: kind.scope,
            verbs,
            short_names: kind.short_names,
            categories: kind.categories,
            subresources,
        }
    }

    fn of_virtual(kind: &Virtual) -> Self {
        let Virtual {
            group,
            version,
            kind,
            plural,
            singular,
            scope,
        } = *kind;
        Entry {
            group,
            version,
            kind,
            plural,
            singular,
            scope,
            verbs: vec!["create"],
            short_names: &[],
            categories: &[],
            subresources: Vec::new(),
        }
    }

    /// Group, version and kind of a subresource's body; group and version are empty if they are the parent's.
    pub(super) fn body_of(&self, subresource: &Subresource) -> (&str, &str, &str) {
        match subresource.body {
            None => ("", "", self.kind),
            Some((group, version, kind)) if [group, version] == [self.group, self.version] => {
                ("", "", kind)
            }
            Some(body) => body,
        }
    }
}

/// Every group version in the registry's order, core first, each with its entries by name.
pub(super) fn group_versions() -> Vec<(&'static str, &'static str, Vec<Entry>)> {
    let entries = kinds::ALL
        .iter()
        .map(|kind| Entry::of_kind(kind))
        .chain(VIRTUAL.iter().map(Entry::of_virtual));
    let mut versions: Vec<(&str, &str, Vec<Entry>)> = Vec::new();
    for entry in entries {
        let place = (entry.group, entry.version);
        match versions.iter_mut().find(|(g, v, _)| (*g, *v) == place) {
            Some((_, _, entries)) => entries.push(entry),
            None => versions.push((entry.group, entry.version, vec![entry])),
        }
    }
    for (_, _, entries) in &mut versions {
        entries.sort_by_key(|entry| entry.plural);
    }
    versions
}

/// Every named group with its versions, the preferred one first.
pub(super) fn groups() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (group, version, _) in group_versions() {
        if group.is_empty() {
            continue;
        }
        match groups.iter_mut().find(|(g, _)| *g == group) {
            Some((_, versions)) => versions.push(version),
            None => groups.push((group, vec![version])),
        }
    }
    groups
}
