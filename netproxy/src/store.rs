//! What the API says, as this node needs it: Services with their slices, nodes and settings.
//!
//! Holds objects and remembers which Services changed. Asks nobody and decides nothing.

mod kept;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    mem,
    net::IpAddr,
};

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Namespace, Node, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_api::kinds::node::NETWORKS_ANNOTATION;
use knarr_netproxy_plan::{
    FrontNode, NOT_PROXIED_LABELS, NodePortAddresses, Planner, ServiceKey, Settings, dns::Zone,
    pod_cidrs,
};
use kube::runtime::watcher;

use self::kept::Kept;
use crate::{Config, metrics::Heard};

/// The label that ties a slice to its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// When the pod or Service changed that a slice follows.
const TRIGGER_TIME_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// The cluster autoscaler marks nodes by it before it deletes them.
const TO_BE_DELETED_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// One thing that a watch said.
#[expect(
    clippy::large_enum_variant,
    reason = "events are read once, one at a time"
)]
#[derive(Debug)]
pub(crate) enum Event {
    /// Of a Service.
    Service(watcher::Event<Service>),
    /// Of a slice.
    Slice(watcher::Event<EndpointSlice>),
    /// Of a Namespace.
    Namespace(watcher::Event<Namespace>),
    /// Of a Node.
    Node(watcher::Event<Node>),
    /// Of the ConfigMap with the cluster's settings.
    Settings(watcher::Event<ConfigMap>),
}

/// A place for objects of one kind, replaced as a whole after a new list.
#[derive(Debug)]
pub(crate) struct Shelf<K, V> {
    pub(crate) now: BTreeMap<K, V>,
    listing: Option<BTreeMap<K, V>>,
    pub(crate) synced: bool,
}

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Self {
            now: BTreeMap::new(),
            listing: None,
            synced: false,
        }
    }
}

impl<K: Ord + Clone, V> Shelf<K, V> {
    /// Takes one event, and hands the key of everything that may differ to `touched`.
    pub(crate) fn take<O>(
        &mut self,
        event: watcher::Event<O>,
        read: impl Fn(O) -> Option<(K, V)>,
        mut touched: impl FnMut(&K),
    ) {
        match event {
            watcher::Event::Apply(object) => {
                let Some((key, value)) = read(object) else {
                    return;
                };
                touched(&key);
                self.now.insert(key, value);
            }
            watcher::Event::Delete(object) => {
                let Some((key, _)) = read(object) else { return };
                touched(&key);
                self.now.remove(&key);
            }
            watcher::Event::Init => self.listing = Some(BTreeMap::new()),
            watcher::Event::InitApply(object) => {
                if let (Some(listing), Some((key, value))) = (&mut self.listing, read(object)) {
                    listing.insert(key, value);
                }
            }
            watcher::Event::InitDone => {
                let old = mem::replace(&mut self.now, self.listing.take().unwrap_or_default());
                old.keys().chain(self.now.keys()).for_each(&mut touched);
                self.synced = true;
            }
        }
    }
}

/// What the API says.
#[derive(Debug)]
pub(crate) struct Store {
    node_name: String,
    node_port_addresses: NodePortAddresses,
    non_masquerade_cidrs: BTreeSet<IpNet>,
    services: Shelf<ServiceKey, Kept<Service>>,
    slices: Shelf<(ServiceKey, String), Kept<EndpointSlice>>,
    nodes: Shelf<String, Node>,
    config_maps: Shelf<String, BTreeMap<String, String>>,
    namespaces: Shelf<String, ()>,
    /// This node's own DNS server, as slices of [`dns_service`].
    resident: Vec<EndpointSlice>,
    touched: BTreeSet<ServiceKey>,
    /// Services that came, or whose slices came, since everything was packed.
    loose: BTreeSet<ServiceKey>,
    /// Services whose names may differ from what the zone was last taught.
    renamed: BTreeSet<ServiceKey>,
    heard: Heard,
    /// When what slices follow changed, for those that were not programmed yet.
    triggers: Vec<Timestamp>,
}

impl Store {
    /// A store that has heard nothing yet.
    #[must_use]
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            node_name: config.node_name.clone(),
            node_port_addresses: config.node_port_addresses.clone(),
            non_masquerade_cidrs: config.non_masquerade_cidrs.clone(),
            services: Shelf::default(),
            slices: Shelf::default(),
            nodes: Shelf::default(),
            config_maps: Shelf::default(),
            namespaces: Shelf::default(),
            resident: Vec::new(),
            touched: BTreeSet::new(),
            loose: BTreeSet::new(),
            renamed: BTreeSet::new(),
            heard: Heard::default(),
            triggers: Vec::new(),
        }
    }

    /// Takes one event.
    pub(crate) fn take(&mut self, event: Event) {
        if let Event::Slice(watcher::Event::Apply(slice)) = &event {
            self.triggers.extend(trigger_time(&slice.metadata));
        }
        let Self {
            touched,
            loose,
            renamed,
            heard,
            ..
        } = self;
        let mut touch = |key: &ServiceKey| {
            touched.insert(key.clone());
            loose.insert(key.clone());
            renamed.insert(key.clone());
        };
        match event {
            Event::Service(event) => self.services.take(
                event,
                |mut service: Service| {
                    trim(&mut service.metadata);
                    let key = key(&service.metadata)?;
                    Some((key, Kept::new(slim_service(service))))
                },
                |key| {
                    heard.services += 1;
                    touch(key);
                },
            ),
            Event::Slice(event) => self.slices.take(event, read_slim_slice, |(key, _)| {
                heard.endpoints += 1;
                touch(key);
            }),
            Event::Namespace(event) => self.namespaces.take(
                event,
                |namespace: Namespace| Some((namespace.metadata.name?, ())),
                |_| {},
            ),
            Event::Node(event) => self.nodes.take(
                event,
                |mut node: Node| {
                    trim_node(&mut node.metadata);
                    Some((node.metadata.name.clone()?, node))
                },
                |_| {},
            ),
            Event::Settings(event) => self.config_maps.take(
                event,
                |map: ConfigMap| Some((map.metadata.name?, map.data.unwrap_or_default())),
                |_| {},
            ),
        }
    }

    /// Whether everything that packets depend on has been listed once; namespaces only matter to names.
    #[must_use]
    pub(crate) fn synced(&self) -> bool {
        let Self {
            services,
            slices,
            nodes,
            config_maps,
            ..
        } = self;
        services.synced && slices.synced && nodes.synced && config_maps.synced
    }

    /// What a planner knows besides Services.
    #[must_use]
    pub(crate) fn settings(&self) -> Settings {
        let ranges = |name| self.setting(name);
        let mut settings = Settings {
            node_name: self.node_name.clone(),
            cluster_cidrs: cidrs(ranges("cluster-cidr")),
            service_cidrs: cidrs(ranges("service-cidr")),
            node_port_addresses: self.node_port_addresses.clone(),
            non_masquerade_cidrs: self.non_masquerade_cidrs.clone(),
            ..Settings::default()
        };
        settings.learn_peers(self.nodes.now.values());
        if let Some(node) = self.nodes.now.get(&self.node_name) {
            settings.learn_node(node);
        }
        settings
    }

    fn setting(&self, name: &str) -> Option<&str> {
        let texts = self.config_maps.now.values().next()?;
        texts.get(name).map(String::as_str)
    }

    /// The addresses that the node has of its own in its pod CIDRs: the first of each.
    pub(crate) fn resident_addresses(&self) -> Vec<IpAddr> {
        let node = self.nodes.now.get(&self.node_name);
        let cidrs = node.into_iter().flat_map(pod_cidrs);
        cidrs.filter_map(first_address).collect()
    }

    /// The addresses of the cluster's DNS Service.
    pub(crate) fn dns_addresses(&self) -> Vec<IpAddr> {
        let texts = self.setting("cluster-dns").unwrap_or_default().split(',');
        texts.filter_map(|text| text.trim().parse().ok()).collect()
    }

    /// Puts this node's own DNS server behind the cluster's DNS Service.
    pub(crate) fn set_resident(&mut self, slices: Vec<EndpointSlice>) {
        self.resident = slices;
        self.touched.insert(dns_service());
    }

    /// Brings a zone to what the API says.
    pub(crate) fn teach(&mut self, zone: &mut Zone) {
        let domain = self.setting("cluster-domain").unwrap_or("cluster.local");
        if zone.domain() != Zone::new(domain).domain() {
            zone.rename(domain);
            self.renamed.extend(self.services.now.keys().cloned());
        }
        for key in mem::take(&mut self.renamed) {
            let service = self.services.now.get(&key).and_then(Kept::read);
            let slices = self.listed_slices_of(&key);
            let slices = slices.iter().map(AsRef::as_ref);
            zone.replace(&key, service.as_deref(), slices);
        }
        zone.set_namespaces(self.namespaces.now.keys().cloned().collect());
    }

    /// Plans every Service that changed since the last call.
    pub(crate) fn plan_changed(&mut self, planner: &mut Planner) {
        for key in mem::take(&mut self.touched) {
            self.plan_one(&key, planner);
        }
    }

    /// Plans every Service.
    pub(crate) fn plan_all(&mut self, planner: &mut Planner) {
        self.touched.clear();
        for key in self.services.now.keys() {
            self.plan_one(key, planner);
        }
    }

    fn plan_one(&self, key: &ServiceKey, planner: &mut Planner) {
        match self.services.now.get(key).and_then(Kept::read) {
            Some(service) => {
                let listed = self.listed_slices_of(key);
                let is_resident = listed.is_empty() && may_be_resident(key, &service);
                let resident = self.resident.iter().filter(|_| is_resident);
                let slices = listed.iter().map(AsRef::as_ref).chain(resident);
                planner.put(key, &service, slices);
            }
            None => planner.remove(key),
        }
    }

    fn listed_slices_of(&self, key: &ServiceKey) -> Vec<Cow<'_, EndpointSlice>> {
        let first = (key.clone(), String::new());
        let own = self.slices.now.range(first..);
        let own = own.take_while(|((service, _), _)| service == key);
        own.filter_map(|(_, slice)| slice.read()).collect()
    }

    /// Makes small what was planned; says how many Services it was done for.
    pub(crate) fn pack(&mut self) -> usize {
        let loose = mem::take(&mut self.loose);
        for key in &loose {
            self.services
                .now
                .get_mut(key)
                .into_iter()
                .for_each(Kept::pack);
            let first = (key.clone(), String::new());
            let own = self.slices.now.range_mut(first..);
            let own = own.take_while(|((service, _), _)| service == key);
            own.for_each(|(_, slice)| slice.pack());
        }
        loose.len()
    }

    /// How many changes were heard of since the last call.
    pub(crate) fn take_heard(&mut self) -> Heard {
        mem::take(&mut self.heard)
    }

    /// When the endpoints changed that were heard of since the last call.
    pub(crate) fn take_triggers(&mut self) -> Vec<Timestamp> {
        mem::take(&mut self.triggers)
    }

    /// Whether load balancers should still choose this node: it is not about to be deleted.
    pub(crate) fn node_is_eligible(&self) -> bool {
        let Some(node) = self.nodes.now.get(&self.node_name) else {
            return true;
        };
        let taints = node
            .spec
            .iter()
            .flat_map(|spec| spec.taints.iter().flatten());
        let leaves = taints
            .map(|taint| taint.key.as_str())
            .any(|key| key == TO_BE_DELETED_TAINT);
        node.metadata.deletion_timestamp.is_none() && !leaves
    }

    /// Nodes that may announce load-balancer IPs.
    pub(crate) fn ready_nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes
            .now
            .iter()
            .filter(|(_, node)| may_announce(node))
            .map(|(name, _)| name.as_str())
    }

    /// The primary address of a node.
    pub(crate) fn node_address(&self, name: &str) -> Option<IpAddr> {
        let node = FrontNode::read(self.nodes.now.get(name)?);
        node.addresses.first().copied()
    }
}

/// The Service that every cluster calls its DNS by.
pub(crate) fn dns_service() -> ServiceKey {
    ServiceKey::new("kube-system", "kube-dns")
}

/// The DNS Service is this node's to answer unless somebody put servers of their own behind it.
fn may_be_resident(key: &ServiceKey, service: &Service) -> bool {
    let selector = service.spec.as_ref();
    let selector = selector.and_then(|spec| spec.selector.as_ref());
    *key == dns_service() && selector.is_none_or(BTreeMap::is_empty)
}

fn may_announce(node: &Node) -> bool {
    const EXCLUDED_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
    let labels = node.metadata.labels.as_ref();
    let excluded = labels.is_some_and(|labels| labels.contains_key(EXCLUDED_LABEL));
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && !excluded && node.metadata.deletion_timestamp.is_none()
}

/// Drops what a proxy never reads.
pub(crate) fn trim(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.annotations = None;
}

/// The same, but for the one annotation that a proxy reads.
fn trim_node(metadata: &mut ObjectMeta) {
    let annotations = metadata.annotations.take();
    trim(metadata);
    let networks = annotations.and_then(|mut all| all.remove_entry(NETWORKS_ANNOTATION));
    metadata.annotations = networks.map(|networks| [networks].into());
}

/// Drops what is most of many small objects: identities, and labels that nobody asks for.
fn slim(metadata: &mut ObjectMeta) {
    metadata.owner_references = None;
    metadata.uid = None;
    metadata.resource_version = None;
    metadata.labels = metadata.labels.take().and_then(|mut labels| {
        labels.retain(|label, _| NOT_PROXIED_LABELS.contains(&label.as_str()));
        (!labels.is_empty()).then_some(labels)
    });
}

fn slim_service(mut service: Service) -> Service {
    slim(&mut service.metadata);
    service
}

fn read_slim_slice(slice: EndpointSlice) -> Option<((ServiceKey, String), Kept<EndpointSlice>)> {
    let (key, mut slice) = read_slice(slice)?;
    slim(&mut slice.metadata);
    Some((key, Kept::new(slice)))
}

pub(crate) fn key(metadata: &ObjectMeta) -> Option<ServiceKey> {
    Some(ServiceKey::new(
        metadata.namespace.clone()?,
        metadata.name.clone()?,
    ))
}

pub(crate) fn read_slice(
    mut slice: EndpointSlice,
) -> Option<((ServiceKey, String), EndpointSlice)> {
    trim(&mut slice.metadata);
    for endpoint in slice.endpoints.iter_mut().flatten() {
        endpoint.target_ref = None;
    }
    let service = slice
        .metadata
        .labels
        .as_ref()?
        .get(SERVICE_NAME_LABEL)?
        .clone();
    let key = ServiceKey::new(slice.metadata.namespace.clone()?, service);
    let name = slice.metadata.name.clone()?;
    Some(((key, name), slice))
}

fn trigger_time(metadata: &ObjectMeta) -> Option<Timestamp> {
    let annotations = metadata.annotations.as_ref()?;
    annotations.get(TRIGGER_TIME_ANNOTATION)?.parse().ok()
}

/// The first address after the network's own, which the node itself has.
fn first_address(cidr: IpNet) -> Option<IpAddr> {
    match cidr {
        IpNet::V4(cidr) => cidr.hosts().next().map(IpAddr::V4),
        IpNet::V6(cidr) => cidr.hosts().nth(1).map(IpAddr::V6),
    }
}

fn cidrs(text: Option<&str>) -> BTreeSet<IpNet> {
    let parts = text.unwrap_or_default().split(',').map(str::trim);
    parts.filter_map(|part| part.parse().ok()).collect()
}
