//! Explains why a Service does or does not route, as one node sees it.
//!
//! Judges facts that others gathered. Asks nobody and changes nothing.

mod announcer;
mod cause;
mod kernel;
mod packets;
mod pods;
mod question;
mod road;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use knarr_netproxy_plan::{
    Address, Answer, Family, FrontendKey, Plan, ServiceKey, Settings, Snapshot, plan,
};
use serde::Serialize;

pub use self::{
    announcer::{Front, Renewal},
    kernel::{Kernel, Observation},
    question::{Client, Destination, Host, Question, Unreadable},
    road::{Journey, Meaning, Surroundings},
};
use crate::nftables::target::of_affinity;
use pods::Pods;

/// All that an explanation rests on.
#[derive(Debug)]
pub struct Facts {
    /// The Service.
    pub service: Arc<Service>,
    /// Every pod of its namespace.
    pub pods: Vec<Pod>,
    /// Its slices.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// The cluster's ranges and the node that is asked.
    pub settings: Settings,
    /// The same, as the other nodes have it.
    pub others: Vec<Settings>,
    /// What that node's kernel has.
    pub kernel: Kernel,
    /// Backends that refuse connections.
    pub refusing: BTreeSet<SocketAddr>,
    /// Nodes that may announce load-balancer IPs.
    pub ready_nodes: BTreeSet<String>,
    /// The front, where one has ever held the Lease.
    pub front: Option<Front>,
}

/// Why packets do or do not arrive.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The Service as `namespace/name`, or the packet in question.
    pub subject: String,
    /// Whether every client in question is answered.
    pub routes: bool,
    /// The same in one sentence.
    pub verdict: String,
    /// What was looked at, in the order in which packets depend on it.
    pub steps: Vec<Step>,
    /// Why it does not route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Step {
    /// What.
    pub name: &'static str,
    /// What was found.
    pub lines: Vec<String>,
}

/// The likely cause, and what to do about it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// In one sentence.
    pub sentence: String,
    /// What to do or look at.
    pub hint: String,
}

impl Facts {
    fn key(&self) -> ServiceKey {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let metadata = &self.service.metadata;
        ServiceKey::new(name(&metadata.namespace), name(&metadata.name))
    }

    /// The Service alone.
    #[must_use]
    pub fn own_service(&self) -> BTreeMap<ServiceKey, (Arc<Service>, Vec<Arc<EndpointSlice>>)> {
        [(self.key(), (self.service.clone(), self.slices.clone()))].into()
    }

    /// The Service alone, as one node sees it.
    fn snapshot(&self, settings: &Settings) -> Snapshot {
        Snapshot {
            settings: settings.clone(),
            services: self.own_service(),
        }
    }

    /// Where clients of this node knock: what to look for in its kernel.
    #[must_use]
    pub fn places(&self) -> BTreeSet<SocketAddr> {
        let (plan, _) = plan(&self.snapshot(&self.settings));
        plan.frontends
            .keys()
            .flat_map(|key| places(key, &self.settings))
            .collect()
    }
}

/// The addresses of one frontend on one node.
fn places(key: &FrontendKey, settings: &Settings) -> Vec<SocketAddr> {
    let port = key.port;
    match key.address {
        Address::Ip(ip) => vec![SocketAddr::new(ip, port)],
        Address::Node(family) => {
            let own = settings.node_ips.iter();
            let own = own.filter(|ip| Family::of(ip) == family);
            own.map(|ip| SocketAddr::new(*ip, port)).collect()
        }
    }
}

/// Explains one Service.
#[must_use]
pub fn explain(facts: &Facts) -> Explanation {
    let service = &facts.service;
    let key = facts.key();
    let (plan, warnings) = plan(&facts.snapshot(&facts.settings));
    let pods = Pods::of(service, &facts.pods);
    let packets = packets::all(&plan, facts);
    let cause = cause::find(facts, &plan, &pods, &packets);
    let cause = cause.or_else(|| announcer::cause(&plan, facts));
    let mut steps = vec![
        step("service", addresses(service)),
        step("selector", vec![pods::selector_text(service)]),
        step("pods", pods.lines()),
        step(
            "slices",
            facts.slices.iter().map(|slice| slice_text(slice)).collect(),
        ),
        step("plan", plan_lines(&plan, facts)),
        step("kernel", packets::kernel_lines(&plan, facts)),
        step("packets", packets.iter().map(ToString::to_string).collect()),
    ];
    let announced = announcer::lines(&plan, facts);
    if !announced.is_empty() {
        steps.push(step("announced", announced));
    }
    steps.extend(observed_steps(&plan, facts));
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    if !warnings.is_empty() {
        steps.push(step("warnings", warnings));
    }
    let verdict = match cause {
        None => format!("{key} routes"),
        Some(_) => format!("{key} does not route"),
    };
    Explanation {
        subject: key.to_string(),
        routes: cause.is_none(),
        verdict,
        steps,
        cause,
    }
}

/// What the kernel tells besides rules, where there is any.
fn observed_steps(plan: &Plan, facts: &Facts) -> Vec<Step> {
    let Some(observation) = facts.kernel.observation() else {
        return Vec::new();
    };
    let sets = plan.affinities.iter();
    let sets = sets.flat_map(|(key, affinity)| of_affinity(key, affinity).sets);
    let steps = [
        ("affinity", observation.affinity_lines(&sets.collect())),
        ("flows", observation.flow_lines(plan, |_| true)),
        ("firewalls", observation.firewall_lines()),
    ];
    let steps = steps.into_iter().filter(|(_, lines)| !lines.is_empty());
    steps.map(|(name, lines)| Step { name, lines }).collect()
}

fn step(name: &'static str, lines: Vec<String>) -> Step {
    let lines = if lines.is_empty() {
        vec!["none".to_owned()]
    } else {
        lines
    };
    Step { name, lines }
}

fn addresses(service: &Service) -> Vec<String> {
    let spec = service.spec.clone().unwrap_or_default();
    let kind = spec.type_.unwrap_or_else(|| "ClusterIP".to_owned());
    let ips = spec.cluster_ips.unwrap_or_default().join(", ");
    let mut lines = vec![format!("{kind} {ips}").trim_end().to_owned()];
    lines.extend(spec.ports.iter().flatten().map(port_text));
    lines
}

fn port_text(port: &k8s_openapi::api::core::v1::ServicePort) -> String {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let mut text = format!("port {}/{protocol}", port.port);
    if let Some(name) = &port.name {
        text.push_str(&format!(" named {name}"));
    }
    if let Some(target) = pods::target_text(port) {
        text.push_str(&format!(", target port {target}"));
    }
    if let Some(node_port) = port.node_port {
        text.push_str(&format!(", node port {node_port}"));
    }
    text
}

fn slice_text(slice: &EndpointSlice) -> String {
    let ports = slice.ports.iter().flatten().map(|port| {
        let number = port.port.map_or_else(String::new, |port| port.to_string());
        match port.name.as_deref() {
            None | Some("") => number,
            Some(name) => format!("{name}={number}"),
        }
    });
    let ports: Vec<String> = ports.collect();
    let count = slice.endpoints.iter().flatten().count();
    let ready = slice.endpoints.iter().flatten().filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready) != Some(false)
    });
    format!(
        "{}: {} of {count} endpoints ready, ports {}",
        slice.metadata.name.as_deref().unwrap_or_default(),
        ready.count(),
        if ports.is_empty() {
            "none".to_owned()
        } else {
            ports.join(", ")
        },
    )
}

/// What this node plans, and where another plans differently.
fn plan_lines(own: &Plan, facts: &Facts) -> Vec<String> {
    let frontends = frontend_lines(own);
    let mut lines = vec![format!("on {}", facts.settings.node_name)];
    let mut alike = Vec::new();
    let mut different = Vec::new();
    for settings in &facts.others {
        let other = frontend_lines(&plan(&facts.snapshot(settings)).0);
        let node = &settings.node_name;
        if other == frontends {
            alike.push(node.as_str());
        } else {
            different.push(format!("on {node}"));
            different.extend(other);
        }
    }
    if let [first, ..] = lines.as_mut_slice()
        && !alike.is_empty()
    {
        first.push_str(&format!(", and the same on {}", alike.join(", ")));
    }
    lines.extend(frontends);
    lines.extend(different);
    lines
}

fn frontend_lines(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, frontend) in &plan.frontends {
        lines.push(format!("{key} {}", answer_text(&frontend.answer)));
        if let Some(answer) = &frontend.from_outside {
            lines.push(format!("{key} from outside {}", answer_text(answer)));
        }
    }
    lines
}

fn answer_text(answer: &Answer) -> String {
    match answer {
        Answer::Backends { backends, .. } => {
            let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
            format!("is answered by {}", backends.join(", "))
        }
        Answer::Reject => "is refused: nobody answers".to_owned(),
        Answer::Drop => "is dropped: nobody here answers".to_owned(),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Step { name, lines } in &self.steps {
            let mut heading = *name;
            for line in lines {
                writeln!(f, "{heading:<9} {line}")?;
                heading = "";
            }
        }
        writeln!(f, "{:<10}{}", "verdict", self.verdict)?;
        match &self.cause {
            None => Ok(()),
            Some(Cause { sentence, hint }) => {
                writeln!(f, "{:<10}{sentence}", "cause")?;
                writeln!(f, "{:<10}{hint}", "hint")
            }
        }
    }
}
