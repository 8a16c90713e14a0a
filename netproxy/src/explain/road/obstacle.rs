//! The likely cause why a packet does not arrive: the first thing that is in its way.

use std::{collections::BTreeSet, net::SocketAddr};

use knarr_netproxy_plan::{Address, Family, FrontendKind, Plan, Snapshot, plan};

use super::{
    Walk, cause,
    place::{self, Place},
};
use crate::{
    explain::{
        Cause, cause as of_service,
        packets::{Asked, Met},
        pods::{Fitness, Pods},
    },
    nftables::{trace::Origin, wire::Point},
};

/// What rules, or the lack of them, do to the packet.
pub(super) fn rules(walk: &Walk<'_>, place: &Place, asked: &Asked) -> Result<(), Cause> {
    if *asked.met() != asked.planned {
        return Err(cause(
            format!(
                "the kernel's rules are not as planned: {} from {} is {}, and should be {}",
                asked.frontend,
                asked.from,
                asked.met(),
                asked.planned
            ),
            "see with `knarr status` whether the netproxy of this node runs; it repairs its rules by itself",
        ));
    }
    match (place.frontend(walk.plan), asked.met()) {
        (Some(_), Met::Answered { .. }) => Ok(()),
        (Some(frontend), met) => {
            let restricted = frontend.allowed_sources.is_some();
            if restricted && *met == Met::Dropped {
                return Err(restriction(walk, asked));
            }
            let key = &frontend.service_port.service;
            let found = walk.facts(key).and_then(|facts| {
                let snapshot = Snapshot {
                    settings: facts.settings.clone(),
                    services: [(
                        key.as_ref().clone(),
                        (facts.service.clone(), facts.slices.clone()),
                    )]
                    .into(),
                };
                let (own, _) = plan(&snapshot);
                let pods = Pods::of(&facts.service, &facts.pods);
                of_service::find(&facts, &own, &pods, std::slice::from_ref(asked))
            });
            found.map_or(Ok(()), Err)
        }
        (None, _) => nobody(walk, place),
    }
}

fn restriction(walk: &Walk<'_>, asked: &Asked) -> Cause {
    cause(
        format!(
            "{} is dropped from {}: loadBalancerSourceRanges does not hold {}",
            asked.frontend,
            asked.from,
            walk.packet.source.ip()
        ),
        "add the client's range to spec.loadBalancerSourceRanges",
    )
}

/// No Service has this address and port.
fn nobody(walk: &Walk<'_>, place: &Place) -> Result<(), Cause> {
    let ip = place.to.ip();
    let port = format!("{}/{}", place.to.port(), place.key().protocol);
    if let Some(owner) = place.owner(walk.plan) {
        return Err(cause(
            format!("{owner} has no port {port}"),
            format!("its ports there are {}", place.ports(walk.plan).join(", ")),
        ));
    }
    if walk
        .plan
        .ranges
        .service_cidrs
        .iter()
        .any(|range| range.contains(&ip))
    {
        return Err(cause(
            format!("{ip} is in the range of Services, and no Service has it"),
            "`knarr get services -A` lists the cluster IPs",
        ));
    }
    let mut nodes = walk.around.nodes.values();
    if nodes.any(|node| node.node_ips.contains(&ip)) {
        return not_a_node_port(walk.plan, place, &port);
    }
    let pod_range = walk
        .plan
        .ranges
        .cluster_cidrs
        .iter()
        .any(|range| range.contains(&ip));
    match place::pod_at(ip, walk.around) {
        None if pod_range => Err(cause(
            format!("{ip} is in the range of pods, and no pod has it"),
            "ask for a Service's name or address: pods come and go",
        )),
        Some(pod) if matches!(Fitness::of(pod), Fitness::Ended | Fitness::NotStarted(_)) => {
            Err(cause(
                format!("the pod at {ip} is {}", Fitness::of(pod)),
                "look at `kubectl describe pod`",
            ))
        }
        Some(_) | None => Ok(()),
    }
}

/// A node's own processes may answer where no Service does.
fn not_a_node_port(plan: &Plan, place: &Place, port: &str) -> Result<(), Cause> {
    let family = Family::of(&place.to.ip());
    let key = knarr_netproxy_plan::FrontendKey {
        address: Address::Node(family),
        ..place.key()
    };
    if let Some(frontend) = plan.frontends.get(&key) {
        let ranges = &plan.ranges.node_port_addresses;
        let accepting: Vec<String> = ranges
            .iter()
            .map(|range| range.addr().to_string())
            .collect();
        return Err(cause(
            format!(
                "node port {port} of {} is not answered on {}",
                frontend.service_port.service,
                place.to.ip()
            ),
            format!("ask for {}", accepting.join(" or ")),
        ));
    }
    let node_ports: Vec<String> = plan
        .frontends
        .iter()
        .filter(|(key, frontend)| {
            frontend.kind == FrontendKind::NodePort && key.address.family() == family
        })
        .map(|(key, frontend)| {
            format!(
                "{}/{} of {}",
                key.port, key.protocol, frontend.service_port.service
            )
        })
        .take(5)
        .collect();
    Err(cause(
        format!("no Service has node port {port}; only a process of the node itself could answer"),
        if node_ports.is_empty() {
            "no Service has any node port".to_owned()
        } else {
            format!("there is {}", node_ports.join(", "))
        },
    ))
}

/// Where a packet that comes from somewhere has to pass.
pub(super) fn point(origin: Origin) -> Point {
    match origin {
        Origin::Arrives => Point::Forward,
        Origin::Own => Point::Output,
    }
}

/// Everybody who could answer refuses.
pub(super) fn refusal(
    ends: &BTreeSet<SocketAddr>,
    refusing: &BTreeSet<SocketAddr>,
) -> Option<Cause> {
    let first = ends.intersection(refusing).next()?;
    Some(cause(
        format!("packets arrive, and {first} refuses the connection: nothing listens there"),
        "set targetPort to the port that the process in the pod listens on, on all its addresses",
    ))
}
