//! Topology hints, as `spec.trafficDistribution` asks for them.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForNode, ForZone};

use crate::controllers::well_known::HINTS_ANNOTATIONS;

/// Whom an endpoint prefers to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distribution {
    Anywhere,
    SameZone,
    SameNode,
    /// See [`super::proportion`].
    Proportional,
}

impl Distribution {
    pub(super) fn of(service: &Service) -> Distribution {
        if is_proportional(service) {
            return Distribution::Proportional;
        }
        let spec = service.spec.as_ref();
        match spec.and_then(|spec| spec.traffic_distribution.as_deref()) {
            Some("PreferClose" | "PreferSameZone") => Distribution::SameZone,
            Some("PreferSameNode") => Distribution::SameNode,
            Some(_) | None => Distribution::Anywhere,
        }
    }
}

/// Says whether an annotation asks for hints in proportion to the zones, which no `trafficDistribution` overrules.
pub(super) fn is_proportional(service: &Service) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    let asked = annotations.and_then(|all| HINTS_ANNOTATIONS.iter().find_map(|key| all.get(*key)));
    matches!(asked.map(String::as_str), Some("Auto" | "auto"))
}

/// The hints of one endpoint; only ready endpoints have any.
pub(super) fn hints(endpoint: &Endpoint, distribution: Distribution) -> Option<EndpointHints> {
    let ready = endpoint
        .conditions
        .as_ref()
        .and_then(|conditions| conditions.ready);
    let is_own = matches!(
        distribution,
        Distribution::SameZone | Distribution::SameNode
    );
    if !is_own || ready == Some(false) {
        return None;
    }
    let for_zones = endpoint
        .zone
        .iter()
        .map(|name| ForZone { name: name.clone() });
    let for_zones: Vec<ForZone> = for_zones.collect();
    let for_nodes: Vec<ForNode> = match distribution {
        Distribution::SameNode => {
            let name = endpoint.node_name.iter();
            name.map(|name| ForNode { name: name.clone() }).collect()
        }
        Distribution::SameZone | Distribution::Anywhere | Distribution::Proportional => Vec::new(),
    };
    if for_zones.is_empty() && for_nodes.is_empty() {
        return None;
    }
    Some(EndpointHints {
        for_nodes: Some(for_nodes).filter(|nodes| !nodes.is_empty()),
        for_zones: Some(for_zones).filter(|zones| !zones.is_empty()),
    })
}
