//! What roles and bindings may say. Grants nothing.

use serde_json::Value;

use super::GROUP;
use crate::{
    field::{Error, Path, show_struct},
    kind::Scope,
    meta::complaints,
    names, selector,
    value::{items, str_of},
};

pub(super) fn validate_role(role: &Value, scope: Scope) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, rule) in items(&role["rules"]).iter().enumerate() {
        errors.extend(validate_rule(rule, scope, &Path::new("rules").index(index)));
    }
    errors
}

fn validate_rule(rule: &Value, scope: Scope, path: &Path) -> Vec<Error> {
    let has = |field: &str| !items(&rule[field]).is_empty();
    let mut errors = Vec::new();
    if !has("verbs") {
        let detail = "verbs must contain at least one value";
        errors.push(Error::required(&path.child("verbs"), detail));
    }
    if has("nonResourceURLs") {
        let path = path.child("nonResourceURLs");
        let urls = &rule["nonResourceURLs"];
        if scope == Scope::Namespaced {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            errors.push(Error::invalid(&path, urls.clone(), detail));
        }
        if has("apiGroups") || has("resources") || has("resourceNames") {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(Error::invalid(&path, urls.clone(), detail));
        }
        return errors;
    }
    if !has("apiGroups") {
        let detail = "resource rules must supply at least one api group";
        errors.push(Error::required(&path.child("apiGroups"), detail));
    }
    if !has("resources") {
        let detail = "resource rules must supply at least one resource";
        errors.push(Error::required(&path.child("resources"), detail));
    }
    errors
}

pub(super) fn validate_cluster_role(role: &Value) -> Vec<Error> {
    let mut errors = validate_role(role, Scope::Cluster);
    let aggregation = &role["aggregationRule"];
    if aggregation.is_null() {
        return errors;
    }
    let path = Path::new("aggregationRule").child("clusterRoleSelectors");
    let selectors = items(&aggregation["clusterRoleSelectors"]);
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(Error::required(&path, detail));
    }
    for (index, selector) in selectors.iter().enumerate() {
        let path = path.index(index);
        errors.extend(selector::validate_label_selector(selector, &path));
        if selector::from_label_selector(selector).is_err() {
            errors.push(Error::invalid_shown(
                &path,
                "null",
                "invalid label selector.",
            ));
        }
    }
    errors
}

pub(super) fn validate_binding(binding: &Value, scope: Scope) -> Vec<Error> {
    let path = Path::new("roleRef");
    let role = &binding["roleRef"];
    let mut errors = Vec::new();
    if role["apiGroup"] != GROUP {
        let path = path.child("apiGroup");
        errors.push(Error::not_supported(
            &path,
            str_of(&role["apiGroup"]),
            &[GROUP],
        ));
    }
    let kinds: &[&str] = match scope {
        Scope::Namespaced => &["Role", "ClusterRole"],
        Scope::Cluster => &["ClusterRole"],
    };
    let kind = str_of(&role["kind"]);
    if !kinds.contains(&kind) {
        errors.push(Error::not_supported(&path.child("kind"), kind, kinds));
    }
    let name_path = path.child("name");
    match str_of(&role["name"]) {
        "" => errors.push(Error::required(&name_path, "")),
        name => errors.extend(complaints(&name_path, name, names::path_segment(name))),
    }
    for (index, subject) in items(&binding["subjects"]).iter().enumerate() {
        let path = Path::new("subjects").index(index);
        errors.extend(validate_subject(subject, scope, &path));
    }
    errors
}

fn validate_subject(subject: &Value, scope: Scope, path: &Path) -> Vec<Error> {
    let field = |name: &str| str_of(&subject[name]);
    let (name, group) = (field("name"), field("apiGroup"));
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    match field("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                let details = names::dns1123_subdomain(name);
                errors.extend(complaints(&path.child("name"), name, details));
            }
            if !group.is_empty() {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            if scope == Scope::Cluster && field("namespace").is_empty() {
                errors.push(Error::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" if group != GROUP => {
            errors.push(Error::not_supported(
                &path.child("apiGroup"),
                group,
                &[GROUP],
            ));
        }
        "User" | "Group" => {}
        other => {
            let known = ["ServiceAccount", "User", "Group"];
            errors.push(Error::not_supported(&path.child("kind"), other, &known));
        }
    }
    errors
}

pub(super) fn validate_binding_update(new: &Value, old: &Value, scope: Scope) -> Vec<Error> {
    let mut errors = validate_binding(new, scope);
    if new["roleRef"] != old["roleRef"] {
        let fields = [("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name")];
        let shown = show_struct(&new["roleRef"], &fields);
        let path = Path::new("roleRef");
        errors.push(Error::invalid_shown(&path, &shown, "cannot change roleRef"));
    }
    errors
}
