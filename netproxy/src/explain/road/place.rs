//! What an address and port are: a Service's, a pod's, a node's, or nobody's.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Pod;
use knarr_netproxy_plan::{
    Address, Family, Frontend, FrontendKey, FrontendKind, Plan, Protocol, ServiceKey,
};

use super::Surroundings;
use crate::{
    announce,
    explain::pods::{self, Fitness},
};

/// A destination, as one node sees it.
pub(super) struct Place {
    pub(super) to: SocketAddr,
    protocol: Protocol,
    /// The frontend it is, if it is one.
    frontend: Option<FrontendKey>,
}

impl Place {
    pub(super) fn of(plan: &Plan, to: SocketAddr, protocol: Protocol) -> Self {
        let key = |address| FrontendKey {
            address,
            protocol,
            port: to.port(),
        };
        let mut accepting = plan.ranges.node_port_addresses.iter();
        let on_node = accepting.any(|range| range.contains(&to.ip()));
        let direct = Some(key(Address::Ip(to.ip())));
        let node_port = on_node.then(|| key(Address::Node(Family::of(&to.ip()))));
        let mut known = [direct, node_port].into_iter().flatten();
        let frontend = known.find(|key| plan.frontends.contains_key(key));
        Self {
            to,
            protocol,
            frontend,
        }
    }

    /// The frontend it is, or would be.
    pub(super) fn key(&self) -> FrontendKey {
        self.frontend.unwrap_or(FrontendKey {
            address: Address::Ip(self.to.ip()),
            protocol: self.protocol,
            port: self.to.port(),
        })
    }

    pub(super) fn frontend<'a>(&self, plan: &'a Plan) -> Option<&'a Frontend> {
        plan.frontends.get(&self.frontend?)
    }

    /// The Service that has the address, whatever the port.
    pub(super) fn owner(&self, plan: &Plan) -> Option<ServiceKey> {
        if let Some(owner) = plan.cluster_ips.get(&self.to.ip()) {
            return Some(owner.as_ref().clone());
        }
        let own = Address::Ip(self.to.ip());
        let mut frontends = plan.frontends.iter();
        let (_, frontend) = frontends.find(|(key, _)| key.address == own)?;
        Some(frontend.service_port.service.as_ref().clone())
    }

    /// The ports that a Service answers on this address.
    pub(super) fn ports(&self, plan: &Plan) -> Vec<String> {
        let own = Address::Ip(self.to.ip());
        let keys = plan.frontends.keys().filter(|key| key.address == own);
        keys.map(|key| format!("{}/{}", key.port, key.protocol))
            .collect()
    }

    pub(super) fn text(&self, plan: &Plan, around: &Surroundings) -> String {
        let what = match self.frontend(plan) {
            Some(frontend) => {
                let port = &frontend.service_port;
                let kind = match frontend.kind {
                    FrontendKind::ClusterIp => "cluster IP",
                    FrontendKind::NodePort => "node port",
                    FrontendKind::LoadBalancerIp => "load-balancer IP",
                    FrontendKind::ExternalIp => "external IP",
                };
                let name = match port.name.as_str() {
                    "" => String::new(),
                    name => format!(", port {name}"),
                };
                format!("{kind} of {}{name}", port.service)
            }
            None => match (self.owner(plan), whose(self.to.ip(), around)) {
                (Some(owner), _) => format!("an address of {owner}, but not one of its ports"),
                (None, Some(whose)) => whose,
                (None, None) => "no address of the cluster's".to_owned(),
            },
        };
        format!("{}/{} is {what}", self.to, self.protocol)
    }
}

/// The pod or node that has an address.
fn whose(ip: IpAddr, around: &Surroundings) -> Option<String> {
    if let Some(pod) = pod_at(ip, around) {
        return Some(format!("pod {}", full_name(pod)));
    }
    let mut nodes = around.nodes.values();
    let node = nodes.find(|node| node.node_ips.contains(&ip))?;
    Some(format!("node {}", node.node_name))
}

pub(super) fn pod_at(ip: IpAddr, around: &Surroundings) -> Option<&Pod> {
    let text = ip.to_string();
    let own = |pod: &&Pod| {
        let Some(status) = &pod.status else {
            return false;
        };
        let ends = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let shares = pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.host_network == Some(true));
        let mut ips = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
        !ends && !shares && (status.pod_ip.as_ref() == Some(&text) || ips.any(|ip| *ip == text))
    };
    around.pods.iter().find(own)
}

fn full_name(pod: &Pod) -> String {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    format!("{namespace}/{}", pods::name(pod))
}

/// Who would answer at an endpoint.
pub(super) fn endpoint_text(end: SocketAddr, around: &Surroundings) -> String {
    match pod_at(end.ip(), around) {
        None => match whose(end.ip(), around) {
            Some(whose) => format!("{end}, {whose}"),
            None => format!("{end}, no pod of this cluster"),
        },
        Some(pod) => {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            let on = node.map_or_else(String::new, |node| format!(" on {node}"));
            format!("{end}, pod {}, {}{on}", full_name(pod), Fitness::of(pod))
        }
    }
}

/// The node that packets from outside come to.
pub(super) fn entrance(ip: IpAddr, around: &Surroundings) -> String {
    let mut nodes = around.nodes.values();
    if let Some(node) = nodes.find(|node| node.node_ips.contains(&ip)) {
        return node.node_name.clone();
    }
    let text = ip.to_string();
    let has = |service: &k8s_openapi::api::core::v1::Service| {
        let status = service.status.as_ref();
        let ingress = status.and_then(|status| status.load_balancer.as_ref());
        let ingress = ingress.and_then(|load_balancer| load_balancer.ingress.as_ref());
        let mut ips = ingress
            .into_iter()
            .flatten()
            .filter_map(|one| one.ip.as_ref());
        ips.any(|own| *own == text)
    };
    let mut services = around.services.iter();
    let announced = services.find(|(_, (service, _))| has(service));
    let ready = around.ready_nodes.iter().map(String::as_str);
    let elected = announced.and_then(|(key, (service, slices))| {
        let here = around.nodes.get(&around.here);
        let here = here.or_else(|| around.nodes.values().next())?;
        let own = (service.clone(), slices.clone());
        let snapshot = knarr_netproxy_plan::Snapshot {
            settings: here.clone(),
            services: [(key.clone(), own)].into(),
        };
        let (plan, _) = knarr_netproxy_plan::plan(&snapshot);
        let announced = plan.load_balancer_ips.get(&ip)?;
        announce::rank(ip, announced, ready)
            .first()
            .map(|node| (*node).to_owned())
    });
    elected.unwrap_or_else(|| around.here.clone())
}
