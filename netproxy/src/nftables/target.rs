//! Chains that elements lead to: one per number of backends and one per treatment before it, shared by all
//! Services, and those of service ports with affinity.

use std::net::SocketAddr;

use knarr_netproxy_plan::{
    Affinity, AffinityKey, Answer, Family, Frontend, FrontendKind, Masquerade, Policy, PortKey,
};

use super::{
    Name, Verdict,
    chain::{Chain, Rule},
    expression::{Comparison, Presence, Side},
    set::Set,
    statement::{FRONTEND, Field, Statement},
};

/// A chain that an element leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    sources: Sources,
    /// Where connections from outside are led elsewhere: with what the keys of those ways start.
    outside: Option<KeyStarts>,
    masks: Masks,
    pick: Pick,
}

/// Who is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sources {
    All,
    /// Those in the frontend's ranges.
    Allowed,
}

/// Whose address the backend will see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Masks {
    /// The client's.
    Nobody,
    /// This node's.
    Everybody,
    /// The client's, unless the client is this node.
    Node,
    /// The client's, if the client is a pod.
    Outside,
}

/// How a backend is chosen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pick {
    /// At random, among so many in a map.
    Slot {
        map: &'static str,
        key_starts: KeyStarts,
        count: usize,
        prefix: &'static str,
    },
    /// The client's own backend, or else at random: a chain of its own.
    Affinity(Name),
}

/// With what a key of a backend map starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum KeyStarts {
    WithAddress,
    WithProtocol,
}

impl Target {
    /// Where a frontend's answer leads, if it leads anywhere.
    #[must_use]
    pub fn of(frontend: &Frontend, answer: &Answer, way: Policy) -> Option<Self> {
        let Answer::Backends { policy, backends } = answer else {
            return None;
        };
        let masks = match (frontend.masquerade, way) {
            (Masquerade::OutsideSources, _) => Masks::Outside,
            (Masquerade::NodeSources | Masquerade::NearSources, Policy::Local) => Masks::Nobody,
            (Masquerade::Always, _) | (Masquerade::NearSources, Policy::Cluster) => {
                Masks::Everybody
            }
            (Masquerade::NodeSources, Policy::Cluster) => Masks::Node,
        };
        let node_port = frontend.kind == FrontendKind::NodePort;
        let key_starts = if node_port {
            KeyStarts::WithProtocol
        } else {
            KeyStarts::WithAddress
        };
        let restricted = frontend.allowed_sources.is_some();
        let (sources, outside) = match way {
            Policy::Cluster => (
                if restricted {
                    Sources::Allowed
                } else {
                    Sources::All
                },
                frontend.from_outside.as_ref().map(|_| key_starts),
            ),
            // Whoever comes this way was let in and is from outside.
            Policy::Local => (Sources::All, None),
        };
        let pick = if frontend.affinity_seconds.is_some() {
            Pick::Affinity(service_chain(&frontend.service_port, *policy))
        } else {
            let (map, prefix) = match (node_port, way) {
                (false, Policy::Cluster) => ("backends", "pick"),
                (false, Policy::Local) => ("local-backends", "local-pick"),
                (true, Policy::Cluster) => ("node-port-backends", "node-port-pick"),
                (true, Policy::Local) => ("local-node-port-backends", "local-node-port-pick"),
            };
            Pick::Slot {
                map,
                key_starts,
                count: backends.len(),
                prefix,
            }
        };
        Some(Self {
            sources,
            outside,
            masks,
            pick,
        })
    }

    /// Whether backends are elements of a map.
    #[must_use]
    pub fn picks_by_slot(&self) -> bool {
        matches!(self.pick, Pick::Slot { .. })
    }

    /// The chain's name.
    #[must_use]
    pub fn name(&self) -> Name {
        let sources = match self.sources {
            Sources::All => "",
            Sources::Allowed => "restricted-",
        };
        let outside = match self.outside {
            None => "",
            Some(KeyStarts::WithAddress) => "external-",
            Some(KeyStarts::WithProtocol) => "node-port-external-",
        };
        let masks = match self.masks {
            Masks::Nobody => "",
            Masks::Everybody => "masquerade-",
            Masks::Node => "short-circuit-",
            Masks::Outside => "cluster-ip-",
        };
        format!("{sources}{outside}{masks}{}", self.base_name()).into()
    }

    /// The names of the chains it takes, except those that belong to an affinity.
    #[must_use]
    pub fn chain_names(&self) -> Vec<Name> {
        let mut names = Vec::with_capacity(2);
        if self.picks_by_slot() {
            names.push(self.base_name());
        }
        if !self.before_picking().is_empty() {
            names.push(self.name());
        }
        names
    }

    fn base_name(&self) -> Name {
        match &self.pick {
            Pick::Slot { count, prefix, .. } => format!("{prefix}-{count}").into(),
            Pick::Affinity(name) => name.clone(),
        }
    }

    /// The chains it takes, except those that belong to an affinity.
    #[must_use]
    pub fn chains(&self, family: Family) -> Vec<(Name, Chain)> {
        let mut chains = Vec::new();
        if let Pick::Slot {
            map,
            key_starts,
            count,
            ..
        } = &self.pick
        {
            let below = u32::try_from(*count).unwrap_or(u32::MAX);
            let mut key = match key_starts {
                KeyStarts::WithAddress => FRONTEND.to_vec(),
                KeyStarts::WithProtocol => vec![Field::Protocol, Field::Port],
            };
            let counter = match key_starts {
                KeyStarts::WithAddress => counted_by(Set::Connections, Presence::Present),
                KeyStarts::WithProtocol => counted_by(Set::NodePortConnections, Presence::Present),
            };
            key.push(Field::Slot { below });
            let dnat = Statement::DnatToElement {
                key,
                map: (*map).into(),
            };
            let rules = vec![vec![counter], vec![dnat]];
            chains.push((self.base_name(), regular(rules, family)));
        }
        let mut rules = self.before_picking();
        if rules.is_empty() {
            return chains;
        }
        rules.push(vec![Statement::goto(&self.base_name())]);
        chains.push((self.name(), regular(rules, family)));
        chains
    }

    /// What comes before a backend is chosen.
    fn before_picking(&self) -> Vec<Vec<Statement>> {
        let mut rules = Vec::new();
        if self.sources == Sources::Allowed {
            rules.push(vec![Statement::jump("source-ranges")]);
        }
        if let Some(key_starts) = self.outside {
            let map = match key_starts {
                KeyStarts::WithAddress => Set::LocalFrontends,
                KeyStarts::WithProtocol => Set::LocalNodePorts,
            };
            rules.push(vec![
                Statement::absent(&[Field::Source], Set::PodCidrs.name()),
                Statement::Local {
                    side: Side::Source,
                    how: Comparison::Unequal,
                },
                Statement::obey(&map.key(), map.name()),
            ]);
        }
        match self.masks {
            Masks::Nobody => {}
            Masks::Everybody => rules.push(vec![Statement::Mark]),
            Masks::Node => rules.push(vec![
                Statement::Local {
                    side: Side::Source,
                    how: Comparison::Equal,
                },
                Statement::Mark,
            ]),
            Masks::Outside => rules.push(vec![
                Statement::absent(&[Field::Source], Set::ClusterCidrs.name()),
                Statement::Mark,
            ]),
        }
        rules
    }
}

/// A lookup for the sake of the element's counter.
fn counted_by(set: Set, presence: Presence) -> Statement {
    Statement::Lookup {
        key: set.key(),
        set: set.name().into(),
        presence,
    }
}

fn regular(rules: Vec<Vec<Statement>>, family: Family) -> Chain {
    let rules = rules
        .into_iter()
        .map(|statements| Rule::new(statements, family))
        .collect();
    Chain { hook: None, rules }
}

fn service_chain(port: &PortKey, policy: Policy) -> Name {
    match policy {
        Policy::Cluster => format!("service-{port}").into(),
        Policy::Local => format!("local-{port}").into(),
    }
}

/// What a service port with affinity takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// One chain per policy in use and one per backend.
    pub chains: Vec<(Name, Chain)>,
    /// One set of clients per backend.
    pub sets: Vec<Name>,
}

/// The chains and sets of a service port with affinity.
#[must_use]
pub fn of_affinity(key: &AffinityKey, affinity: &Affinity) -> Remembered {
    let mut remembered = Remembered::default();
    let mut all: Vec<&SocketAddr> = affinity
        .cluster
        .iter()
        .chain(affinity.local.iter())
        .collect();
    all.sort();
    all.dedup();
    for backend in all {
        let (chain, set) = (endpoint_chain(key, backend), affinity_set(key, backend));
        let rules = vec![
            vec![Statement::Remember {
                set: set.clone(),
                timeout_seconds: affinity.timeout_seconds,
            }],
            vec![
                Statement::Protocol(key.service_port.protocol),
                Statement::Dnat(*backend),
            ],
        ];
        remembered.sets.push(set);
        remembered.chains.push((chain, regular(rules, key.family)));
    }
    for (policy, backends) in [
        (Policy::Cluster, &affinity.cluster),
        (Policy::Local, &affinity.local),
    ] {
        if !backends.is_empty() {
            let name = service_chain(&key.service_port, policy);
            remembered
                .chains
                .push((name, regular(choose(key, backends), key.family)));
        }
    }
    remembered
}

/// A known client goes to its backend; for others, each backend is as likely as the next.
fn choose(key: &AffinityKey, backends: &[SocketAddr]) -> Vec<Vec<Statement>> {
    let goto = |backend| Statement::Verdict(Verdict::Goto(endpoint_chain(key, backend)));
    let known = backends.iter().map(|backend| {
        let set = affinity_set(key, backend);
        let client = Statement::Lookup {
            key: vec![Field::Source],
            set,
            presence: Presence::Present,
        };
        vec![client, goto(backend)]
    });
    let left = (1..=backends.len())
        .rev()
        .map(|left| u32::try_from(left).unwrap_or(u32::MAX));
    let random = backends.iter().zip(left).map(|(backend, left)| match left {
        1 => vec![goto(backend)],
        left => vec![Statement::OneIn(left), goto(backend)],
    });
    let counts = [
        vec![counted_by(Set::Connections, Presence::Present)],
        vec![
            counted_by(Set::Connections, Presence::Absent),
            counted_by(Set::NodePortConnections, Presence::Present),
        ],
    ];
    counts.into_iter().chain(known).chain(random).collect()
}

fn endpoint_chain(key: &AffinityKey, backend: &SocketAddr) -> Name {
    format!("endpoint-{}", suffix(key, backend)).into()
}

fn affinity_set(key: &AffinityKey, backend: &SocketAddr) -> Name {
    format!("affinity-{}", suffix(key, backend)).into()
}

/// Colons cannot be part of a name in nft's language.
fn suffix(key: &AffinityKey, backend: &SocketAddr) -> String {
    let address = backend.ip().to_string().replace(':', ".");
    format!("{}__{address}/{}", key.service_port, backend.port())
}
