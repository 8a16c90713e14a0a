//! The registry: one row a kind, holding everything that generic code needs to serve it.
//!
//! A kind's rows, defaults, validation and columns live in the file named after it; nothing outside this folder matches on kinds.

pub mod checks;
pub mod configmap;
pub mod controllerrevision;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod endpoints;
pub mod endpointslice;
pub mod event;
pub mod internal;
pub mod job;
pub mod lease;
pub mod namespace;
pub mod networking;
pub mod node;
pub mod pod;
pub mod rbac;
pub mod replicaset;
pub mod rollout;
pub mod scale;
pub mod secret;
pub mod service;
pub mod serviceaccount;
pub mod statefulset;
pub mod template;

use crate::kind::Kind;

/// Every kind served, in discovery order: groups as Kubernetes ranks them, within a group by plural.
pub static ALL: &[&Kind] = &[
    &configmap::CONFIG_MAP,
    &endpoints::ENDPOINTS,
    &event::EVENT,
    &namespace::NAMESPACE,
    &node::NODE,
    &pod::POD,
    &secret::SECRET,
    &serviceaccount::SERVICE_ACCOUNT,
    &service::SERVICE,
    &controllerrevision::CONTROLLER_REVISION,
    &daemonset::DAEMON_SET,
    &deployment::DEPLOYMENT,
    &replicaset::REPLICA_SET,
    &statefulset::STATEFUL_SET,
    &event::EVENTS_V1,
    &cronjob::CRON_JOB,
    &job::JOB,
    &networking::IP_ADDRESS,
    &networking::SERVICE_CIDR,
    &rbac::CLUSTER_ROLE_BINDING,
    &rbac::CLUSTER_ROLE,
    &rbac::ROLE_BINDING,
    &rbac::ROLE,
    &lease::LEASE,
    &endpointslice::ENDPOINT_SLICE,
];

/// Finds a kind by its path segments, e.g. `("apps", "v1", "deployments")`.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    ALL.iter()
        .copied()
        .find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// Finds a kind by what an object says of itself, e.g. `("apps", "v1", "Deployment")`.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    ALL.iter()
        .copied()
        .find(|k| k.group == group && k.version == version && k.kind == kind)
}

#[cfg(test)]
mod tests;
