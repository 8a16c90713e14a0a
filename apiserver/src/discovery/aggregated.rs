//! `APIGroupDiscoveryList`: everything served, in one answer each for `/api` and `/apis`.

use knarr_api::kind::{Scope, Subresource};
use serde_json::{Value, json};

use super::catalog::{self, Entry};

pub(super) fn core() -> Value {
    let (core, _) = items();
    list(core)
}

pub(super) fn groups() -> Value {
    let (_, named) = items();
    list(named)
}

fn list(items: Vec<Value>) -> Value {
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

/// The core group and the named ones, one item a group.
fn items() -> (Vec<Value>, Vec<Value>) {
    let mut groups: Vec<(&str, Vec<Value>)> = Vec::new();
    for (group, version, entries) in catalog::group_versions() {
        let version = json!({
            "version": version,
            "resources": entries.iter().map(resource).collect::<Vec<_>>(),
            "freshness": "Current",
        });
        match groups.iter_mut().find(|(g, _)| *g == group) {
            Some((_, versions)) => versions.push(version),
            None => groups.push((group, vec![version])),
        }
    }
    let (core, named): (Vec<_>, Vec<_>) = groups.into_iter().partition(|(g, _)| g.is_empty());
    let item = |(group, versions): (&str, Vec<Value>)| {
        let metadata = if group.is_empty() {
            json!({})
        } else {
            json!({"name": group})
        };
        json!({"metadata": metadata, "versions": versions})
    };
    (
        core.into_iter().map(item).collect(),
        named.into_iter().map(item).collect(),
    )
}

fn resource(entry: &Entry) -> Value {
    let scope = match entry.scope {
        Scope::Cluster => "Cluster",
        Scope::Namespaced => "Namespaced",
    };
    let mut document = json!({
        "resource": entry.plural,
        "responseKind": {"group": "", "version": "", "kind": entry.kind},
        "scope": scope,
        "singularResource": entry.singular,
        "verbs": entry.verbs,
    });
    if !entry.short_names.is_empty() {
        document["shortNames"] = json!(entry.short_names);
    }
    if !entry.categories.is_empty() {
        document["categories"] = json!(entry.categories);
    }
    if !entry.subresources.is_empty() {
        let subresource = |s: &Subresource| {
            let (group, version, kind) = entry.body_of(s);
            json!({
                "subresource": s.name,
                "responseKind": {"group": group, "version": version, "kind": kind},
                "verbs": s.verbs,
            })
        };
        let all: Vec<Value> = entry.subresources.iter().map(subresource).collect();
        document["subresources"] = all.into();
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_group_has_no_name_and_named_groups_do() {
        assert_eq!(core()["items"][0]["metadata"].get("name"), None);
        let names: Vec<Value> = groups()["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["metadata"]["name"].clone())
            .collect();
        assert!(names.contains(&json!("authentication.k8s.io")));
    }
}
