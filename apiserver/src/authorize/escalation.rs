//! Nobody grants what they do not hold: judges new roles and bindings by the rules of who writes them.

use std::collections::{BTreeMap, BTreeSet};

use knarr_api::{
    kind::Kind,
    kinds::rbac::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING},
    meta,
    status::Status,
    value::{items, str_of},
};
use serde_json::{Value, json};

use super::{
    Action, Authorizer, Decision, MASTERS,
    rule::{Permission, Rule},
};
use crate::User;

impl Authorizer {
    /// Refuses a role or binding that gives away more than `user` has; `old` is what it replaces.
    pub(crate) fn check_grant(
        &self,
        user: &User,
        kind: &'static Kind,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let is_role = [&ROLE, &CLUSTER_ROLE]
            .iter()
            .any(|k| std::ptr::eq(*k, kind));
        let is_binding = [&ROLE_BINDING, &CLUSTER_ROLE_BINDING]
            .iter()
            .any(|k| std::ptr::eq(*k, kind));
        let is_masters = user.groups.iter().any(|group| group == MASTERS);
        if is_masters || !(is_role || is_binding) {
            return Ok(());
        }
        let fields = if is_role {
            ["rules", "aggregationRule"]
        } else {
            ["roleRef", "subjects"]
        };
        if old.is_some_and(|old| fields.iter().all(|field| old[field] == new[field])) {
            return Ok(());
        }
        if is_role {
            self.check_role(user, kind, new)
        } else {
            self.check_binding(user, kind, new)
        }
    }

    fn check_role(&self, user: &User, kind: &'static Kind, role: &Value) -> Result<(), Status> {
        let (namespace, name) = (meta::namespace(role), meta::name(role));
        if self.may(user, "escalate", kind.plural, namespace, name) {
            return Ok(());
        }
        let refused = |detail: &str| Status::forbidden(kind, name, detail);
        if !role["aggregationRule"].is_null() {
            let everything = [
                json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}),
                json!({"nonResourceURLs": ["*"], "verbs": ["*"]}),
            ];
            self.check_held(user, "", everything.iter().map(Rule::read))
                .map_err(|_| {
                    refused("must have cluster-admin privileges to use the aggregationRule")
                })?;
        }
        self.check_held(
            user,
            namespace,
            items(&role["rules"]).iter().map(Rule::read),
        )
        .map_err(|detail| refused(&detail))
    }

    fn check_binding(
        &self,
        user: &User,
        kind: &'static Kind,
        binding: &Value,
    ) -> Result<(), Status> {
        let namespace = meta::namespace(binding);
        let role = str_of(&binding["roleRef"]["name"]);
        let role_kind = match str_of(&binding["roleRef"]["kind"]) {
            "Role" => &ROLE,
            _ => &CLUSTER_ROLE,
        };
        if self.may(user, "bind", role_kind.plural, namespace, role) {
            return Ok(());
        }
        let place = if role_kind.is_namespaced() {
            namespace
        } else {
            ""
        };
        let rules = self.policy().role(place, role);
        let rules = rules.ok_or_else(|| Status::not_found(role_kind, role))?;
        self.check_held(user, namespace, rules.iter().cloned())
            .map_err(|detail| Status::forbidden(kind, meta::name(binding), &detail))
    }

    fn may(&self, user: &User, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
        let action = Action::Resource {
            verb,
            group: ROLE.group,
            resource,
            subresource: "",
            namespace,
            name,
            field_selector: "",
        };
        self.authorize(user, &action) == Decision::Allowed
    }

    /// Says which of `wanted` the user's own rules do not cover.
    fn check_held(
        &self,
        user: &User,
        namespace: &str,
        wanted: impl Iterator<Item = Rule>,
    ) -> Result<(), String> {
        let policy = self.policy();
        let held: Vec<&Rule> = policy.rules(user, namespace).collect();
        let missing: Vec<Permission> = wanted
            .flat_map(|rule| rule.permissions())
            .filter(|permission| !held.iter().any(|rule| rule.grants(permission)))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            quoted(&user.groups),
            describe(missing)
        ))
    }
}

/// One line for what is missing of each resource or path.
fn describe(missing: Vec<Permission>) -> String {
    let mut verbs: BTreeMap<Permission, Vec<String>> = BTreeMap::new();
    for mut permission in missing {
        let verb = std::mem::take(&mut permission.verb);
        let known = verbs.entry(permission).or_default();
        if !known.contains(&verb) {
            known.push(verb);
        }
    }
    let lines: BTreeSet<String> = verbs
        .into_iter()
        .map(|(permission, verbs)| format!("{{{}, Verbs:{}}}", permission, quoted(&verbs)))
        .collect();
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

/// `["a" "b"]`.
fn quoted(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(" "))
}
