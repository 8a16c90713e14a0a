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
use knarr_netproxy_plan::{Family, ServiceKey, Settings, Snapshot, check, plan};
use serde_json::{Value, json};

use crate::scenario::{Outcome, Pod, PodState, Protocol, Row, Scenario};

const CLIENT_IP: &str = "10.78.0.2";
const NODES: [(&str, &str); 2] = [("node-1", "10.77.0.11"), ("node-2", "10.77.0.12")];

#[test]
fn every_packet_ends_where_its_scenario_says() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios"));
    let mut wrong = Vec::new();
    for scenario in Scenario::all(folder) {
        let world = World::of(&scenario);
        for row in &scenario.rows {
            let outcome = world.outcome(row, &scenario.rows);
            if outcome != row.outcome {
                wrong.push(format!("{}: {row:?}\n  but {outcome:?}", scenario.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A client that a set of a ruleset remembers.
type Memory = (Name, Vec<u8>);

/// A scenario's cluster, as far as packets can tell.
struct World {
    addresses: BTreeMap<String, IpAddr>,
    nodes_of_pods: BTreeMap<String, String>,
    rulesets: BTreeMap<String, Ruleset>,
    service_addresses: BTreeSet<IpAddr>,
}

impl World {
    fn of(scenario: &Scenario) -> Self {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mut addresses: BTreeMap<String, IpAddr> = NODES
            .iter()
            .map(|(name, ip)| ((*name).to_owned(), address(ip)))
            .collect();
        addresses.insert("client".to_owned(), address(CLIENT_IP));
        for (index, pod) in scenario.pods.iter().enumerate() {
            let node = if pod.node == "node-1" { 0 } else { 1 };
            addresses.insert(
                pod.name.clone(),
                address(&format!("10.42.{node}.{}", index + 5)),
            );
        }
        let objects = scenario.objects(|name| addresses.get(name).map(ToString::to_string));
        let services = services(&objects, &scenario.pods, &addresses);
        let mut service_addresses = BTreeSet::new();
        let rulesets = NODES
            .iter()
            .map(|(node, ip)| {
                let settings = Settings {
                    node_name: (*node).to_owned(),
                    node_ips: vec![address(ip)],
                    cluster_cidrs: ["10.42.0.0/16".parse().expect("a CIDR")].into(),
                    service_cidrs: ["10.0.128.0/17".parse().expect("a CIDR")].into(),
                    ..Settings::default()
                };
                let (plan, warnings) = plan(&Snapshot {
                    settings,
                    services: services.clone(),
                });
                assert_eq!(
                    (warnings, check(&plan)),
                    (vec![], vec![]),
                    "{}",
                    scenario.name
                );
                service_addresses.extend(plan.cluster_ips.keys().copied());
                service_addresses.extend(plan.load_balancer_ips.keys().copied());
                ((*node).to_owned(), Ruleset::of(&plan, Family::V4))
            })
            .collect();
        let pods = scenario.pods.iter();
        let nodes_of_pods = pods
            .map(|pod| (pod.name.clone(), pod.node.clone()))
            .collect();
        Self {
            addresses,
            nodes_of_pods,
            rulesets,
            service_addresses,
        }
    }

    fn outcome(&self, row: &Row, rows: &[Row]) -> Outcome {
        let (node, packet) = self.start(row);
        let ends = self.through(node, packet, &BTreeSet::new());
        match self.judge(packet.destination, &ends) {
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

    /// The node that a row's packet meets first, and the packet.
    fn start(&self, row: &Row) -> (&str, Packet) {
        let to = row.to(|name| self.addresses.get(name).map(ToString::to_string));
        let source = SocketAddr::new(self.addresses[&row.from], 40_000);
        let protocol = match row.protocol {
            Protocol::Icmp => 1,
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
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

    fn machine(&self, node: &str, remembered: &BTreeSet<Memory>) -> Machine {
        let own = self.addresses[node];
        Machine {
            addresses: [own].into(),
            outgoing: Some(own),
            remembered: remembered.clone(),
        }
    }

    /// What becomes of a packet that meets a node, and perhaps another node after it.
    fn through(&self, node: &str, packet: Packet, remembered: &BTreeSet<Memory>) -> BTreeSet<End> {
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

    fn judge(&self, asked: SocketAddr, ends: &BTreeSet<End>) -> Outcome {
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

type Services = BTreeMap<ServiceKey, (Arc<Service>, Vec<Arc<EndpointSlice>>)>;

/// Services with the slices that users wrote or the endpoints controller would.
fn services(objects: &[Value], pods: &[Pod], addresses: &BTreeMap<String, IpAddr>) -> Services {
    let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
    let mut services = Services::new();
    for object in of_kind("Service") {
        let mut object = object.clone();
        if let Some(ip) = object["spec"]["loadBalancerIP"].as_str() {
            let ingress = json!([{ "ip": ip }]);
            object["status"] = json!({ "loadBalancer": { "ingress": ingress } });
        }
        let service: Service = serde_json::from_value(object).expect("a Service");
        let name = service.metadata.name.clone().expect("a name");
        let mut slices: Vec<Arc<EndpointSlice>> = of_kind("EndpointSlice")
            .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name)
            .map(|slice| Arc::new(serde_json::from_value(slice.clone()).expect("a slice")))
            .collect();
        slices.extend(
            pods.iter()
                .filter_map(|pod| slice_of(&service, pod, addresses)),
        );
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
    addresses: &BTreeMap<String, IpAddr>,
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
        "addresses": [addresses[&pod.name].to_string()],
        "nodeName": pod.node,
        "conditions": {
            "ready": published || pod.state == PodState::Ready,
            "serving": published || pod.state != PodState::Unready,
            "terminating": pod.state == PodState::Leaving,
        },
    });
    let slice = json!({ "addressType": "IPv4", "ports": ports, "endpoints": [endpoint] });
    Some(Arc::new(serde_json::from_value(slice).expect("a slice")))
}
