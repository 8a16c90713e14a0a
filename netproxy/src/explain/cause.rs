//! The likely cause why a Service does not route: the first thing that is wrong on a packet's way.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use knarr_netproxy_plan::{Family, FrontendKind, Plan};

use super::{
    Cause, Facts,
    packets::{Asked, Met, backends},
    pods::{self, Fitness, Pods},
};
use crate::nftables::wire::Point;

/// Nothing when every client is answered.
pub(super) fn find(
    facts: &Facts,
    plan: &Plan,
    pods: &Pods<'_>,
    packets: &[Asked],
) -> Option<Cause> {
    let service = facts.service.as_ref();
    not_proxied(service)
        .or_else(|| nobody_chosen(facts, pods))
        .or_else(|| nobody_fit(service, pods))
        .or_else(|| port_names(facts, pods))
        .or_else(|| wrong_rules(packets))
        .or_else(|| walled(facts, plan))
        .or_else(|| not_answered(facts, plan, packets))
        .or_else(|| all_refuse(facts, plan))
}

fn cause(sentence: impl Into<String>, hint: impl Into<String>) -> Option<Cause> {
    Some(Cause {
        sentence: sentence.into(),
        hint: hint.into(),
    })
}

fn not_proxied(service: &Service) -> Option<Cause> {
    const OTHER_PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";
    let spec = service.spec.as_ref()?;
    let mut labels = service.metadata.labels.iter().flatten();
    let other_proxy = labels.find(|(key, _)| *key == OTHER_PROXY_LABEL);
    match (spec.type_.as_deref(), spec.cluster_ip.as_deref()) {
        _ if other_proxy.is_some() => cause(
            format!("the label {OTHER_PROXY_LABEL} leaves the Service to another proxy"),
            "remove the label to have knarr serve it",
        ),
        (Some("ExternalName"), _) => cause(
            "a Service of type ExternalName is a name in DNS, and has no address to route",
            format!(
                "look up {}",
                spec.external_name.as_deref().unwrap_or_default()
            ),
        ),
        (_, None | Some("")) => cause(
            "the Service has no cluster IP yet",
            "look at its events: `kubectl describe`",
        ),
        _ => None,
    }
}

fn nobody_chosen(facts: &Facts, pods: &Pods<'_>) -> Option<Cause> {
    let service = facts.service.as_ref();
    if pods::selector(service).is_none() {
        return if has_endpoints(facts) {
            None
        } else {
            cause(
                "the Service has no selector, and nobody wrote an EndpointSlice for it",
                "set spec.selector, or create a slice with the label kubernetes.io/service-name",
            )
        };
    }
    if !pods.chosen.is_empty() || has_endpoints(facts) {
        return None;
    }
    let hint = match pods.near_misses.first() {
        Some(near) => format!("compare the labels of {near}"),
        None => "compare spec.selector with `kubectl get pods --show-labels`".to_owned(),
    };
    let selector = pods::selector_text(service);
    cause(format!("no pod has the labels {selector}"), hint)
}

fn nobody_fit(service: &Service, pods: &Pods<'_>) -> Option<Cause> {
    let published = service.spec.as_ref()?.publish_not_ready_addresses == Some(true);
    let fit = |fitness: &Fitness| match fitness {
        Fitness::Ready | Fitness::Leaving => true,
        Fitness::Unready(_) => published,
        Fitness::Ended | Fitness::NotStarted(_) => false,
    };
    if pods.chosen.iter().any(|(_, fitness)| fit(fitness)) {
        return None;
    }
    let (pod, fitness) = pods.chosen.first()?;
    let name = pods::name(pod);
    let sentence = match pods.chosen.len() {
        1 => format!("the only pod that matches is not fit: {name} is {fitness}"),
        count => format!("{count} pods match, and none is fit: {name} is {fitness}"),
    };
    cause(
        sentence,
        format!("look at `kubectl describe pod {name}` and `kubectl logs {name}`"),
    )
}

fn has_endpoints(facts: &Facts) -> bool {
    facts
        .slices
        .iter()
        .any(|slice| slice.endpoints.iter().flatten().count() > 0)
}

/// A port that nobody has under its name.
fn port_names(facts: &Facts, pods: &Pods<'_>) -> Option<Cause> {
    let spec = facts.service.spec.as_ref()?;
    spec.ports
        .iter()
        .flatten()
        .find_map(|port| undeclared(port, pods).or_else(|| unlisted(port, facts)))
}

fn undeclared(port: &ServicePort, pods: &Pods<'_>) -> Option<Cause> {
    let Some(IntOrString::String(target)) = &port.target_port else {
        return None;
    };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    if pods.chosen.is_empty()
        || pods
            .chosen
            .iter()
            .any(|(pod, _)| pods::declares(pod, target, protocol))
    {
        return None;
    }
    let declared: BTreeSet<String> = pods
        .chosen
        .iter()
        .flat_map(|(pod, _)| pod.spec.iter().flat_map(|spec| &spec.containers))
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| port.name.clone())
        .collect();
    let declared: Vec<String> = declared.into_iter().collect();
    let hint = if declared.is_empty() {
        "name the port in the pod's containers[].ports, or set targetPort to a number".to_owned()
    } else {
        format!("the pods name these: {}", declared.join(", "))
    };
    cause(
        format!(
            "port {} leads to {target}/{protocol}, and no pod has a port of that name",
            port.port
        ),
        hint,
    )
}

fn unlisted(port: &ServicePort, facts: &Facts) -> Option<Cause> {
    let name = port.name.clone().unwrap_or_default();
    let names: BTreeSet<String> = facts
        .slices
        .iter()
        .flat_map(|slice| slice.ports.iter().flatten())
        .map(|port| port.name.clone().unwrap_or_default())
        .collect();
    if names.is_empty() || names.contains(&name) {
        return None;
    }
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    cause(
        format!("no slice has a port named {name:?}: ports are joined by name, not by number"),
        format!("the slices name these: {}", names.join(", ")),
    )
}

fn wrong_rules(packets: &[Asked]) -> Option<Cause> {
    let wrong = packets.iter().find(|asked| *asked.met() != asked.planned)?;
    cause(
        format!(
            "the kernel's rules are not as planned: {} from {} is {}",
            wrong.frontend,
            wrong.from,
            wrong.met()
        ),
        "see with `knarr status` whether the netproxy of this node runs; it repairs its rules by itself",
    )
}

/// A foreign chain that drops all that passes, where packets for these families pass.
fn walled(facts: &Facts, plan: &Plan) -> Option<Cause> {
    let observation = facts.kernel.observation()?;
    let families: BTreeSet<Family> = plan
        .frontends
        .keys()
        .map(|key| key.address.family())
        .collect();
    let points = [Point::Forward, Point::Output];
    let mut blocked = families
        .into_iter()
        .flat_map(|family| points.map(|point| observation.wall(family, point)));
    blocked.find_map(|cause| cause)
}

fn not_answered(facts: &Facts, plan: &Plan, packets: &[Asked]) -> Option<Cause> {
    let failed = packets
        .iter()
        .find(|asked| !matches!(asked.met(), Met::Answered { .. }))?;
    let Asked { frontend, from, .. } = failed;
    let kind = plan.frontends.get(frontend).map(|frontend| frontend.kind);
    let restricted = plan
        .frontends
        .get(frontend)
        .is_some_and(|frontend| frontend.allowed_sources.is_some());
    let node = &facts.settings.node_name;
    match (failed.met(), kind) {
        (Met::Dropped, _) if restricted => cause(
            format!("{frontend} is dropped from {from}: loadBalancerSourceRanges does not hold it"),
            "add the client's range to spec.loadBalancerSourceRanges",
        ),
        (Met::Dropped, Some(FrontendKind::ClusterIp)) => cause(
            format!("internalTrafficPolicy is Local, and no endpoint is on {node}"),
            "run a pod on this node, or set internalTrafficPolicy: Cluster",
        ),
        (Met::Dropped, _) => cause(
            format!("externalTrafficPolicy is Local, and no endpoint is on {node}"),
            "ask a node that has one, or set externalTrafficPolicy: Cluster",
        ),
        (Met::Refused, _) => cause(
            format!("{frontend} is refused: no endpoint serves it"),
            "compare the Service's ports with those of its slices",
        ),
        _ => cause(
            format!("no rule takes {frontend} from {from}"),
            "see with `knarr status` whether the netproxy of this node runs",
        ),
    }
}

fn all_refuse(facts: &Facts, plan: &Plan) -> Option<Cause> {
    let backends = backends(plan);
    let refusing: Vec<String> = backends
        .intersection(&facts.refusing)
        .map(ToString::to_string)
        .collect();
    let first = refusing.first()?;
    cause(
        format!("packets arrive, and {first} refuses the connection: nothing listens there"),
        "set targetPort to the port that the process in the pod listens on, on all its addresses",
    )
}
