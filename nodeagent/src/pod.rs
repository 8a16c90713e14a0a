//! One pod on this node: what it should be (plan), what its init says (state), and the steps between (worker).

pub(crate) mod backoff;
pub(crate) mod config;
pub(crate) mod env;
pub(crate) mod files;
pub(crate) mod link;
pub(crate) mod plan;
pub(crate) mod probe;
pub(crate) mod report;
pub(crate) mod sandbox;
pub(crate) mod security;
pub(crate) mod sources;
pub(crate) mod status;
pub(crate) mod volume;
pub(crate) mod worker;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to completion before the next one starts.
    Init,
    /// Starts among the init containers and runs as long as the pod.
    Sidecar,
    Main,
}

/// All containers in the order they start.
pub(crate) fn containers(spec: &PodSpec) -> impl Iterator<Item = (Role, &Container)> {
    let init = spec
        .init_containers
        .iter()
        .flatten()
        .map(|container| (init_role(container), container));
    init.chain(
        spec.containers
            .iter()
            .map(|container| (Role::Main, container)),
    )
}

/// Finds a container by name.
pub(crate) fn container<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a Container> {
    containers(spec)
        .map(|(_, container)| container)
        .find(|container| container.name == name)
}

fn init_role(container: &Container) -> Role {
    match container.restart_policy.as_deref() {
        Some("Always") => Role::Sidecar,
        _ => Role::Init,
    }
}

/// Whether a container runs as a process of the host: no image, or `host`.
pub(crate) fn is_host_process(container: &Container) -> bool {
    matches!(container.image.as_deref(), None | Some("" | "host"))
}

/// A pod's namespace, name and uid, which every pod from the API has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Identity {
    /// The identity of a pod, if it has come from the API.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        Some(Self {
            namespace: pod.metadata.namespace.clone()?,
            name: pod.metadata.name.clone()?,
            uid: pod.metadata.uid.clone()?,
        })
    }
}
