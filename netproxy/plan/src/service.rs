//! Plans one Service from its object and slices, knowing nothing of other Services.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use knarr_api::kinds::service::LOAD_BALANCER_CLASS;

use crate::{
    endpoint::{Endpoint, NOT_PROXIED_LABELS, Place, State, join},
    few::{FewMap, FewSet},
    frontend::{
        Affinity, AffinityKey, Announced, Answer, Frontend, FrontendKind, Hairpin, HealthCheck,
        Masquerade, Policy,
    },
    key::{Address, Family, FrontendKey, PortKey, Protocol, ServiceKey},
    policy::{Answered, Chosen},
    settings::Settings,
    warning::Warning,
};

/// What Kubernetes uses when a Service with affinity names no timeout.
const AFFINITY_SECONDS_DEFAULT: u32 = 10_800;

/// One Service's part of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServicePlan {
    pub(crate) frontends: FewMap<FrontendKey, Frontend>,
    pub(crate) cluster_ips: FewSet<IpAddr>,
    pub(crate) hairpins: FewSet<Hairpin>,
    pub(crate) affinities: FewMap<AffinityKey, Affinity>,
    pub(crate) health_check: Option<(u16, HealthCheck)>,
    pub(crate) load_balancer_ips: FewMap<IpAddr, Announced>,
    pub(crate) warnings: BTreeSet<Warning>,
}

/// The ports of a Service that packets can be sent to.
pub(crate) fn service_ports<'a>(
    key: &'a Arc<ServiceKey>,
    service: &'a core::Service,
) -> impl Iterator<Item = (Arc<PortKey>, &'a core::ServicePort)> {
    let ports = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    ports.filter_map(|port| {
        let protocol = Protocol::parse(port.protocol.as_deref())?;
        let (service, name) = (key.clone(), port.name.clone().unwrap_or_default());
        let port_key = PortKey {
            service,
            name,
            protocol,
        };
        Some((Arc::new(port_key), port))
    })
}

/// Plans one Service.
pub(crate) fn plan_service<'a>(
    settings: &Settings,
    key: &Arc<ServiceKey>,
    service: &core::Service,
    slices: impl IntoIterator<Item = &'a discovery::EndpointSlice>,
) -> ServicePlan {
    let mut plan = ServicePlan::default();
    let Some(facts) = Facts::read(settings, key, service, &mut plan.warnings) else {
        return plan;
    };
    let joined = join(settings, slices);
    for (port_key, port) in service_ports(key, service) {
        for family in facts.families() {
            let endpoints = joined
                .get(&(family, port_key.name.clone(), port_key.protocol))
                .map_or(&[][..], Vec::as_slice);
            plan_port(
                settings, &facts, &port_key, port, family, endpoints, &mut plan,
            );
        }
    }
    plan.health_check = facts.health_check(&joined);
    plan.load_balancer_ips = facts.announced(&joined);
    let cluster_ips = facts.cluster_ips.into_iter();
    plan.cluster_ips = cluster_ips.map(|address| (address, ())).collect();
    plan.frontends.shrink();
    plan.hairpins.shrink();
    plan.affinities.shrink();
    plan
}

fn plan_port(
    settings: &Settings,
    facts: &Facts,
    port_key: &Arc<PortKey>,
    port: &core::ServicePort,
    family: Family,
    endpoints: &[Endpoint],
    plan: &mut ServicePlan,
) {
    let chosen = if endpoints.is_empty() {
        Chosen::nobody()
    } else {
        Chosen::among(settings, endpoints)
    };
    let before = plan.frontends.len();
    for (kind, address, number) in facts.addresses(port, family) {
        let frontend = facts.frontend(port_key, kind, family, &chosen);
        let key = FrontendKey {
            address,
            protocol: port_key.protocol,
            port: number,
        };
        plan.frontends.insert_new(key, frontend);
    }
    if plan.frontends.len() == before {
        return;
    }
    let may_meet_itself = |address: &&SocketAddr| {
        let own = |end: &Endpoint| end.place == Place::Here || end.node.is_none();
        let mut entries = endpoints.iter();
        entries.any(|end| end.address == **address && own(end))
    };
    let met = chosen.cluster.iter().filter(may_meet_itself);
    for endpoint in met.chain(chosen.local.iter()) {
        let hairpin = Hairpin {
            endpoint: *endpoint,
            protocol: port_key.protocol,
        };
        plan.hairpins.insert_new(hairpin, ());
    }
    if let Some(timeout_seconds) = facts.affinity_seconds {
        let key = AffinityKey {
            service_port: port_key.clone(),
            family,
        };
        let affinity = affinity(&plan.frontends, port_key, family, timeout_seconds);
        plan.affinities.insert_new(key, affinity);
    }
}

/// Collects the sets that the frontends of one service port choose from.
fn affinity(
    frontends: &FewMap<FrontendKey, Frontend>,
    port_key: &Arc<PortKey>,
    family: Family,
    timeout_seconds: u32,
) -> Affinity {
    let nobody: Arc<[SocketAddr]> = Arc::from([]);
    let mut affinity = Affinity {
        timeout_seconds,
        cluster: nobody.clone(),
        local: nobody,
    };
    let own = frontends.iter().filter(|(key, frontend)| {
        frontend.service_port == *port_key && key.address.family() == family
    });
    for answer in own.flat_map(|(_, frontend)| frontend.answers()) {
        match answer {
            Answer::Backends {
                policy: Policy::Cluster,
                backends,
            } => {
                affinity.cluster = backends.clone();
            }
            Answer::Backends {
                policy: Policy::Local,
                backends,
            } => {
                affinity.local = backends.clone();
            }
            Answer::Reject | Answer::Drop => {}
        }
    }
    affinity
}

/// What a Service's object says about all its ports.
pub(crate) struct Facts {
    pub(crate) key: Arc<ServiceKey>,
    cluster_ips: Vec<IpAddr>,
    external_ips: Vec<IpAddr>,
    load_balancer_ips: Vec<IpAddr>,
    internal: Policy,
    pub(crate) external: Policy,
    pub(crate) affinity_seconds: Option<u32>,
    pub(crate) allowed_sources: BTreeMap<Family, Arc<[IpNet]>>,
    pub(crate) health_check_port: Option<u16>,
    announcing: Announcing,
}

/// Who tells the link about a Service's load-balancer IPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announcing {
    /// A node of this cluster.
    Ours,
    /// Whoever gave it the address.
    Theirs,
}

impl Facts {
    /// Nothing for Services that no proxy serves: headless, ExternalName, or another proxy's.
    pub(crate) fn read(
        settings: &Settings,
        key: &Arc<ServiceKey>,
        service: &core::Service,
        warnings: &mut BTreeSet<Warning>,
    ) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let mut labels = service.metadata.labels.iter().flatten().map(|(key, _)| key);
        let left_alone = labels.any(|label| NOT_PROXIED_LABELS.contains(&label.as_str()));
        if left_alone || spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let mut unreadable = |field, value: &str| {
            let value = value.to_owned();
            warnings.insert(Warning::Unreadable {
                service: key.clone(),
                field,
                value,
            });
        };
        let listed = spec.cluster_ips.as_deref().filter(|list| !list.is_empty());
        let cluster_ips = listed.unwrap_or(spec.cluster_ip.as_slice());
        let cluster_ips: Vec<&str> = cluster_ips
            .iter()
            .map(String::as_str)
            .filter(|ip| !matches!(*ip, "" | "None"))
            .collect();
        let cluster_ips = addresses("spec.clusterIPs", cluster_ips, &mut unreadable);
        if cluster_ips.is_empty() {
            return None;
        }
        let external_ips = spec.external_ips.iter().flatten().map(String::as_str);
        let external_ips = addresses("spec.externalIPs", external_ips, &mut unreadable);
        let load_balancer_ips = addresses("status.loadBalancer", ingress(service), &mut unreadable);
        let allowed_sources = allowed_sources(settings, spec, &load_balancer_ips, &mut unreadable);
        let external = policy(spec.external_traffic_policy.as_deref());
        let affinity_seconds = affinity_seconds(spec);
        Some(Self {
            key: key.clone(),
            cluster_ips,
            external_ips,
            load_balancer_ips,
            internal: policy(spec.internal_traffic_policy.as_deref()),
            external,
            affinity_seconds,
            allowed_sources,
            health_check_port: (external == Policy::Local)
                .then_some(spec.health_check_node_port)
                .flatten()
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port != 0),
            announcing: match spec.load_balancer_class.as_deref() {
                None | Some(LOAD_BALANCER_CLASS) => Announcing::Ours,
                Some(_) => Announcing::Theirs,
            },
        })
    }

    fn families(&self) -> impl Iterator<Item = Family> {
        Family::BOTH.into_iter().filter(|family| {
            self.cluster_ips
                .iter()
                .any(|address| Family::of(address) == *family)
        })
    }

    /// Every address on which one port is served, in one family.
    fn addresses(
        &self,
        port: &core::ServicePort,
        family: Family,
    ) -> Vec<(FrontendKind, Address, u16)> {
        let Ok(number) = u16::try_from(port.port) else {
            return Vec::new();
        };
        let node_port = port.node_port.and_then(|port| u16::try_from(port).ok());
        let of_kind = |kind, addresses: &[IpAddr]| {
            addresses
                .iter()
                .filter(|address| Family::of(address) == family)
                .map(|address| (kind, Address::Ip(*address), number))
                .collect::<Vec<_>>()
        };
        let mut all = of_kind(FrontendKind::ClusterIp, &self.cluster_ips);
        all.extend(
            node_port
                .filter(|port| *port != 0)
                .map(|port| (FrontendKind::NodePort, Address::Node(family), port)),
        );
        all.extend(of_kind(
            FrontendKind::LoadBalancerIp,
            &self.load_balancer_ips,
        ));
        all.extend(of_kind(FrontendKind::ExternalIp, &self.external_ips));
        all
    }

    fn frontend(
        &self,
        port_key: &Arc<PortKey>,
        kind: FrontendKind,
        family: Family,
        chosen: &Chosen,
    ) -> Frontend {
        let (answer, from_outside, masquerade) = match (kind, self.external) {
            (FrontendKind::ClusterIp, _) => (
                answer(self.internal, chosen),
                None,
                Masquerade::OutsideSources,
            ),
            (_, Policy::Cluster) => (answer(Policy::Cluster, chosen), None, Masquerade::Always),
            (_, Policy::Local) => {
                let inside = answer(Policy::Cluster, chosen);
                let outside = answer(Policy::Local, chosen);
                let outside = (outside != Answer::Reject).then_some(outside);
                (inside, outside, Masquerade::NodeSources)
            }
        };
        Frontend {
            service_port: port_key.clone(),
            kind,
            answer,
            from_outside,
            masquerade,
            affinity_seconds: self.affinity_seconds,
            allowed_sources: match kind {
                FrontendKind::LoadBalancerIp => self.allowed_sources.get(&family).cloned(),
                FrontendKind::ClusterIp | FrontendKind::NodePort | FrontendKind::ExternalIp => None,
            },
            serving: chosen.serving.clone(),
        }
    }

    fn health_check(&self, joined: &crate::endpoint::Joined) -> Option<(u16, HealthCheck)> {
        let local: BTreeSet<IpAddr> = joined
            .values()
            .flatten()
            .filter(|endpoint| endpoint.state == State::Ready && endpoint.place == Place::Here)
            .map(|endpoint| endpoint.address.ip())
            .collect();
        let service = self.key.clone();
        Some((
            self.health_check_port?,
            HealthCheck {
                service,
                local_endpoint_count: local.len(),
            },
        ))
    }

    /// The load-balancer IPs that knarr itself tells the link about.
    pub(crate) fn owned_ips(&self) -> &[IpAddr] {
        match self.announcing {
            Announcing::Ours => &self.load_balancer_ips,
            Announcing::Theirs => &[],
        }
    }

    fn announced(&self, joined: &crate::endpoint::Joined) -> FewMap<IpAddr, Announced> {
        let ready = joined
            .values()
            .flatten()
            .filter(|endpoint| endpoint.state == State::Ready);
        let nodes: BTreeSet<String> = ready.filter_map(|endpoint| endpoint.node.clone()).collect();
        let nodes = (self.external == Policy::Local).then_some(nodes);
        let announced = Announced {
            service: self.key.clone(),
            nodes,
        };
        self.owned_ips()
            .iter()
            .map(|address| (*address, announced.clone()))
            .collect()
    }
}

fn answer(policy: Policy, chosen: &Chosen) -> Answer {
    let backends = match policy {
        Policy::Cluster => &chosen.cluster,
        Policy::Local => &chosen.local,
    };
    match (backends.is_empty(), chosen.answered) {
        (false, _) => Answer::Backends {
            policy,
            backends: backends.clone(),
        },
        (true, Answered::Nowhere) => Answer::Reject,
        (true, Answered::Somewhere) => Answer::Drop,
    }
}

fn policy(text: Option<&str>) -> Policy {
    if text == Some("Local") {
        Policy::Local
    } else {
        Policy::Cluster
    }
}

fn affinity_seconds(spec: &core::ServiceSpec) -> Option<u32> {
    (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref();
        let client_ip = config.and_then(|config| config.client_ip.as_ref());
        client_ip
            .and_then(|client_ip| client_ip.timeout_seconds)
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(AFFINITY_SECONDS_DEFAULT)
    })
}

/// Load-balancer IPs that packets reach as they are; a proxying load balancer keeps its own.
fn ingress(service: &core::Service) -> impl Iterator<Item = &str> {
    let load_balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    load_balancer
        .and_then(|status| status.ingress.as_ref())
        .into_iter()
        .flatten()
        .filter(|ingress| matches!(ingress.ip_mode.as_deref(), None | Some("VIP")))
        .filter_map(|ingress| ingress.ip.as_deref())
}

fn addresses<'a>(
    field: &'static str,
    texts: impl IntoIterator<Item = &'a str>,
    unreadable: &mut impl FnMut(&'static str, &str),
) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for text in texts.into_iter().filter(|text| !text.is_empty()) {
        match text.parse() {
            Ok(address) if !addresses.contains(&address) => addresses.push(address),
            Ok(_) => {}
            Err(_) => unreadable(field, text),
        }
    }
    addresses
}

/// The source ranges of each family that restricts any; a range of everything restricts nothing.
fn allowed_sources(
    settings: &Settings,
    spec: &core::ServiceSpec,
    load_balancer_ips: &[IpAddr],
    unreadable: &mut impl FnMut(&'static str, &str),
) -> BTreeMap<Family, Arc<[IpNet]>> {
    let mut ranges: BTreeMap<Family, BTreeSet<IpNet>> = BTreeMap::new();
    for text in spec.load_balancer_source_ranges.iter().flatten() {
        match text.trim().parse::<IpNet>() {
            Ok(range) => {
                ranges
                    .entry(Family::of(&range.addr()))
                    .or_default()
                    .insert(range.trunc());
            }
            Err(_) => unreadable("spec.loadBalancerSourceRanges", text),
        }
    }
    ranges.retain(|_, ranges| ranges.iter().all(|range| range.prefix_len() > 0));
    for (family, ranges) in &mut ranges {
        // A node's own connection to the load-balancer IP can bear that IP as its source.
        let own = settings
            .node_ips
            .iter()
            .any(|ip| ranges.iter().any(|range| range.contains(ip)));
        if own {
            let vips = load_balancer_ips
                .iter()
                .filter(|ip| Family::of(ip) == *family);
            ranges.extend(vips.map(|ip| IpNet::from(*ip)));
        }
    }
    ranges
        .into_iter()
        .map(|(family, ranges)| {
            let merged = IpNet::aggregate(&ranges.into_iter().collect());
            (family, merged.into_iter().collect())
        })
        .collect()
}
