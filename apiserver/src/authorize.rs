//! What a user may do: Roles, ClusterRoles and their bindings, compiled once for every change of them.

mod escalation;
mod graph;
mod node;
mod policy;
mod rule;

#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};

use knarr_api::{
    kind::Kind,
    kinds::rbac::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING},
};
use serde_json::Value;

use self::{graph::Graph, policy::Policy, rule::Rule};
use crate::{
    User,
    storage::{Revision, Store},
};

/// What a request is about to do, in the words of RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    Resource {
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        /// Empty for the object itself.
        subresource: &'a str,
        /// Empty for cluster-scoped kinds and for all namespaces.
        namespace: &'a str,
        /// Empty where the request names no object.
        name: &'a str,
        /// Of a list or a watch, as it was sent.
        field_selector: &'a str,
    },
    Path {
        verb: &'a str,
        path: &'a str,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    /// The reason is empty where there is no more to say than that nothing allows it.
    Denied {
        reason: String,
    },
}

/// The group that nothing is forbidden to, whatever the roles say.
pub(crate) const MASTERS: &str = "system:masters";

/// The kinds that decide; a change of any makes a new policy.
static KINDS: [&Kind; 4] = [&ROLE, &ROLE_BINDING, &CLUSTER_ROLE, &CLUSTER_ROLE_BINDING];

/// Judges by what the store holds.
pub struct Authorizer {
    store: Store,
    graph: Graph,
    compiled: RwLock<(Revisions, Arc<Policy>)>,
}

type Revisions = [Revision; KINDS.len()];

impl Authorizer {
    pub fn new(store: Store) -> Self {
        let compiled = RwLock::new(compile(&store));
        Authorizer {
            graph: Graph::new(store.clone()),
            store,
            compiled,
        }
    }

    pub fn authorize(&self, user: &User, action: &Action<'_>) -> Decision {
        if user.groups.iter().any(|group| group == MASTERS) {
            return Decision::Allowed;
        }
        let refused = match user.node_name() {
            Some(node) => node::decide(&self.graph, node, action),
            None => Err(String::new()),
        };
        let Err(reason) = refused else {
            return Decision::Allowed;
        };
        if self.policy().allows(user, action) {
            Decision::Allowed
        } else {
            Decision::Denied { reason }
        }
    }

    /// Why a role allows what it allows; empty where it is no role that does.
    pub(crate) fn reason(&self, user: &User, action: &Action<'_>) -> String {
        if user.groups.iter().any(|group| group == MASTERS) {
            return String::new();
        }
        self.policy().reason(user, action).unwrap_or_default()
    }

    /// The rules of the user's roles in a namespace: those about objects, and those about paths.
    pub(crate) fn rules(&self, user: &User, namespace: &str) -> (Vec<Value>, Vec<Value>) {
        let policy = self.policy();
        let (paths, objects): (Vec<&Rule>, Vec<&Rule>) = policy
            .rules(user, namespace)
            .partition(|rule| rule.is_about_paths());
        let shown = |rules: Vec<&Rule>| rules.into_iter().map(Rule::to_value).collect();
        (shown(objects), shown(paths))
    }

    fn policy(&self) -> Arc<Policy> {
        {
            let compiled = self.compiled.read().unwrap_or_else(PoisonError::into_inner);
            if compiled.0 == revisions(&self.store) {
                return compiled.1.clone();
            }
        }
        let compiled = compile(&self.store);
        let policy = compiled.1.clone();
        *self
            .compiled
            .write()
            .unwrap_or_else(PoisonError::into_inner) = compiled;
        policy
    }
}

/// Revisions are read first: a change in between makes the policy newer than they say, never older.
fn compile(store: &Store) -> (Revisions, Arc<Policy>) {
    (revisions(store), Arc::new(Policy::compile(store)))
}

fn revisions(store: &Store) -> Revisions {
    KINDS.map(|kind| store.kind_revision(kind))
}

/// The value that a field selector demands of `field`.
pub(crate) fn exact_field<'a>(selector: &'a str, field: &str) -> Option<&'a str> {
    selector.split(',').find_map(|requirement| {
        let rest = requirement.strip_prefix(field)?;
        rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))
    })
}
