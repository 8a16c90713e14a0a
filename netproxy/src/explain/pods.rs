//! Which pods a selector chooses, how fit they are, and why others are not chosen.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::{
    api::core::v1::{Container, Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};

/// Pods that are not chosen are many in a large namespace; the nearest few tell enough.
const NEAR_MISSES_MAX: usize = 5;

/// The pods of a Service's namespace, as its selector sees them.
pub(super) struct Pods<'a> {
    pub(super) chosen: Vec<(&'a Pod, Fitness)>,
    /// Why pods with the right labels' keys are not chosen.
    pub(super) near_misses: Vec<String>,
}

/// Whether a pod can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fitness {
    Ready,
    Leaving,
    Unready(String),
    /// Its processes have ended.
    Ended,
    /// It has no address yet.
    NotStarted(String),
}

impl<'a> Pods<'a> {
    pub(super) fn of(service: &Service, pods: &'a [Pod]) -> Self {
        let mut chosen = Vec::new();
        let mut near_misses = Vec::new();
        if let Some(selector) = selector(service) {
            for pod in pods {
                match misfit(selector, pod) {
                    Misfit::None => chosen.push((pod, Fitness::of(pod))),
                    Misfit::Value(why) => near_misses.push(format!("{}: {why}", name(pod))),
                    Misfit::Stranger => {}
                }
            }
        }
        near_misses.truncate(NEAR_MISSES_MAX);
        Self {
            chosen,
            near_misses,
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let chosen = self.chosen.iter().map(|(pod, fitness)| {
            let status = pod.status.as_ref();
            let ip = status.and_then(|status| status.pod_ip.as_deref());
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            let mut text = format!("{}: {fitness}", name(pod));
            if let (Some(ip), Some(node)) = (ip, node) {
                text.push_str(&format!(", {ip} on {node}"));
            }
            text
        });
        let others = self.near_misses.iter();
        chosen
            .chain(others.map(|why| format!("not chosen: {why}")))
            .collect()
    }
}

pub(super) fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let selector = service.spec.as_ref()?.selector.as_ref()?;
    (!selector.is_empty()).then_some(selector)
}

pub(super) fn selector_text(service: &Service) -> String {
    let pairs = |selector: &BTreeMap<String, String>| {
        let pairs: Vec<String> = selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
        pairs.join(",")
    };
    selector(service).map_or_else(|| "none".to_owned(), pairs)
}

pub(super) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// A target port as the Service writes it.
pub(super) fn target_text(port: &ServicePort) -> Option<String> {
    match port.target_port.as_ref()? {
        IntOrString::Int(number) => Some(number.to_string()),
        IntOrString::String(name) => Some(name.clone()),
    }
}

/// Whether a pod declares the port that a Service names.
pub(super) fn declares(pod: &Pod, port_name: &str, protocol: &str) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let of = |container: &Container| container.ports.clone().unwrap_or_default();
    containers.flat_map(of).any(|port| {
        let own = port.protocol.as_deref().unwrap_or("TCP");
        port.name.as_deref() == Some(port_name) && own == protocol
    })
}

enum Misfit {
    None,
    /// A label has another value.
    Value(String),
    /// It bears none of the labels.
    Stranger,
}

fn misfit(selector: &BTreeMap<String, String>, pod: &Pod) -> Misfit {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let mut why = Vec::new();
    let mut alike = false;
    for (key, wanted) in selector {
        match labels.get(key) {
            Some(value) if value == wanted => alike = true,
            Some(value) => {
                alike = true;
                why.push(format!("{key} is {value}, not {wanted}"));
            }
            None => why.push(format!("{key} is missing")),
        }
    }
    match (why.is_empty(), alike) {
        (true, _) => Misfit::None,
        (false, true) => Misfit::Value(why.join(", ")),
        (false, false) => Misfit::Stranger,
    }
}

impl Fitness {
    pub(super) fn of(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let condition = |kind: &str| conditions.iter().find(|c| c.type_ == kind);
        let ready = condition("Ready");
        let waiting = || {
            let containers = status.container_statuses.iter().flatten();
            let mut states = containers.filter_map(|c| c.state.as_ref()?.waiting.as_ref());
            states.find_map(|waiting| waiting.reason.clone())
        };
        let message = |kind| condition(kind).and_then(|c| c.message.clone());
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return Self::Ended;
        }
        if status.pod_ip.is_none() {
            let why = waiting().or_else(|| message("PodScheduled"));
            return Self::NotStarted(why.unwrap_or_else(|| "no node runs it yet".to_owned()));
        }
        if pod.metadata.deletion_timestamp.is_some() {
            return Self::Leaving;
        }
        if ready.is_some_and(|condition| condition.status == "True") {
            return Self::Ready;
        }
        let why = waiting().or_else(|| message("Ready"));
        Self::Unready(why.unwrap_or_else(|| "its readiness probe fails".to_owned()))
    }
}

impl fmt::Display for Fitness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Leaving => f.write_str("leaving"),
            Self::Unready(why) => write!(f, "not ready ({why})"),
            Self::Ended => f.write_str("ended"),
            Self::NotStarted(why) => write!(f, "not started ({why})"),
        }
    }
}
