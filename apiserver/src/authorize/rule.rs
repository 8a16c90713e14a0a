//! One rule of a role, and what it allows.

use std::fmt;

use knarr_api::value::texts;
use serde_json::{Value, json};

use super::Action;

const ANY: &str = "*";

/// A `PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    paths: Vec<String>,
}

impl Rule {
    pub(super) fn read(rule: &Value) -> Rule {
        let list = |field: &str| texts(&rule[field]).into_iter().map(String::from).collect();
        Rule {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            paths: list("nonResourceURLs"),
        }
    }

    pub(super) fn allows(&self, action: &Action<'_>) -> bool {
        match action {
            Action::Resource {
                verb,
                group,
                resource,
                subresource,
                namespace: _,
                name,
                field_selector: _,
            } => {
                has(&self.verbs, verb)
                    && has(&self.groups, group)
                    && self.covers(resource, subresource)
                    && (self.names.is_empty() || self.names.iter().any(|n| n == name))
            }
            Action::Path { verb, path } => {
                has(&self.verbs, verb) && self.paths.iter().any(|p| is_under(path, p))
            }
        }
    }

    /// The same as a client reads it.
    pub(super) fn to_value(&self) -> Value {
        let Rule {
            verbs,
            groups,
            resources,
            names,
            paths,
        } = self;
        let mut rule = json!({ "verbs": verbs });
        for (field, list) in [
            ("apiGroups", groups),
            ("resources", resources),
            ("resourceNames", names),
            ("nonResourceURLs", paths),
        ] {
            if !list.is_empty() {
                rule[field] = json!(list);
            }
        }
        rule
    }

    pub(super) fn is_about_paths(&self) -> bool {
        !self.paths.is_empty()
    }

    /// The rule taken apart into the smallest things it allows.
    pub(super) fn permissions(&self) -> Vec<Permission> {
        let mut permissions = Vec::new();
        let any_name = [String::new()];
        let names = if self.names.is_empty() {
            &any_name[..]
        } else {
            &self.names
        };
        for verb in &self.verbs {
            for group in &self.groups {
                for resource in &self.resources {
                    permissions.extend(names.iter().map(|name| Permission {
                        verb: verb.clone(),
                        target: Target::Resource {
                            group: group.clone(),
                            resource: resource.clone(),
                            name: name.clone(),
                        },
                    }));
                }
            }
            permissions.extend(self.paths.iter().map(|path| Permission {
                verb: verb.clone(),
                target: Target::Path(path.clone()),
            }));
        }
        permissions
    }

    /// Whether who has this rule has all of a permission.
    pub(super) fn grants(&self, permission: &Permission) -> bool {
        has(&self.verbs, &permission.verb)
            && match &permission.target {
                Target::Resource {
                    group,
                    resource,
                    name,
                } => {
                    let (resource, subresource) =
                        resource.split_once('/').unwrap_or((resource, ""));
                    has(&self.groups, group)
                        && self.covers(resource, subresource)
                        && (self.names.is_empty() || self.names.contains(name))
                }
                Target::Path(path) => self.paths.iter().any(|p| is_under(path, p)),
            }
    }

    fn covers(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|covered| {
            if covered == ANY {
                return true;
            }
            match (covered.split_once('/'), subresource) {
                (None, "") => covered == resource,
                (Some((parent, sub)), wanted) => {
                    sub == wanted && (parent == ANY || parent == resource)
                }
                (None, _) => false,
            }
        })
    }
}

/// One verb on one resource, object or path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Permission {
    pub(super) verb: String,
    target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Resource {
        group: String,
        /// With its subresource.
        resource: String,
        /// Empty for all objects.
        name: String,
    },
    Path(String),
}

/// `APIGroups:["apps"], Resources:["deployments"]`: the target, without the verb.
impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Path(path) => write!(f, "NonResourceURLs:[{path:?}]"),
            Target::Resource {
                group,
                resource,
                name,
            } => {
                write!(f, "APIGroups:[{group:?}], Resources:[{resource:?}]")?;
                if name.is_empty() {
                    return Ok(());
                }
                write!(f, ", ResourceNames:[{name:?}]")
            }
        }
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == ANY || item == wanted)
}

/// A pattern is a path, or the start of paths when it ends in `*`.
fn is_under(path: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => path == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_allow_what_they_name() {
        let check = |rule: Value, wanted: (&str, &str, &str, &str, &str), allowed: bool| {
            let (verb, group, resource, subresource, name) = wanted;
            let action = Action::Resource {
                verb,
                group,
                resource,
                subresource,
                namespace: "default",
                name,
                field_selector: "",
            };
            assert_eq!(
                Rule::read(&rule).allows(&action),
                allowed,
                "{rule} {action:?}"
            );
        };
        let pods = json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"] });
        check(pods.clone(), ("get", "", "pods", "", "a"), true);
        check(pods.clone(), ("delete", "", "pods", "", "a"), false);
        check(pods.clone(), ("get", "apps", "pods", "", "a"), false);
        check(pods, ("get", "", "pods", "log", "a"), false);
        let status =
            json!({ "apiGroups": ["*"], "resources": ["*/status", "pods/log"], "verbs": ["*"] });
        check(
            status.clone(),
            ("patch", "apps", "deployments", "status", "a"),
            true,
        );
        check(status.clone(), ("get", "", "pods", "log", "a"), true);
        check(status, ("get", "", "pods", "", "a"), false);
        let named = json!({ "apiGroups": [""], "resources": ["*"], "resourceNames": ["a"], "verbs": ["*"] });
        check(named.clone(), ("get", "", "secrets", "", "a"), true);
        check(named.clone(), ("get", "", "secrets", "", "b"), false);
        check(named, ("list", "", "secrets", "", ""), false);
    }

    #[test]
    fn path_patterns_match_as_written_or_as_a_start() {
        let rule = Rule::read(&json!({ "nonResourceURLs": ["/api", "/apis/*"], "verbs": ["get"] }));
        let check = |verb: &str, path: &str, allowed: bool| {
            assert_eq!(
                rule.allows(&Action::Path { verb, path }),
                allowed,
                "{verb} {path}"
            );
        };
        check("get", "/api", true);
        check("get", "/api/v1", false);
        check("get", "/apis/apps/v1", true);
        check("post", "/api", false);
    }
}
