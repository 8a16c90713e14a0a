//! All roles and bindings, resolved into who is granted which rules where.

use std::{collections::BTreeMap, fmt, sync::Arc};

use knarr_api::{
    kinds::rbac::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING},
    meta,
    selector::from_label_selector,
    value::{items, str_of},
};
use serde_json::Value;

use super::{Action, rule::Rule};
use crate::{User, storage::Store};

/// Everything that is granted.
#[derive(Debug, Default)]
pub(super) struct Policy {
    grants: Vec<Grant>,
    roles: Roles,
}

#[derive(Debug)]
struct Grant {
    /// Where it holds; `None` everywhere.
    namespace: Option<String>,
    subjects: Vec<Subject>,
    /// `RoleBinding "viewers/shop" of ClusterRole "view"`
    title: String,
    rules: Arc<Vec<Rule>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Subject {
    User(String),
    Group(String),
    /// A user, with how it reads in a reason.
    Account {
        user: String,
        shown: String,
    },
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::User(name) => write!(f, "User {name:?}"),
            Subject::Group(name) => write!(f, "Group {name:?}"),
            Subject::Account { shown, .. } => write!(f, "ServiceAccount {shown:?}"),
        }
    }
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
        Policy { grants, roles }
    }

    pub(super) fn allows(&self, user: &User, action: &Action<'_>) -> bool {
        self.granting(user, action).is_some()
    }

    /// Why the policy allows an action, in Kubernetes' words; `None` if it does not.
    pub(super) fn reason(&self, user: &User, action: &Action<'_>) -> Option<String> {
        let (grant, subject) = self.granting(user, action)?;
        Some(format!("RBAC: allowed by {} to {subject}", grant.title))
    }

    /// All rules that the user has in a namespace, or everywhere if that is empty.
    pub(super) fn rules<'a>(
        &'a self,
        user: &'a User,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Rule> {
        self.grants
            .iter()
            .filter(move |grant| grant.holds_in(namespace) && grant.subject(user).is_some())
            .flat_map(|grant| grant.rules.iter())
    }

    /// The rules of a role; the namespace is empty for a ClusterRole.
    pub(super) fn role(&self, namespace: &str, name: &str) -> Option<Arc<Vec<Rule>>> {
        let place = (namespace.to_owned(), name.to_owned());
        self.roles.get(&place).cloned()
    }

    fn granting(&self, user: &User, action: &Action<'_>) -> Option<(&Grant, &Subject)> {
        let place = match action {
            Action::Resource { namespace, .. } => *namespace,
            Action::Path { .. } => "",
        };
        self.grants
            .iter()
            .filter(|grant| grant.holds_in(place))
            .filter_map(|grant| Some((grant, grant.subject(user)?)))
            .find(|(grant, _)| grant.rules.iter().any(|rule| rule.allows(action)))
    }
}

impl Grant {
    fn holds_in(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }

    fn subject(&self, user: &User) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.is(user))
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
                Some(Subject::Account {
                    user: format!("system:serviceaccount:{namespace}:{name}"),
                    shown: format!("{name}/{namespace}"),
                })
            }
            _ => None,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Subject::User(name) | Subject::Account { user: name, .. } => *name == user.name,
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
    let name = meta::name(binding);
    let title = match own_namespace {
        "" => format!("ClusterRoleBinding {name:?}"),
        namespace => format!("RoleBinding {:?}", format!("{name}/{namespace}")),
    };
    let role_kind = str_of(&binding["roleRef"]["kind"]);
    Some(Grant {
        title: format!("{title} of {role_kind} {role:?}"),
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
    let labels = role["metadata"]["labels"].as_object();
    from_label_selector(selector).is_ok_and(|selector| selector.matches(labels))
}
