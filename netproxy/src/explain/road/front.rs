//! What a packet from outside meets at a front, and where it comes out. Judges; asks nobody.

use std::{collections::BTreeSet, net::SocketAddr};

use knarr_netproxy_plan::{Family, Plan, Protocol, Snapshot, plan, plan_front};

use super::{Departure, Step, Surroundings, Walk, cause, place::Place, step};
use crate::{
    explain::{
        Cause,
        announcer::{Front, lot_lines, lots_at, stranded},
        cause as of_service,
        kernel::shortened,
        packets::{Met, meet},
        pods::Pods,
    },
    nftables::{
        Ruleset,
        trace::{Machine, Packet},
    },
};

/// Where a packet leaves the front for: a node, and the node port there.
pub(super) struct Exit {
    pub(super) node: String,
    pub(super) to: SocketAddr,
}

/// A packet before the front.
pub(super) struct Arrival<'a> {
    pub(super) around: &'a Surroundings,
    pub(super) departure: &'a Departure,
    pub(super) packet: Packet,
    pub(super) protocol: Protocol,
}

/// Takes a packet through the front that announces its destination; nothing where none does.
pub(super) fn pass(arrival: &Arrival<'_>, steps: &mut Vec<Step>) -> Result<Option<Exit>, Cause> {
    let Arrival {
        around,
        departure,
        packet,
        protocol,
    } = arrival;
    let front = around.front.as_ref().filter(|front| front.announces());
    let Some(front) = front.filter(|_| departure.node.is_none()) else {
        return Ok(None);
    };
    let plan = plan_front(&front.snapshot(&around.services)).packets;
    if !plan
        .load_balancer_ips
        .contains_key(&packet.destination.ip())
    {
        return Ok(None);
    }
    let place = Place::of(&plan, packet.destination, *protocol);
    let family = Family::of(&packet.destination.ip());
    let observation = front.kernel.observation();
    let machine = Machine {
        remembered: observation.map_or_else(BTreeSet::new, |observed| observed.remembered()),
        ..Machine::default()
    };
    let planned = meet(&Ruleset::of(&plan, family), &machine, *packet);
    let found = observation.map(|observed| meet(&observed.table(family), &machine, *packet));
    let name = &front.name;
    let mut lines = vec![match (&found, front.kernel.why_unread()) {
        (None, Some(why)) => format!("{name} announces it; as planned: {why}"),
        (None, None) | (Some(_), _) => format!("{name} announces it; as read from its kernel"),
    }];
    let lots = lots_at(front, &around.services, &place.key());
    lines.extend(shortened(lot_lines(&place.key(), &lots), "nodes"));
    let met = found.as_ref().unwrap_or(&planned);
    lines.push(format!("{} is {met}", place.key()));
    steps.push(step("front", lines));
    if *met != planned {
        return Err(cause(
            format!(
                "the rules of front {name} are not as planned: {} is {met}, and should be {planned}",
                place.key()
            ),
            "see whether `knarr front` runs there; it repairs its rules by itself",
        ));
    }
    match met {
        Met::Answered { by } => exit(by, around).map(Some),
        Met::Refused | Met::Dropped | Met::Untouched => {
            Err(obstacle(arrival, front, &plan, &place))
        }
    }
}

/// The one of the chosen nodes to look at: this machine, if it is among them.
fn exit(by: &BTreeSet<SocketAddr>, around: &Surroundings) -> Result<Exit, Cause> {
    let exits = by.iter().filter_map(|to| {
        let mut nodes = around.nodes.values();
        let node = nodes.find(|node| node.node_ips.contains(&to.ip()))?;
        Some(Exit {
            node: node.node_name.clone(),
            to: *to,
        })
    });
    let mut exits: Vec<Exit> = exits.collect();
    exits.sort_by_key(|exit| exit.node != around.here);
    exits.into_iter().next().ok_or_else(|| {
        cause(
            "the front sends to nodes that the API does not know",
            "see `knarr get nodes`",
        )
    })
}

/// Why nobody gets the packet.
fn obstacle(arrival: &Arrival<'_>, front: &Front, plan: &Plan, place: &Place) -> Cause {
    let Arrival {
        around,
        departure,
        packet,
        ..
    } = arrival;
    let key = place.key();
    let Some(frontend) = place.frontend(plan) else {
        let owner = place
            .owner(plan)
            .map_or_else(String::new, |owner| owner.to_string());
        return cause(
            format!("{owner} has no port {}/{}", key.port, key.protocol),
            format!("its ports there are {}", place.ports(plan).join(", ")),
        );
    };
    let source = packet.source.ip();
    let allowed = frontend.allowed_sources.as_ref();
    if allowed.is_some_and(|allowed| !allowed.iter().any(|range| range.contains(&source))) {
        let from = &departure.name;
        return cause(
            format!(
                "{key} is dropped from {from}: loadBalancerSourceRanges does not hold {source}"
            ),
            "add the client's range to spec.loadBalancerSourceRanges",
        );
    }
    let of_service = service_cause(arrival, &frontend.service_port.service);
    let of_front = || stranded(front, &key, &lots_at(front, &around.services, &key));
    of_service.or_else(of_front).unwrap_or_else(|| {
        cause(
            format!("front {} does not answer {key}", front.name),
            "see whether `knarr front` runs there",
        )
    })
}

/// What is wrong with the Service itself, whichever way its packets take.
fn service_cause(arrival: &Arrival<'_>, key: &knarr_netproxy_plan::ServiceKey) -> Option<Cause> {
    let Arrival {
        around,
        departure,
        packet,
        ..
    } = arrival;
    let (node, settings) = around.nodes.first_key_value()?;
    let services = around.services.get(key)?;
    let snapshot = Snapshot {
        settings: settings.clone(),
        services: [(key.clone(), services.clone())].into(),
    };
    let (plan, _) = plan(&snapshot);
    let walk = Walk {
        around,
        departure,
        node,
        settings,
        plan: &plan,
        packet: *packet,
    };
    let facts = walk.facts(key)?;
    of_service::find(&facts, &plan, &Pods::of(&facts.service, &facts.pods), &[])
}
