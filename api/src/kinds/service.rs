//! Service: a stable address for a changing set of pods. Knows no allocator: what is free is the API server's to say.
//!
//! A write goes through these steps, in Kubernetes' order; whatever fails first is answered alone.
//!
//! Create:
//! 1. `strategy.default`
//! 2. [`normalise_cluster_ips`], then [`normalise_families`]: 422 with its errors, nothing else is looked at
//! 3. allocation, where [`needs_cluster_ip`], [`allocates_node_ports`] (or a port asks for a number) and
//!    [`needs_health_check_port`] say so: 422 or 500 with its one error
//! 4. [`Kind::prepare_create`], [`Kind::validate_create`]: 422 with all errors; allocations are given back
//!
//! Update (PUT, PATCH, apply of an existing Service):
//! 1. `strategy.default`
//! 2. [`patch_allocated_values`]: what the client left out is taken from the stored Service
//! 3. [`normalise_cluster_ips`], then [`normalise_families`]
//! 4. allocation of what is new: a cluster IP when the type was `ExternalName` or a family was added, node ports and the
//!    health check port when they are needed and were not
//! 5. [`Kind::prepare_update`] drops what the new type has no use for, [`Kind::validate_update`]
//! 6. after the commit, release of what only the stored Service has

mod columns;
mod defaults;
mod families;
mod status;
mod transitions;
mod update;
mod validation;
mod warnings;

use serde_json::Value;

pub use families::{Families, normalise_cluster_ips, normalise_families};
pub use transitions::patch_allocated_values;
pub(super) use validation::validate_protocol;

use crate::{
    kind::{Hidden, Kind, Strategy, Subresource},
    names,
    value::{items, str_of, texts},
};

pub static SERVICE: Kind = Kind {
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[
        Subresource::proxy("ServiceProxyOptions"),
        Subresource::STATUS,
    ],
    strategy: Strategy {
        validate_name: names::dns1123_label,
        default: defaults::default,
        prepare_create: transitions::prepare_create,
        validate_create: |service| validation::validate(service, None),
        prepare_update: transitions::prepare_update,
        validate_update: update::validate,
        prepare_status: status::prepare,
        validate_status: status::validate,
        warnings: |service, _| warnings::of(service),
        status_warnings: status::warnings,
        create_on_update: true,
        returns_deleted_object: true,
        ..Strategy::BASE
    },
    columns: columns::COLUMNS,
    cells: columns::cells,
    selectable: &[
        ("spec.clusterIP", |service| {
            str_of(&service["spec"]["clusterIP"]).to_owned()
        }),
        ("spec.type", |service| kind_of(service).to_owned()),
    ],
    hidden: Some(Hidden {
        marker: r#""type":"ExternalName""#,
        hide: transitions::hide_unused_traffic_policy,
    }),
    ..Kind::BASE
};

/// The class of Services whose load balancer is knarr's; so is every Service without a class.
pub const LOAD_BALANCER_CLASS: &str = "knarr.io/load-balancer";

/// What `clusterIP` says when a Service wants no address.
pub const HEADLESS: &str = "None";

/// Whether the Service has a cluster IP, or `None` in its place: all but `ExternalName`.
pub fn needs_cluster_ip(service: &Value) -> bool {
    kind_of(service) != "ExternalName"
}

/// Whether the Service is reached through node ports.
pub fn needs_node_ports(service: &Value) -> bool {
    matches!(kind_of(service), "NodePort" | "LoadBalancer")
}

/// Whether ports that ask for no node port are given one.
pub fn allocates_node_ports(service: &Value) -> bool {
    let declined = service["spec"]["allocateLoadBalancerNodePorts"] == Value::Bool(false);
    match kind_of(service) {
        "NodePort" => true,
        "LoadBalancer" => !declined,
        _ => false,
    }
}

/// Whether load balancers ask each node, on a port of its own, if it has endpoints.
pub fn needs_health_check_port(service: &Value) -> bool {
    kind_of(service) == "LoadBalancer" && service["spec"]["externalTrafficPolicy"] == "Local"
}

/// Whether the Service has no address of its own.
pub fn is_headless(service: &Value) -> bool {
    texts(&service["spec"]["clusterIPs"]) == [HEADLESS]
}

fn is_externally_accessible(service: &Value) -> bool {
    match kind_of(service) {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !items(&service["spec"]["externalIPs"]).is_empty(),
        _ => false,
    }
}

fn kind_of(service: &Value) -> &str {
    str_of(&service["spec"]["type"])
}

#[cfg(test)]
mod tests;
