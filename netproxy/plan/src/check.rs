//! A plan's linter: one small function per invariant.

use std::{collections::BTreeSet, fmt, net::SocketAddr};

use crate::{
    frontend::{Answer, FrontendKind, Plan, Policy},
    key::{Address, Family},
};

/// An invariant that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flaw {
    /// The invariant, as a claim.
    pub invariant: &'static str,
    /// Where it is broken.
    pub place: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.invariant)
    }
}

/// Every broken invariant of a plan; none, if the planner is right.
#[must_use]
pub fn check(plan: &Plan) -> Vec<Flaw> {
    let rules: [(&'static str, Invariant); 11] = [
        (
            "backends are neither empty nor doubled",
            backends_are_sorted,
        ),
        ("backends have the family of their frontend", families_agree),
        ("no backend is a cluster IP", no_backend_is_a_cluster_ip),
        ("ports are not zero", ports_are_not_zero),
        (
            "a cluster IP frontend's address is listed",
            cluster_ips_are_listed,
        ),
        (
            "only a node port's frontend is the node",
            node_ports_are_on_nodes,
        ),
        (
            "only load-balancer IPs restrict sources",
            only_load_balancers_restrict_sources,
        ),
        (
            "source ranges have the family of their frontend, and exclude somebody",
            source_ranges_restrict,
        ),
        (
            "from outside, only policy Local of an outer address differs",
            outside_is_local,
        ),
        (
            "a backend may keep the flows it gets",
            backends_keep_their_flows,
        ),
        ("affinity covers every backend", affinity_covers_backends),
    ];
    let mut flaws: Vec<Flaw> = rules
        .iter()
        .flat_map(|(invariant, broken)| {
            broken(plan)
                .into_iter()
                .map(|place| Flaw { invariant, place })
        })
        .collect();
    flaws.sort();
    flaws
}

type Invariant = fn(&Plan) -> Vec<String>;

fn each_backend(plan: &Plan, broken: impl Fn(Family, &SocketAddr) -> bool) -> Vec<String> {
    let mut places = Vec::new();
    for (key, frontend) in &plan.frontends {
        for answer in frontend.answers() {
            let Answer::Backends { backends, .. } = answer else {
                continue;
            };
            let bad = backends
                .iter()
                .filter(|backend| broken(key.address.family(), backend));
            places.extend(bad.map(|backend| format!("{key} -> {backend}")));
        }
    }
    places
}

fn frontends(plan: &Plan, broken: impl Fn(&Address, FrontendKind, u16) -> bool) -> Vec<String> {
    let bad = plan.frontends.iter();
    bad.filter(|(key, frontend)| broken(&key.address, frontend.kind, key.port))
        .map(|(key, _)| key.to_string())
        .collect()
}

fn backends_are_sorted(plan: &Plan) -> Vec<String> {
    let answers = plan
        .frontends
        .iter()
        .flat_map(|(key, frontend)| frontend.answers().map(move |a| (key, a)));
    answers
        .filter(|(_, answer)| match answer {
            Answer::Backends { backends, .. } => {
                backends.is_empty() || !backends.is_sorted_by(|a, b| a < b)
            }
            Answer::Reject | Answer::Drop => false,
        })
        .map(|(key, _)| key.to_string())
        .collect()
}

fn families_agree(plan: &Plan) -> Vec<String> {
    each_backend(plan, |family, backend| Family::of(&backend.ip()) != family)
}

fn no_backend_is_a_cluster_ip(plan: &Plan) -> Vec<String> {
    each_backend(plan, |_, backend| {
        plan.cluster_ips.contains_key(&backend.ip())
    })
}

fn ports_are_not_zero(plan: &Plan) -> Vec<String> {
    let mut places = frontends(plan, |_, _, port| port == 0);
    places.extend(each_backend(plan, |_, backend| backend.port() == 0));
    places
}

fn cluster_ips_are_listed(plan: &Plan) -> Vec<String> {
    frontends(plan, |address, kind, _| match (address, kind) {
        (Address::Ip(address), FrontendKind::ClusterIp) => !plan.cluster_ips.contains_key(address),
        _ => false,
    })
}

fn node_ports_are_on_nodes(plan: &Plan) -> Vec<String> {
    frontends(plan, |address, kind, _| {
        matches!(address, Address::Node(_)) != (kind == FrontendKind::NodePort)
    })
}

fn only_load_balancers_restrict_sources(plan: &Plan) -> Vec<String> {
    let restricted = plan.frontends.iter().filter(|(_, frontend)| {
        frontend.allowed_sources.is_some() && frontend.kind != FrontendKind::LoadBalancerIp
    });
    restricted.map(|(key, _)| key.to_string()).collect()
}

fn source_ranges_restrict(plan: &Plan) -> Vec<String> {
    let pointless = plan.frontends.iter().filter(|(key, frontend)| {
        let mut ranges = frontend.allowed_sources.iter().flat_map(|all| all.iter());
        ranges.any(|range| {
            range.prefix_len() == 0 || Family::of(&range.addr()) != key.address.family()
        })
    });
    pointless.map(|(key, _)| key.to_string()).collect()
}

fn outside_is_local(plan: &Plan) -> Vec<String> {
    let wrong = plan.frontends.iter().filter(|(_, frontend)| {
        let inside_is_cluster = !matches!(
            frontend.answer,
            Answer::Drop
                | Answer::Backends {
                    policy: Policy::Local,
                    ..
                }
        );
        match &frontend.from_outside {
            None => frontend.kind != FrontendKind::ClusterIp && !inside_is_cluster,
            Some(answer) => {
                let local = match answer {
                    Answer::Backends { policy, .. } => *policy == Policy::Local,
                    Answer::Drop => true,
                    Answer::Reject => false,
                };
                let inside_answers = matches!(frontend.answer, Answer::Backends { .. });
                frontend.kind == FrontendKind::ClusterIp
                    || !inside_is_cluster
                    || !inside_answers
                    || !local
            }
        }
    });
    wrong.map(|(key, _)| key.to_string()).collect()
}

fn backends_keep_their_flows(plan: &Plan) -> Vec<String> {
    let cut = plan.frontends.iter().filter(|(_, frontend)| {
        frontend.answers().any(|answer| match answer {
            Answer::Backends { backends, .. } => backends
                .iter()
                .any(|backend| !frontend.serving.contains(backend)),
            Answer::Reject | Answer::Drop => false,
        })
    });
    cut.map(|(key, _)| key.to_string()).collect()
}

fn affinity_covers_backends(plan: &Plan) -> Vec<String> {
    let mut known: BTreeSet<(String, SocketAddr)> = BTreeSet::new();
    for (key, affinity) in &plan.affinities {
        let all = affinity.cluster.iter().chain(affinity.local.iter());
        known.extend(all.map(|backend| (key.service_port.to_string(), *backend)));
    }
    let mut places = Vec::new();
    for (key, frontend) in &plan.frontends {
        if frontend.affinity_seconds.is_none() {
            continue;
        }
        for answer in frontend.answers() {
            let Answer::Backends { backends, .. } = answer else {
                continue;
            };
            let port = frontend.service_port.to_string();
            let missing = backends
                .iter()
                .any(|backend| !known.contains(&(port.clone(), *backend)));
            if missing {
                places.push(key.to_string());
            }
        }
    }
    places
}
