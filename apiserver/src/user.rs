//! Who somebody is, once that is known.

use std::collections::BTreeMap;

/// An authenticated identity; a request extension.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The group of everybody whose credentials were good.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody who gave no credentials.
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group of node agents.
pub(crate) const NODES: &str = "system:nodes";
/// The group of load-balancer fronts.
pub(crate) const FRONTS: &str = "knarr:fronts";
const NODE_PREFIX: &str = "system:node:";

impl User {
    /// What requests without credentials are, where those are let in.
    pub fn anonymous() -> Self {
        User {
            name: "system:anonymous".into(),
            groups: vec![UNAUTHENTICATED.into()],
            ..User::default()
        }
    }

    /// An authenticated user in `groups`, and in `system:authenticated` as all are.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|&g| g.to_owned()).collect();
        groups.push(AUTHENTICATED.into());
        User {
            name: name.into(),
            groups,
            ..User::default()
        }
    }

    /// The agent of a node.
    pub fn node(name: &str) -> Self {
        User::new(format!("{NODE_PREFIX}{name}"), &[NODES])
    }

    /// The name of the node whose agent this is.
    pub(crate) fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix(NODE_PREFIX)?;
        let is_agent = !name.is_empty() && self.groups.iter().any(|group| group == NODES);
        is_agent.then_some(name)
    }
}
