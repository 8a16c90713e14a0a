//! The documents that older clients read: `APIVersions`, `APIGroupList`, `APIGroup` and `APIResourceList`.

use knarr_api::kind::Scope;
use serde_json::{Value, json};

use super::catalog::{self, Entry};

pub(super) fn core_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [
            {"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}
        ],
    })
}

pub(super) fn group_list() -> Value {
    let groups: Vec<Value> = catalog::groups()
        .iter()
        .map(|(name, versions)| group_fields(name, versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

pub(super) fn group(name: &str) -> Option<Value> {
    let groups = catalog::groups();
    let (name, versions) = groups.iter().find(|(group, _)| *group == name)?;
    let mut document = group_fields(name, versions);
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    Some(document)
}

fn group_fields(name: &str, versions: &[&str]) -> Value {
    let version =
        |version: &str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({
        "name": name,
        "versions": versions.iter().map(|v| version(v)).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(|v| version(v)),
    })
}

pub(super) fn resources(group: &str, version: &str) -> Option<Value> {
    let (_, _, entries) = catalog::group_versions()
        .into_iter()
        .find(|(g, v, _)| *g == group && *v == version)?;
    let list: Vec<Value> = entries.iter().flat_map(resource_lines).collect();
    let mut document = json!({
        "kind": "APIResourceList",
        "groupVersion": group_version(group, version),
        "resources": list,
    });
    // Only the core group's list predates the field.
    if !group.is_empty() {
        document["apiVersion"] = "v1".into();
    }
    Some(document)
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn resource_lines(entry: &Entry) -> Vec<Value> {
    let namespaced = entry.scope == Scope::Namespaced;
    let mut main = json!({
        "name": entry.plural,
        "singularName": entry.singular,
        "namespaced": namespaced,
        "kind": entry.kind,
        "verbs": entry.verbs,
    });
    if !entry.short_names.is_empty() {
        main["shortNames"] = json!(entry.short_names);
    }
    if !entry.categories.is_empty() {
        main["categories"] = json!(entry.categories);
    }
    let subresources = entry.subresources.iter().map(|subresource| {
        let (group, version, kind) = entry.body_of(subresource);
        let mut line = json!({
            "name": format!("{}/{}", entry.plural, subresource.name),
            "singularName": "",
            "namespaced": namespaced,
            "kind": kind,
            "verbs": subresource.verbs,
        });
        if !version.is_empty() {
            line["group"] = group.into();
            line["version"] = version.into();
        }
        line
    });
    std::iter::once(main).chain(subresources).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reviews_are_listed_beside_the_registry() {
        let document = resources("authorization.k8s.io", "v1").unwrap();
        assert_eq!(document["groupVersion"], "authorization.k8s.io/v1");
        assert_eq!(document["apiVersion"], "v1");
        let names: Vec<&Value> = document["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|resource| &resource["name"])
            .collect();
        assert!(names.contains(&&json!("selfsubjectaccessreviews")));
        assert_eq!(resources("authorization.k8s.io", "v9"), None);
    }

    #[test]
    fn a_group_names_its_preferred_version() {
        let document = group("authentication.k8s.io").unwrap();
        assert_eq!(
            document["preferredVersion"],
            json!({"groupVersion": "authentication.k8s.io/v1", "version": "v1"})
        );
    }
}
