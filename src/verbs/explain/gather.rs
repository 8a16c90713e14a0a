//! Gathers what an explanation rests on: objects from the API, rules from this machine's kernel, refusals from endpoints.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use futures_util::{StreamExt, stream};
use ipnet::IpNet;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use knarr_client::Api;
use knarr_netproxy::explain::{
    Client as Asker, Destination, Facts, Host, Kernel, Meaning, Question, Surroundings,
};
use knarr_netproxy_plan::{ServiceKey, Settings as Place};
use kube::{Client, api::ListParams};
use tokio::net::TcpStream;

use super::front;
use crate::settings::Settings;

/// A refusal comes at once; who stays silent this long is not asked again.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(5);
const CONNECTIONS_MAX: usize = 32;
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The cluster's own settings, and its nodes.
struct Cluster {
    cidrs: BTreeSet<IpNet>,
    service_cidrs: BTreeSet<IpNet>,
    domain: String,
    nodes: Vec<Node>,
}

impl Cluster {
    async fn read(client: &Client) -> Result<Self> {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
        let map = maps.get("knarr").await?.data.unwrap_or_default();
        let text = |key: &str| map.get(key).map(String::as_str).unwrap_or_default();
        let ranges = |key| {
            let parts = text(key).split(',');
            parts.filter_map(|part| part.trim().parse().ok()).collect()
        };
        let nodes = Api::<Node>::all(client.clone());
        let nodes = nodes.list(&ListParams::default()).await?;
        let domain = match text("cluster-domain") {
            "" => "cluster.local",
            domain => domain,
        };
        Ok(Self {
            cidrs: ranges("cluster-cidr"),
            service_cidrs: ranges("service-cidr"),
            domain: domain.to_owned(),
            nodes,
        })
    }

    /// What each node's proxy is told; the flags of the others are taken to be those of this machine.
    fn places(&self, settings: &Settings) -> BTreeMap<String, Place> {
        let place = |node: &Node| {
            let name = node.metadata.name.clone()?;
            let mut place = Place {
                node_name: name.clone(),
                cluster_cidrs: self.cidrs.clone(),
                service_cidrs: self.service_cidrs.clone(),
                node_port_addresses: settings.node_port_addresses.clone(),
                non_masquerade_cidrs: settings.non_masquerade_cidrs.clone(),
                ..Place::default()
            };
            place.learn_node(node);
            place.learn_peers(&self.nodes);
            Some((name, place))
        };
        self.nodes.iter().filter_map(place).collect()
    }

    fn ready_nodes(&self) -> BTreeSet<String> {
        let ready = |node: &&Node| {
            let status = node.status.as_ref();
            let conditions = status.and_then(|status| status.conditions.as_ref());
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|one| one.type_ == "Ready" && one.status == "True")
        };
        let names = self.nodes.iter().filter(ready);
        names
            .filter_map(|node| node.metadata.name.clone())
            .collect()
    }
}

/// Facts about one Service, as the node that this machine is sees it.
pub(super) async fn facts(
    client: &Client,
    namespace: &str,
    name: &str,
    settings: &Settings,
) -> Result<Facts> {
    let node_name = &settings.node_name;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let service = services.get(name).await?;
    let own = ListParams::default().labels(&format!("{SERVICE_NAME_LABEL}={name}"));
    let slices = slices.list(&own).await?;
    let pods = pods.list(&ListParams::default()).await?;
    let cluster = Cluster::read(client).await?;
    let mut places = cluster.places(settings);
    let place = places.remove(node_name);
    let is_node = place.is_some();
    let refusing = refusing(endpoints(&slices)).await;
    let mut facts = Facts {
        service: Arc::new(service),
        pods,
        slices: slices.into_iter().map(Arc::new).collect(),
        settings: place.unwrap_or_else(|| Place {
            node_name: node_name.clone(),
            ..Place::default()
        }),
        others: places.into_values().collect(),
        kernel: not_a_node(node_name),
        refusing,
        ready_nodes: cluster.ready_nodes(),
        front: None,
    };
    facts.front = front::find(client, &cluster.nodes, &facts.own_service()).await?;
    if is_node {
        facts.kernel = observe(facts.places()).await?;
    }
    Ok(facts)
}

/// Everything that a packet of the question may meet.
pub(super) async fn surroundings(
    client: &Client,
    question: &Question,
    settings: &Settings,
) -> Result<Surroundings> {
    let node_name = &settings.node_name;
    let all = ListParams::default();
    let services = Api::<Service>::all(client.clone()).list(&all).await?;
    let slices = Api::<EndpointSlice>::all(client.clone()).list(&all).await?;
    let pods = Api::<Pod>::all(client.clone()).list(&all).await?;
    let namespaces = Api::<Namespace>::all(client.clone()).list(&all).await?;
    let cluster = Cluster::read(client).await?;
    let names = namespaces.into_iter();
    let nodes = cluster.places(settings);
    let is_node = nodes.contains_key(node_name);
    let services = with_slices(services, slices);
    let front = match question.from {
        // Pods and nodes reach a Service without any front.
        Asker::Pod { .. } | Asker::Node(_) => None,
        Asker::Outside(_) => front::find(client, &cluster.nodes, &services).await?,
    };
    let mut surroundings = Surroundings {
        nodes,
        ready_nodes: cluster.ready_nodes(),
        services,
        front,
        pods,
        namespaces: names.filter_map(|one| one.metadata.name).collect(),
        domain: cluster.domain,
        elsewhere: Vec::new(),
        here: node_name.clone(),
        kernel: not_a_node(node_name),
    };
    let Destination { host, port, .. } = &question.to;
    let ips = match (host, surroundings.meaning(question)) {
        (Host::Ip(ip), _) => vec![*ip],
        (Host::Name(_), Meaning::Addresses { addresses, .. }) => addresses,
        (Host::Name(_), Meaning::Elsewhere(name)) => {
            surroundings.elsewhere = look_up(&name).await;
            surroundings.elsewhere.clone()
        }
        (Host::Name(_), Meaning::Nobody(_) | Meaning::Missing(_)) => Vec::new(),
    };
    let places = ips.iter().map(|ip| SocketAddr::new(*ip, *port)).collect();
    match &mut surroundings.front {
        _ if is_node => surroundings.kernel = observe(places).await?,
        Some(front) if front.name == *node_name => front.kernel = observe(places).await?,
        Some(_) | None => {}
    }
    Ok(surroundings)
}

fn with_slices(
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
) -> BTreeMap<ServiceKey, (Arc<Service>, Vec<Arc<EndpointSlice>>)> {
    let mut all = BTreeMap::new();
    for service in services {
        let metadata = &service.metadata;
        let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else {
            continue;
        };
        let key = ServiceKey::new(namespace.clone(), name.clone());
        all.insert(key, (Arc::new(service), Vec::new()));
    }
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL));
        let (Some(namespace), Some(service)) = (&slice.metadata.namespace, service) else {
            continue;
        };
        let key = ServiceKey::new(namespace.clone(), service.clone());
        if let Some((_, own)) = all.get_mut(&key) {
            own.push(Arc::new(slice));
        }
    }
    all
}

fn not_a_node(name: &str) -> Kernel {
    Kernel::Unread(format!("this machine is not a node named {name}"))
}

async fn observe(places: BTreeSet<SocketAddr>) -> Result<Kernel> {
    Ok(tokio::task::spawn_blocking(move || Kernel::observe(&places)).await?)
}

/// What this host's own resolver says.
async fn look_up(name: &str) -> Vec<IpAddr> {
    let found = tokio::time::timeout(LOOKUP_TIME_MAX, tokio::net::lookup_host((name, 0))).await;
    let Ok(Ok(found)) = found else {
        return Vec::new();
    };
    found.map(|address| address.ip()).collect()
}

/// Endpoints that answer TCP.
fn endpoints(slices: &[EndpointSlice]) -> BTreeSet<SocketAddr> {
    let mut endpoints = BTreeSet::new();
    for slice in slices {
        let tcp = slice.ports.iter().flatten();
        let tcp = tcp.filter(|port| matches!(port.protocol.as_deref(), None | Some("TCP")));
        let ports: Vec<u16> = tcp.filter_map(|port| port.port?.try_into().ok()).collect();
        let addresses = slice.endpoints.iter().flatten();
        let addresses = addresses.filter_map(|endpoint| endpoint.addresses.first()?.parse().ok());
        for address in addresses {
            endpoints.extend(ports.iter().map(|port| SocketAddr::new(address, *port)));
        }
    }
    endpoints
}

/// Endpoints whose TCP ports are closed, asked from here.
pub(super) async fn refusing(endpoints: BTreeSet<SocketAddr>) -> BTreeSet<SocketAddr> {
    stream::iter(endpoints)
        .map(|endpoint| async move { refuses(endpoint).await.then_some(endpoint) })
        .buffer_unordered(CONNECTIONS_MAX)
        .filter_map(std::future::ready)
        .collect()
        .await
}

async fn refuses(endpoint: SocketAddr) -> bool {
    let connected = tokio::time::timeout(ANSWER_TIME_MAX, TcpStream::connect(endpoint)).await;
    matches!(connected, Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused)
}
