//! `knarr explain FROM TO`: what one packet meets on its way, from the name that is looked up to the endpoint that answers.
//!
//! Judges what others gathered. Asks nobody and changes nothing.

mod departure;
mod front;
mod names;
mod obstacle;
mod place;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use knarr_netproxy_plan::{Family, Plan, Protocol, ServiceKey, Settings, Snapshot, plan};

use super::{
    Cause, Explanation, Facts, Front, Kernel, Observation, Step,
    kernel::shortened,
    packets::{self, Met, machine, meet},
    pods, step,
};
pub use names::Meaning;

use super::question::Question;
use crate::nftables::{
    Ruleset,
    trace::{End, Machine, Origin, Packet, Way, trace},
};
use departure::Departure;
use place::Place;

/// Any port of a client's.
const CLIENT_PORT: u16 = 40_000;

/// All that a journey may pass.
#[derive(Debug)]
pub struct Surroundings {
    /// What each node's proxy is told, by the node's name.
    pub nodes: BTreeMap<String, Settings>,
    /// Nodes that may announce load-balancer IPs.
    pub ready_nodes: BTreeSet<String>,
    /// Every Service with its slices.
    pub services: BTreeMap<ServiceKey, (Arc<Service>, Vec<Arc<EndpointSlice>>)>,
    /// Every pod.
    pub pods: Vec<Pod>,
    /// Every Namespace.
    pub namespaces: BTreeSet<String>,
    /// The cluster's domain.
    pub domain: String,
    /// What the host's own resolver says of a name that is not the cluster's.
    pub elsewhere: Vec<IpAddr>,
    /// The node that this machine is.
    pub here: String,
    /// What this machine's kernel has.
    pub kernel: Kernel,
    /// The front, where one has ever held the Lease.
    pub front: Option<Front>,
}

/// A packet's way, as far as it goes.
#[derive(Debug)]
pub struct Journey {
    subject: String,
    steps: Vec<Step>,
    met: Option<Met>,
    cause: Option<Cause>,
    protocol: Protocol,
}

impl Surroundings {
    /// What the destination's name means to the client.
    #[must_use]
    pub fn meaning(&self, question: &Question) -> Meaning {
        names::meaning(question, self)
    }

    /// Sends one packet through names, plan and rules.
    #[must_use]
    pub fn travel(&self, question: &Question) -> Journey {
        let mut journey = Journey {
            subject: format!("{} to {}", question.from, question.to),
            steps: Vec::new(),
            met: None,
            cause: None,
            protocol: question.to.protocol,
        };
        if let Err(cause) = journey.go(question, self) {
            journey.cause = Some(cause);
        }
        journey
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        let of = |pod: &&Pod| {
            pod.metadata.namespace.as_deref() == Some(namespace) && pods::name(pod) == name
        };
        self.pods.iter().find(of)
    }

    /// What a node's proxy is told, and what it makes of it.
    fn seen_from(&self, node: &str) -> (Settings, Plan) {
        let settings = self.nodes.get(node).cloned().unwrap_or_default();
        let snapshot = Snapshot {
            settings: settings.clone(),
            services: self.services.clone(),
        };
        (settings, plan(&snapshot).0)
    }

    /// The kernel that a node's packets meet, if it is this machine's.
    fn kernel_of(&self, node: &str) -> Option<&Observation> {
        self.kernel.observation().filter(|_| node == self.here)
    }
}

impl Journey {
    fn go(&mut self, question: &Question, around: &Surroundings) -> Result<(), Cause> {
        let departure = Departure::of(&question.from, around)?;
        self.steps.push(step("from", vec![departure.text.clone()]));
        let (line, addresses) = names::addresses(question, around)?;
        if let Some(line) = line {
            self.steps.push(step("name", vec![line]));
        }
        let (source, ip) = departure.towards(&addresses)?;
        let to = SocketAddr::new(ip, question.to.port);
        let mut node = departure
            .node
            .clone()
            .unwrap_or_else(|| place::entrance(ip, around));
        let (mut settings, mut plan) = around.seen_from(&node);
        let mut place = Place::of(&plan, to, question.to.protocol);
        self.steps.push(step("to", vec![place.text(&plan, around)]));
        let mut packet = Packet {
            source: SocketAddr::new(source, CLIENT_PORT),
            destination: to,
            protocol: question.to.protocol.number(),
            origin: departure.origin,
        };
        let arrival = front::Arrival {
            around,
            departure: &departure,
            packet,
            protocol: question.to.protocol,
        };
        if let Some(exit) = front::pass(&arrival, &mut self.steps)? {
            packet.destination = exit.to;
            node = exit.node;
            (settings, plan) = around.seen_from(&node);
            place = Place::of(&plan, exit.to, question.to.protocol);
            self.steps
                .push(step("then to", vec![place.text(&plan, around)]));
        }
        let walk = Walk {
            around,
            departure: &departure,
            node: &node,
            settings: &settings,
            plan: &plan,
            packet,
        };
        self.pass_rules(&walk, &place)
    }

    fn pass_rules(&mut self, walk: &Walk<'_>, place: &Place) -> Result<(), Cause> {
        let Walk {
            around,
            departure,
            node,
            settings,
            plan,
            packet,
        } = walk;
        let family = Family::of(&packet.destination.ip());
        let planned = Ruleset::of(plan, family);
        let observation = around.kernel_of(node);
        let found = observation.map(|observation| observation.table(family));
        let machine = machine(settings, family, observation);
        let asked = packets::Asked {
            frontend: place.key(),
            from: departure.name.clone(),
            planned: meet(&planned, &machine, *packet),
            found: found.as_ref().map(|table| meet(table, &machine, *packet)),
        };
        let lines = rule_lines(found.as_ref().unwrap_or(&planned), &machine, *packet);
        let whose = match (&around.kernel, observation) {
            (_, Some(_)) => format!("as read from the kernel of {node}"),
            (Kernel::Unread(why), None) if **node == around.here => {
                format!("as planned for {node}, whose kernel was not read: {why}")
            }
            (_, None) => format!("as planned for {node}; ask there to see its kernel"),
        };
        let mut rules = vec![whose];
        rules.extend(lines);
        if asked.found.is_some() && *asked.met() != asked.planned {
            rules.push(format!("planned: {}", asked.planned));
        }
        self.steps.push(step("rules", rules));
        if let Some(observation) = observation {
            let own = |flow: &crate::conntrack::Flow| {
                flow.from.ip() == packet.source.ip()
                    && flow.to == packet.destination
                    && flow.protocol == self.protocol
            };
            let flows = observation.flow_lines(plan, own);
            if !flows.is_empty() {
                self.steps.push(step("flows", flows));
            }
        }
        obstacle::rules(walk, place, &asked)?;
        self.met = Some(asked.met().clone());
        let ends = ends(asked.met(), packet.destination);
        self.endpoints(&ends, around);
        if let Some(observation) = observation {
            self.walls(observation, family, departure.origin)?;
        }
        Ok(())
    }

    fn endpoints(&mut self, ends: &BTreeSet<SocketAddr>, around: &Surroundings) {
        let lines = ends.iter().map(|end| place::endpoint_text(*end, around));
        self.steps
            .push(step("answers", shortened(lines.collect(), "endpoints")));
    }

    fn walls(
        &mut self,
        observation: &Observation,
        family: Family,
        origin: Origin,
    ) -> Result<(), Cause> {
        let lines = observation.firewall_lines();
        if !lines.is_empty() {
            self.steps.push(step("firewalls", lines));
        }
        let wall = observation.wall(family, obstacle::point(origin));
        wall.map_or(Ok(()), Err)
    }

    /// Whom to ask whether they listen: endpoints that answer TCP.
    #[must_use]
    pub fn ends(&self) -> BTreeSet<SocketAddr> {
        match &self.met {
            Some(Met::Answered { by }) if self.protocol == Protocol::Tcp => by.clone(),
            _ => BTreeSet::new(),
        }
    }

    /// The whole story, when it is known who refuses connections.
    #[must_use]
    pub fn told(self, refusing: &BTreeSet<SocketAddr>) -> Explanation {
        let ends = self.ends();
        let cause = self.cause.or_else(|| obstacle::refusal(&ends, refusing));
        let verdict = match cause {
            None => format!("{} arrives", self.subject),
            Some(_) => format!("{} does not arrive", self.subject),
        };
        Explanation {
            subject: self.subject,
            routes: cause.is_none(),
            verdict,
            steps: self.steps,
            cause,
        }
    }
}

/// What the packet meets on one node.
struct Walk<'a> {
    around: &'a Surroundings,
    departure: &'a Departure,
    node: &'a str,
    settings: &'a Settings,
    plan: &'a Plan,
    packet: Packet,
}

impl Walk<'_> {
    /// One Service as the packet's node has it.
    fn facts(&self, key: &ServiceKey) -> Option<Facts> {
        let (service, slices) = self.around.services.get(key)?;
        let in_namespace =
            |pod: &&Pod| pod.metadata.namespace.as_deref() == Some(key.namespace.as_str());
        Some(Facts {
            service: service.clone(),
            pods: self
                .around
                .pods
                .iter()
                .filter(in_namespace)
                .cloned()
                .collect(),
            slices: slices.clone(),
            settings: self.settings.clone(),
            others: Vec::new(),
            kernel: Kernel::Unread("it is not asked again".to_owned()),
            refusing: BTreeSet::new(),
            ready_nodes: self.around.ready_nodes.clone(),
            front: None,
        })
    }
}

/// Every way through the rules: the chains, and where it ends.
fn rule_lines(ruleset: &Ruleset, machine: &Machine, packet: Packet) -> Vec<String> {
    let ways = trace(ruleset, machine, packet);
    let lines = ways.iter().map(|way| way_text(way, packet));
    shortened(lines.collect(), "ways")
}

fn way_text(way: &Way, packet: Packet) -> String {
    let chains: Vec<&str> = way.chains.iter().map(AsRef::as_ref).collect();
    let end = match &way.end {
        End::Rejected => "refused".to_owned(),
        End::Dropped => "dropped".to_owned(),
        End::Passed { to, source } if *to == packet.destination => match *source {
            source if source == packet.source.ip() => {
                "taken by no rule, goes on as it is".to_owned()
            }
            source => format!("leaves the cluster, and {} sees {source}", to.ip()),
        },
        End::Passed { to, source } => format!("to {to}, which sees {source}"),
    };
    if chains.is_empty() {
        return format!("no rules: {end}");
    }
    format!("{}: {end}", chains.join(" > "))
}

fn ends(met: &Met, destination: SocketAddr) -> BTreeSet<SocketAddr> {
    match met {
        Met::Answered { by } => by.clone(),
        Met::Untouched => [destination].into(),
        Met::Refused | Met::Dropped => BTreeSet::new(),
    }
}

fn cause(sentence: impl Into<String>, hint: impl Into<String>) -> Cause {
    Cause {
        sentence: sentence.into(),
        hint: hint.into(),
    }
}
