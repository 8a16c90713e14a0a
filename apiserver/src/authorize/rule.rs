//! One rule of a role, and what it allows.

use knarr_api::value::texts;
use serde_json::Value;

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
    use serde_json::json;

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
