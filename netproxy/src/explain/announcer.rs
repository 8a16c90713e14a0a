//! Who answers the link at a load-balancer IP: a front, or the node that ranks first. Asks nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use knarr_netproxy_plan::{
    Address, Announced, FrontNode, FrontSnapshot, FrontendKey, Lot, Plan, ServiceKey, front_checks,
    front_lots,
};

use super::{Cause, Facts, Kernel};
use crate::announce;

/// Nodes that stand in for the first.
const UNDERSTUDIES_MAX: usize = 2;

type Services = BTreeMap<ServiceKey, (Arc<Service>, Vec<Arc<EndpointSlice>>)>;

/// The front that holds the fronts' Lease.
#[derive(Debug)]
pub struct Front {
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub renewal: Renewal,
    /// Nodes as it sees them.
    pub nodes: BTreeMap<String, FrontNode>,
    /// Health checks that answered well, asked from this machine.
    pub passing: BTreeSet<SocketAddr>,
    /// What its kernel has.
    pub kernel: Kernel,
}

/// Whether a front renews its Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It does, so no node announces.
    Renewed,
    /// It does not, so nodes take its place.
    Lapsed,
}

impl Front {
    /// The name in a holder's identity, which ends with what tells two machines of one name apart.
    #[must_use]
    pub fn name_of(identity: &str) -> &str {
        identity.rsplit_once('_').map_or(identity, |(name, _)| name)
    }

    /// The health checks that say where it sends the connections of these Services.
    #[must_use]
    pub fn checks(&self, services: &Services) -> BTreeSet<SocketAddr> {
        front_checks(&self.snapshot(services))
    }

    /// What it plans from, as far as that can be known from elsewhere.
    pub(super) fn snapshot(&self, services: &Services) -> FrontSnapshot {
        let balances = |service: &Service| {
            let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
            kind == Some("LoadBalancer")
        };
        let services = services
            .iter()
            .filter(|(_, (service, _))| balances(service));
        FrontSnapshot {
            services: services
                .map(|(key, own)| (key.clone(), own.clone()))
                .collect(),
            nodes: self.nodes.clone(),
            passing: self.passing.clone(),
            ..FrontSnapshot::default()
        }
    }

    pub(super) fn announces(&self) -> bool {
        self.renewal == Renewal::Renewed
    }
}

/// What falls to the nodes of one frontend, a line each.
pub(super) fn lot_lines(key: &FrontendKey, lots: &[(String, Lot)]) -> Vec<String> {
    let lines = lots
        .iter()
        .map(|(node, lot)| format!("{key}: {node} {lot}"));
    lines.collect()
}

/// Who announces each load-balancer IP of a Service, and where a front sends its connections.
pub(super) fn lines(plan: &Plan, facts: &Facts) -> Vec<String> {
    let mut lines = Vec::new();
    let front = facts.front.as_ref();
    for (ip, announced) in &plan.load_balancer_ips {
        if let Some(front) = front.filter(|front| front.announces()) {
            lines.push(format!("{ip} by front {}", front.name));
            continue;
        }
        let ranked = ranked(*ip, announced, &facts.ready_nodes);
        lines.push(match ranked.as_slice() {
            [] => format!("{ip} by nobody"),
            [only] => format!("{ip} by {only}"),
            [first, others @ ..] => {
                let others: Vec<&str> = others.iter().copied().take(UNDERSTUDIES_MAX).collect();
                format!(
                    "{ip} by {first}; should it be lost, by {}",
                    others.join(" or ")
                )
            }
        });
    }
    match front {
        Some(front) if !lines.is_empty() && front.announces() => {
            let lots = front_lots(&front.snapshot(&facts.own_service()));
            lines.extend(lots.iter().flat_map(|(key, lots)| lot_lines(key, lots)));
        }
        Some(front) if !lines.is_empty() => {
            let name = &front.name;
            lines.push(format!("not by front {name}: it does not renew its Lease"));
        }
        Some(_) | None => {}
    }
    lines
}

/// Clients outside are sent nowhere.
pub(super) fn cause(plan: &Plan, facts: &Facts) -> Option<Cause> {
    let Some(front) = facts.front.as_ref().filter(|front| front.announces()) else {
        let mut ips = plan.load_balancer_ips.iter();
        let (ip, announced) =
            ips.find(|(ip, announced)| ranked(**ip, announced, &facts.ready_nodes).is_empty())?;
        return Some(unannounced(*ip, announced));
    };
    let lots = front_lots(&front.snapshot(&facts.own_service()));
    lots.iter()
        .find_map(|(key, lots)| stranded(front, key, lots))
}

fn unannounced(ip: IpAddr, announced: &Announced) -> Cause {
    let who = match announced.nodes {
        Some(_) => "externalTrafficPolicy is Local, and no ready node has a ready pod of it",
        None => "no node is ready and may announce",
    };
    Cause {
        sentence: format!("nobody announces {ip}: {who}"),
        hint: "see `knarr get nodes` and `knarr get pods -o wide`".to_owned(),
    }
}

/// A front that has no node for a frontend.
pub(super) fn stranded(front: &Front, key: &FrontendKey, lots: &[(String, Lot)]) -> Option<Cause> {
    if lots.iter().any(|(_, lot)| matches!(lot, Lot::Chosen(_))) {
        return None;
    }
    let name = &front.name;
    let Some((node, lot)) = lots.first() else {
        return Some(Cause {
            sentence: format!("front {name} has no node to send {key} to: there is none"),
            hint: "see `knarr get nodes`".to_owned(),
        });
    };
    let hint = match lot {
        Lot::NoNodePort => "a front sends to node ports: set allocateLoadBalancerNodePorts: true",
        Lot::Failing(_) => {
            "see with `knarr status` whether the netproxy runs there, and whether this port can be reached from the front"
        }
        Lot::Excluded => "remove the label from a node that should have connections",
        Lot::NoAddress(_) => {
            "give the nodes addresses of that family, or have the Service use the other"
        }
        Lot::WithoutPods => "run a pod there, or set externalTrafficPolicy: Cluster",
        Lot::Leaving | Lot::NobodyAnswers | Lot::Chosen(_) => {
            "see `knarr get nodes` and `knarr get pods -o wide`"
        }
    };
    Some(Cause {
        sentence: format!("front {name} has no node to send {key} to: {node} {lot}"),
        hint: hint.to_owned(),
    })
}

/// The nodes that may announce an IP, the best first.
pub(super) fn ranked<'a>(
    ip: IpAddr,
    announced: &Announced,
    ready_nodes: &'a BTreeSet<String>,
) -> Vec<&'a str> {
    announce::rank(ip, announced, ready_nodes.iter().map(String::as_str))
}

/// What falls to the nodes of one address and port.
pub(super) fn lots_at(front: &Front, services: &Services, key: &FrontendKey) -> Vec<(String, Lot)> {
    debug_assert!(
        matches!(key.address, Address::Ip(_)),
        "fronts have no node ports"
    );
    let mut lots = front_lots(&front.snapshot(services));
    lots.remove(key).unwrap_or_default()
}
