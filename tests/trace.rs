//! Executor 1 of the scenarios: walks every row's packet through the planned rules. No root, no kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use knarr_netproxy::nftables::{
    Name, Ruleset,
    trace::{End, Machine, Origin, Packet, trace},
};
use knarr_netproxy_plan::{
    Address, Family as RulesetFamily, FrontendKey, ServiceKey, Settings, Snapshot, check, plan,
};
use serde_json::{Value, json};

use crate::{
    lab::family::{Family, Stack},
    scenario::{Outcome, Pod, PodState, Protocol, Row, Scenario},
};

const CLIENT_IP: &str = "10.78.0.2";
const NODES: [(&str, &str); 2] = [("node-1", "10.77.0.11"), ("node-2", "10.77.0.12")];

#[test]
fn every_packet_ends_where_its_scenario_says() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios"));
    let mut wrong = Vec::new();
    for scenario in Scenario::all(folder) {
        for stack in Stack::ALL {
            let worlds = World::each_family_of(&scenario, stack);
            for world in worlds {
                for row in &scenario.rows {
                    let outcome = world.outcome(row, &scenario.rows);
                    if outcome != row.outcome {
                        let family = world.family;
                        let name = &scenario.name;
                        wrong.push(format!(
                            "{name}, {family:?} of {stack:?}: {row:?}\n  but {outcome:?}"
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_packet_is_counted_once_by_the_frontend_that_leads_it_to_a_backend() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios"));
    let mut counted = BTreeSet::new();
    for scenario in Scenario::all(folder) {
        for world in World::each_family_of(&scenario, Stack::Dual) {
            for row in &scenario.rows {
                let (node, packet) = world.start(row);
                let machine = world.machine(node, &BTreeSet::new());
                for way in trace(&world.rulesets[node], &machine, packet) {
                    let to = packet.destination;
                    let translated = matches!(way.end, End::Passed { to: end, .. } if end != to);
                    let knocked_at = |key: &FrontendKey| {
                        let address = match key.address {
                            Address::Ip(ip) => ip == to.ip(),
                            Address::Node(_) => machine.addresses.contains(&to.ip()),
                        };
                        address && key.port == to.port() && key.protocol.number() == packet.protocol
                    };
                    let right = match way.counted_by.as_slice() {
                        [] => !translated,
                        [one] => translated && knocked_at(one),
                        [_, _, ..] => false,
                    };
                    assert!(right, "{}: {row:?}: {way:?}", scenario.name);
                    counted.extend(way.counted_by);
                }
            }
        }
    }
    assert!(counted.len() > 20, "{counted:?}");
}

/// A client that a set of a ruleset remembers.
pub(crate) type Memory = (Name, Vec<u8>);

/// A scenario's cluster, as far as packets of one family can tell.
pub(crate) struct World {
    pub(crate) family: Family,
    pub(crate) addresses: BTreeMap<String, IpAddr>,
    nodes_of_pods: BTreeMap<String, String>,
    pub(crate) rulesets: BTreeMap<String, Ruleset>,
    service_addresses: BTreeSet<IpAddr>,
}

impl World {
    pub(crate) fn each_family_of(scenario: &Scenario, stack: Stack) -> Vec<Self> {
        let address = |name: &str, family| Some(addresses(scenario, family).get(name)?.to_string());
        let objects = scenario.objects(stack, address);
        let services = services(&objects, scenario, stack);
        let worlds = stack.families().iter().map(|family| {
            let plans = NODES.iter().map(|(node, _)| {
                let snapshot = Snapshot {
                    settings: settings(node, zone_of(&objects, node), stack),
                    services: services.clone(),
                };
                let (plan, warnings) = plan(&snapshot);
                let problems = (warnings, check(&plan));
                assert_eq!(problems, (vec![], vec![]), "{}", scenario.name);
                ((*node).to_owned(), plan)
            });
            let mut service_addresses = BTreeSet::new();
            let rulesets = plans.map(|(node, plan)| {
                service_addresses.extend(plan.cluster_ips.keys().copied());
                service_addresses.extend(plan.load_balancer_ips.keys().copied());
                let family = match family {
                    Family::V4 => RulesetFamily::V4,
                    Family::V6 => RulesetFamily::V6,
                };
                (node, Ruleset::of(&plan, family))
            });
            let pods = scenario.pods.iter();
            Self {
                family: *family,
                addresses: addresses(scenario, *family),
                nodes_of_pods: pods
                    .map(|pod| (pod.name.clone(), pod.node.clone()))
                    .collect(),
                rulesets: rulesets.collect(),
                service_addresses,
            }
        });
        worlds.collect()
    }

    fn outcome(&self, row: &Row, rows: &[Row]) -> Outcome {
        let (_, packet) = self.start(row);
        match self.judge(packet.destination, &self.ends(row)) {
            Outcome::Answered { by, seen_as }
                if matches!(row.outcome, Outcome::Kept { .. }) && self.keeps(row, rows) =>
            {
                let by_one_of = by;
                Outcome::Kept { by_one_of, seen_as }
            }
            outcome => outcome,
        }
    }

    /// Whether each backend that a client can meet first is met in all its rows ever after.
    fn keeps(&self, row: &Row, rows: &[Row]) -> bool {
        let alike =
            |other: &&Row| other.from == row.from && matches!(other.outcome, Outcome::Kept { .. });
        let (node, packet) = self.start(row);
        let machine = self.machine(node, &BTreeSet::new());
        trace(&self.rulesets[node], &machine, packet)
            .into_iter()
            .all(|way| {
                let (Some(memory), End::Passed { to, .. }) = (way.remembers, way.end) else {
                    return false;
                };
                let memory = BTreeSet::from([memory]);
                rows.iter().filter(alike).all(|other| {
                    let (node, packet) = self.start(other);
                    let ends = self.through(node, packet, &memory);
                    ends.iter()
                        .all(|end| matches!(end, End::Passed { to: again, .. } if *again == to))
                })
            })
    }

    /// Every end of a row's packet.
    pub(crate) fn ends(&self, row: &Row) -> BTreeSet<End> {
        let (node, packet) = self.start(row);
        self.through(node, packet, &BTreeSet::new())
    }

    /// The node that a row's packet meets first, and the packet.
    pub(crate) fn start(&self, row: &Row) -> (&str, Packet) {
        let address = |name: &str, _| self.addresses.get(name).map(ToString::to_string);
        let to = row.to(self.family, address);
        let source = SocketAddr::new(self.addresses[&row.from], 40_000);
        let protocol = match (row.protocol, self.family) {
            (Protocol::Icmp, Family::V4) => 1,
            (Protocol::Icmp, Family::V6) => 58,
            (Protocol::Tcp, _) => 6,
            (Protocol::Udp, _) => 17,
            (Protocol::Sctp, _) => 132,
        };
        let own = self.rulesets.get_key_value(&row.from);
        let node = match (own, self.nodes_of_pods.get(&row.from)) {
            (Some((node, _)), _) => node,
            (None, Some(node)) => node,
            (None, None) => self.node_at(to.ip()).unwrap_or("node-1"),
        };
        let origin = match own {
            Some(_) => Origin::Own,
            None => Origin::Arrives,
        };
        let packet = Packet {
            source,
            destination: to,
            protocol,
            origin,
        };
        (node, packet)
    }

    pub(crate) fn machine(&self, node: &str, remembered: &BTreeSet<Memory>) -> Machine {
        let own = self.addresses[node];
        Machine {
            addresses: [own].into(),
            outgoing: Some(own),
            remembered: remembered.clone(),
        }
    }

    /// What becomes of a packet that meets a node, and perhaps another node after it.
    pub(crate) fn through(
        &self,
        node: &str,
        packet: Packet,
        remembered: &BTreeSet<Memory>,
    ) -> BTreeSet<End> {
        let machine = self.machine(node, remembered);
        let mut ends = BTreeSet::new();
        for way in trace(&self.rulesets[node], &machine, packet) {
            match way.end {
                End::Passed { to, source } => match self.node_at(to.ip()) {
                    Some(next) if next != node => {
                        let source = SocketAddr::new(source, packet.source.port());
                        let origin = Origin::Arrives;
                        let onward = Packet {
                            source,
                            destination: to,
                            origin,
                            ..packet
                        };
                        ends.extend(self.through(next, onward, remembered));
                    }
                    Some(_) | None => {
                        ends.insert(End::Passed { to, source });
                    }
                },
                end @ (End::Rejected | End::Dropped) => {
                    ends.insert(end);
                }
            }
        }
        ends
    }

    fn node_at(&self, ip: IpAddr) -> Option<&str> {
        self.rulesets
            .keys()
            .map(String::as_str)
            .find(|node| self.addresses[*node] == ip)
    }

    pub(crate) fn judge(&self, asked: SocketAddr, ends: &BTreeSet<End>) -> Outcome {
        let name_of = |ip: &IpAddr| {
            let mut names = self.addresses.iter().filter(|(_, address)| *address == ip);
            names
                .next()
                .map_or_else(|| ip.to_string(), |(name, _)| name.clone())
        };
        let mut by = BTreeSet::new();
        let mut seen_as = BTreeSet::new();
        for end in ends {
            match end {
                End::Rejected => return Outcome::Rejected,
                End::Dropped => return Outcome::Dropped,
                End::Passed { to, .. } if *to == asked && !self.is_pod(to.ip()) => {
                    assert!(
                        !self.service_addresses.contains(&to.ip()),
                        "{to} was let through"
                    );
                    return Outcome::Untouched;
                }
                End::Passed { to, source } => {
                    by.insert(name_of(&to.ip()));
                    seen_as.insert(name_of(source));
                }
            }
        }
        let seen_as = seen_as.into_iter().collect::<Vec<_>>().join(", ");
        Outcome::Answered {
            by: by.into_iter().collect(),
            seen_as,
        }
    }

    fn is_pod(&self, ip: IpAddr) -> bool {
        self.nodes_of_pods
            .keys()
            .any(|pod| self.addresses[pod] == ip)
    }
}

/// Everybody whom a scenario names, in one family.
pub(crate) fn addresses(scenario: &Scenario, family: Family) -> BTreeMap<String, IpAddr> {
    let address = |text: &str| family.address(text.parse().expect("an address"));
    let mut addresses: BTreeMap<String, IpAddr> = NODES
        .iter()
        .map(|(name, ip)| ((*name).to_owned(), address(ip)))
        .collect();
    addresses.insert("client".to_owned(), address(CLIENT_IP));
    for (index, pod) in scenario.pods.iter().enumerate() {
        let node = if pod.node == "node-1" { 0 } else { 1 };
        let ip = address(&format!("10.42.{node}.{}", index + 5));
        addresses.insert(pod.name.clone(), ip);
    }
    addresses
}

/// The zone that a scenario's objects put a node into.
pub(crate) fn zone_of<'a>(objects: &'a [Value], node: &str) -> Option<&'a str> {
    let mut nodes = objects.iter().filter(|object| object["kind"] == "Node");
    let node = nodes.find(|object| object["metadata"]["name"] == node)?;
    node["metadata"]["labels"]["topology.kubernetes.io/zone"].as_str()
}

/// What a node's proxy knows in a cluster of those families.
fn settings(node: &str, zone: Option<&str>, stack: Stack) -> Settings {
    let (_, ip) = NODES
        .iter()
        .find(|(name, _)| *name == node)
        .expect("a node");
    let families = || stack.families().iter();
    let ranges = |v4: &str, v6: &str| {
        let of_family = |family: &Family| match family {
            Family::V4 => v4.parse().expect("a CIDR"),
            Family::V6 => v6.parse().expect("a CIDR"),
        };
        families().map(of_family).collect()
    };
    let ip: IpAddr = ip.parse().expect("an address");
    Settings {
        node_name: node.to_owned(),
        zone: zone.map(str::to_owned),
        node_ips: families().map(|family| family.address(ip)).collect(),
        cluster_cidrs: ranges("10.42.0.0/16", "fd64::10.42.0.0/112"),
        pod_cidrs: match node {
            "node-1" => ranges("10.42.0.0/24", "fd64::10.42.0.0/120"),
            _ => ranges("10.42.1.0/24", "fd64::10.42.1.0/120"),
        },
        service_cidrs: ranges("10.0.128.0/17", "fd64::10.0.128.0/113"),
        peers: NODES
            .iter()
            .flat_map(|(_, ip)| families().map(|family| family.address(ip.parse().expect("an IP"))))
            .collect(),
        ..Settings::default()
    }
}

type Services = BTreeMap<ServiceKey, (Arc<Service>, Vec<Arc<EndpointSlice>>)>;

/// Services with the slices that users wrote or the endpoints controller would.
fn services(objects: &[Value], scenario: &Scenario, stack: Stack) -> Services {
    let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
    let mut services = Services::new();
    for object in of_kind("Service") {
        let mut object = object.clone();
        if let Some(ip) = object["spec"]["loadBalancerIP"].as_str() {
            let ip: IpAddr = ip.parse().expect("an address");
            let ips = stack.families().iter().map(|family| family.address(ip));
            let ingress: Vec<Value> = ips.map(|ip| json!({ "ip": ip })).collect();
            object["status"] = json!({ "loadBalancer": { "ingress": ingress } });
        }
        let service: Service = serde_json::from_value(object).expect("a Service");
        let name = service.metadata.name.clone().expect("a name");
        let mut slices: Vec<Arc<EndpointSlice>> = of_kind("EndpointSlice")
            .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name)
            .map(|slice| Arc::new(serde_json::from_value(slice.clone()).expect("a slice")))
            .collect();
        for family in stack.families() {
            let addresses = addresses(scenario, *family);
            let pods = scenario.pods.iter();
            slices.extend(pods.filter_map(|pod| {
                let zone = zone_of(objects, &pod.node);
                slice_of(&service, pod, addresses[&pod.name], zone)
            }));
        }
        services.insert(
            ServiceKey::new("default", name),
            (Arc::new(service), slices),
        );
    }
    services
}

/// One slice per pod: target ports may resolve differently in each.
fn slice_of(
    service: &Service,
    pod: &Pod,
    address: IpAddr,
    zone: Option<&str>,
) -> Option<Arc<EndpointSlice>> {
    let service = serde_json::to_value(service).expect("JSON");
    let selector = service["spec"]["selector"].as_object()?;
    let chosen = selector
        .iter()
        .all(|(key, value)| pod.labels.get(key).map(String::as_str) == value.as_str());
    if !chosen {
        return None;
    }
    let ports: Vec<Value> = service["spec"]["ports"]
        .as_array()?
        .iter()
        .filter_map(|port| {
            let number = match &port["targetPort"] {
                Value::String(name) => Value::from(
                    pod.ports
                        .iter()
                        .find(|(own, _)| own == name)
                        .map(|(_, port)| *port)?,
                ),
                Value::Null => port["port"].clone(),
                number => number.clone(),
            };
            let name = port["name"].as_str().unwrap_or_default();
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            Some(json!({ "name": name, "port": number, "protocol": protocol }))
        })
        .collect();
    let published = service["spec"]["publishNotReadyAddresses"] == true;
    let endpoint = json!({
        "addresses": [address],
        "nodeName": pod.node,
        "conditions": {
            "ready": published || pod.state == PodState::Ready,
            "serving": pod.state != PodState::Unready,
            "terminating": pod.state == PodState::Leaving,
        },
        "hints": hints(&service, pod, zone),
    });
    let address_type = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let slice = json!({ "addressType": address_type, "ports": ports, "endpoints": [endpoint] });
    Some(Arc::new(serde_json::from_value(slice).expect("a slice")))
}

/// What a Service's traffic distribution makes the endpoints controller hint.
fn hints(service: &Value, pod: &Pod, zone: Option<&str>) -> Value {
    let named = |name: Option<&str>| name.map(|name| json!([{ "name": name }]));
    let ready = pod.state == PodState::Ready || service["spec"]["publishNotReadyAddresses"] == true;
    match service["spec"]["trafficDistribution"].as_str() {
        Some("PreferSameNode") if ready => {
            json!({ "forNodes": named(Some(&pod.node)), "forZones": named(zone) })
        }
        Some("PreferClose" | "PreferSameZone") if ready => json!({ "forZones": named(zone) }),
        _ => Value::Null,
    }
}
