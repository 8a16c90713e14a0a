//! Explains why a Service does or does not route, as one node sees it.
//!
//! Judges facts that others gathered. Asks nobody and changes nothing.

mod cause;
mod packets;
mod pods;
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
use knarr_netproxy_plan::{Answer, Family, Plan, ServiceKey, Settings, Snapshot, plan};
use serde::Serialize;

use crate::nftables::wire::{self, Observed, Socket};
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
    /// The tables of that node.
    pub kernel: Kernel,
    /// Backends that refuse connections.
    pub refusing: BTreeSet<SocketAddr>,
}

/// What is known of a node's tables.
#[derive(Debug)]
pub enum Kernel {
    /// They were read.
    Read(BTreeMap<Family, Observed>),
    /// They were not, for this reason.
    Unread(String),
}

impl Kernel {
    /// Reads the tables of the network namespace this thread is in.
    #[must_use]
    pub fn observe() -> Self {
        let read = || {
            let mut socket = Socket::open()?;
            let observe = |family| Ok((family, wire::observe(&mut socket, family)?.0));
            Family::BOTH.into_iter().map(observe).collect()
        };
        match read() {
            Ok(observed) => Self::Read(observed),
            Err(error) => Self::Unread(reason(&error)),
        }
    }
}

fn reason(error: &wire::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// Why a Service does or does not route.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The Service, as `namespace/name`.
    pub service: String,
    /// Whether every kind of client is answered.
    pub routes: bool,
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

/// Explains one Service.
#[must_use]
pub fn explain(facts: &Facts) -> Explanation {
    let service = &facts.service;
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let key = ServiceKey::new(
        name(&service.metadata.namespace),
        name(&service.metadata.name),
    );
    let snapshot = Snapshot {
        settings: facts.settings.clone(),
        services: [(key.clone(), (service.clone(), facts.slices.clone()))].into(),
    };
    let (plan, warnings) = plan(&snapshot);
    let pods = Pods::of(service, &facts.pods);
    let packets = packets::all(&plan, facts);
    let cause = cause::find(facts, &plan, &pods, &packets);
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
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    if !warnings.is_empty() {
        steps.push(step("warnings", warnings));
    }
    Explanation {
        service: key.to_string(),
        routes: cause.is_none(),
        steps,
        cause,
    }
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

fn plan_lines(plan: &Plan, facts: &Facts) -> Vec<String> {
    let node = &facts.settings.node_name;
    let mut lines = vec![format!("on {node}")];
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
                writeln!(f, "{heading:<10}{line}")?;
                heading = "";
            }
        }
        match &self.cause {
            None => writeln!(f, "{:<10}{} routes", "verdict", self.service),
            Some(Cause { sentence, hint }) => {
                writeln!(f, "{:<10}{} does not route", "verdict", self.service)?;
                writeln!(f, "{:<10}{sentence}", "cause")?;
                writeln!(f, "{:<10}{hint}", "hint")
            }
        }
    }
}
