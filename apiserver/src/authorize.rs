//! What a user may do: Roles, ClusterRoles and their bindings, compiled once for every change of them.

mod policy;
mod rule;

#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};

use knarr_api::kinds::{
    Kind,
    rbac::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING},
};

use self::policy::Policy;
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
    },
    Path {
        verb: &'a str,
        path: &'a str,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    Denied,
}

/// The group that nothing is forbidden to, whatever the roles say.
const MASTERS: &str = "system:masters";

/// The kinds that decide; a change of any makes a new policy.
static KINDS: [&Kind; 4] = [&ROLE, &ROLE_BINDING, &CLUSTER_ROLE, &CLUSTER_ROLE_BINDING];

/// Judges by what the store holds.
pub struct Authorizer {
    store: Store,
    compiled: RwLock<(Revisions, Arc<Policy>)>,
}

type Revisions = [Revision; KINDS.len()];

impl Authorizer {
    pub fn new(store: Store) -> Self {
        let compiled = RwLock::new(compile(&store));
        Authorizer { store, compiled }
    }

    pub fn authorize(&self, user: &User, action: &Action<'_>) -> Decision {
        if user.groups.iter().any(|group| group == MASTERS) {
            return Decision::Allowed;
        }
        self.policy().decide(user, action)
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
