//! All roles and bindings, resolved into who is granted which rules where.

use std::{collections::BTreeMap, sync::Arc};

use knarr_api::{
    kinds::rbac::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING},
    meta,
    value::{items, str_of},
};
use serde_json::Value;

use super::{Action, Decision, rule::Rule};
use crate::{User, storage::Store};

/// Everything that is granted.
#[derive(Debug, Default)]
pub(super) struct Policy {
    grants: Vec<Grant>,
}

#[derive(Debug)]
struct Grant {
    /// Where it holds; `None` everywhere.
    namespace: Option<String>,
    subjects: Vec<Subject>,
    rules: Arc<Vec<Rule>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Subject {
    User(String),
    Group(String),
}

/// Roles by namespace (empty for ClusterRoles) and name.
type Roles = BTreeMap<(String, String), Arc<Vec<Rule>>>;

impl Policy {
    pub(super) fn compile(store: &Store) -> Policy {
        let all = |kind| {
            store
                .list(kind, None)
                .objects
                .into_iter()
                .map(|s| s.object())
        };
        let cluster_roles: Vec<Value> = all(&CLUSTER_ROLE).collect();
        let mut roles = Roles::new();
        let namespaced: Vec<Value> = all(&ROLE).collect();
        for role in cluster_roles.iter().chain(&namespaced) {
            let place = (
                meta::namespace(role).to_owned(),
                meta::name(role).to_owned(),
            );
            let mut gathered = vec![role];
            gather(role, &cluster_roles, &mut gathered);
            let rules = gathered.into_iter().flat_map(rules_of).collect();
            roles.insert(place, Arc::new(rules));
        }
        let grants = all(&CLUSTER_ROLE_BINDING)
            .chain(all(&ROLE_BINDING))
            .filter_map(|binding| grant(&binding, &roles))
            .collect();
        Policy { grants }
    }

    pub(super) fn decide(&self, user: &User, action: &Action<'_>) -> Decision {
        let place = match action {
            Action::Resource { namespace, .. } => *namespace,
            Action::Path { .. } => "",
        };
        let holds = |grant: &&Grant| grant.namespace.as_deref().is_none_or(|n| n == place);
        let allowed = self
            .grants
            .iter()
            .filter(holds)
            .filter(|grant| grant.subjects.iter().any(|subject| subject.is(user)))
            .any(|grant| grant.rules.iter().any(|rule| rule.allows(action)));
        if allowed {
            Decision::Allowed
        } else {
            Decision::Denied
        }
    }
}

impl Subject {
    fn read(subject: &Value) -> Option<Subject> {
        let name = str_of(&subject["name"]);
        match str_of(&subject["kind"]) {
            "User" => Some(Subject::User(name.to_owned())),
            "Group" => Some(Subject::Group(name.to_owned())),
            "ServiceAccount" => {
                let namespace = str_of(&subject["namespace"]);
                Some(Subject::User(format!(
                    "system:serviceaccount:{namespace}:{name}"
                )))
            }
            _ => None,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Subject::User(name) => *name == user.name,
            Subject::Group(name) => user.groups.contains(name),
        }
    }
}

/// `None` for a binding whose role is not there.
fn grant(binding: &Value, roles: &Roles) -> Option<Grant> {
    let own_namespace = meta::namespace(binding);
    let role_namespace = match str_of(&binding["roleRef"]["kind"]) {
        "Role" => own_namespace,
        _ => "",
    };
    let role = str_of(&binding["roleRef"]["name"]);
    let rules = roles.get(&(role_namespace.to_owned(), role.to_owned()))?;
    Some(Grant {
        namespace: Some(own_namespace.to_owned()).filter(|n| !n.is_empty()),
        subjects: items(&binding["subjects"])
            .iter()
            .filter_map(Subject::read)
            .collect(),
        rules: rules.clone(),
    })
}

fn rules_of(role: &Value) -> impl Iterator<Item = Rule> {
    items(&role["rules"]).iter().map(Rule::read)
}

/// Adds the roles that `role` gathers by label, and those that they gather.
fn gather<'a>(role: &Value, all: &'a [Value], gathered: &mut Vec<&'a Value>) {
    let selectors = items(&role["aggregationRule"]["clusterRoleSelectors"]);
    for other in all {
        let is_new = !gathered.iter().any(|known| std::ptr::eq(*known, other));
        if is_new && selectors.iter().any(|selector| selects(selector, other)) {
            gathered.push(other);
            gather(other, all, gathered);
        }
    }
}

fn selects(selector: &Value, role: &Value) -> bool {
    let labels = &role["metadata"]["labels"];
    let wanted = selector["matchLabels"].as_object();
    wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value))
}
