//! Every scenario with real sockets: the lab runs its pods, the rows are asked from where they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    lab::{
        family::{Family, Stack},
        machine::Outsider,
        probe::{self, Outcome as Probed},
        wait,
        world::World,
    },
    scenario::{Outcome, Pod, PodState, Protocol, Row, Scenario},
};

const READY_TIME_MAX: Duration = Duration::from_secs(40);
const ROW_TIME_MAX: Duration = Duration::from_secs(15);
/// Enough that each of a handful of backends is met, and a wrong one too.
const TRIES_PER_BACKEND: usize = 12;

/// Names of pods and machines, and the addresses that packets of theirs bear, in one family.
struct Addresses {
    family: Family,
    of_names: BTreeMap<String, Vec<String>>,
    /// Load-balancer IPs that scenarios name, and those given in their place.
    given: BTreeMap<IpAddr, IpAddr>,
}

impl Addresses {
    fn of(&self, name: &str) -> Option<String> {
        self.of_names.get(name)?.first().cloned()
    }

    fn name_of(&self, ip: &str) -> String {
        let found = self
            .of_names
            .iter()
            .find(|(_, addresses)| addresses.iter().any(|address| address == ip));
        found.map_or_else(|| ip.to_owned(), |(name, _)| name.clone())
    }

    fn destination(&self, row: &Row) -> SocketAddr {
        let to = row.to(self.family, |name, _| self.of(name));
        SocketAddr::new(
            self.given.get(&to.ip()).copied().unwrap_or(to.ip()),
            to.port(),
        )
    }
}

/// Runs a scenario once, and asks its rows in each family that its cluster has.
pub(crate) fn run(scenario: &Scenario, stack: Stack) {
    let places = scenario
        .pods
        .iter()
        .map(|pod| &pod.node)
        .chain(scenario.rows.iter().map(|row| &row.from));
    let numbers = places.filter_map(|name| name.strip_prefix("node-")?.parse::<usize>().ok());
    let world = World::running_with(stack, numbers.max().unwrap_or(1));
    let leads_outside = |row: &Row| matches!(&row.outcome, Outcome::Answered { by, .. } if by.contains(&"client".to_owned()));
    let _client_answers = scenario
        .rows
        .iter()
        .any(leads_outside)
        .then(|| Outsider::answers(&world.client, "client"));
    for pod in &scenario.pods {
        world.post("/api/v1/namespaces/default/pods", &manifest(pod));
    }
    let mut families: Vec<Addresses> = world
        .families()
        .iter()
        .map(|family| addresses(&world, scenario, *family))
        .collect();
    let objects = scenario.objects(stack, |name, family| {
        let of_family = families.iter().find(|addresses| addresses.family == family);
        of_family?.of(name)
    });
    for object in &objects {
        world.apply(&object.to_string());
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("/api/v1/namespaces/default/services/{name}");
        if object["status"].is_object() {
            let status = json!({ "status": object["status"] });
            world.merge(&format!("{path}/status"), &status);
        }
        if let Some(requested) = object["spec"]["loadBalancerIP"].as_str() {
            let requested = requested.parse().expect("an address");
            note_given(&world, &path, requested, &mut families);
        }
    }
    for pod in scenario
        .pods
        .iter()
        .filter(|pod| pod.state == PodState::Leaving)
    {
        world.delete(&format!("/api/v1/namespaces/default/pods/{}", pod.name));
    }
    for addresses in &families {
        let mut kept = BTreeMap::new();
        for row in scenario.rows.iter().filter(|row| can_be_sent(row)) {
            let family = addresses.family;
            let what = format!("{} ({}): {family:?} {row:?}", scenario.name, scenario.title);
            wait::until(&what, ROW_TIME_MAX, || {
                check(&world, addresses, row, &mut kept).map_err(|why| (why, world.logs()))
            });
        }
    }
}

/// Many kernels are built without SCTP, and the lab's pods do not speak it.
fn can_be_sent(row: &Row) -> bool {
    if row.protocol != Protocol::Sctp {
        return true;
    }
    let why = match (probe::sctp_socket(libc::AF_INET), &row.outcome) {
        (Err(error), _) => error.to_string(),
        (Ok(_), Outcome::Answered { .. } | Outcome::Kept { .. }) => "no pod speaks it".to_owned(),
        (Ok(_), Outcome::Rejected | Outcome::Dropped | Outcome::Untouched) => return true,
    };
    println!("skipped: {} -> {} over SCTP: {why}", row.from, row.to);
    false
}

/// A Service can ask for one load-balancer IP; that of another family is the pool's choice.
fn note_given(world: &World, path: &str, requested: IpAddr, families: &mut [Addresses]) {
    let given: Vec<IpAddr> = wait::until("load-balancer IPs", READY_TIME_MAX, || {
        let status = world.get(path)["status"].clone();
        let ingress = status["loadBalancer"]["ingress"].as_array();
        let ips = ingress.into_iter().flatten();
        let ips: Vec<IpAddr> = ips
            .filter_map(|ingress| ingress["ip"].as_str()?.parse().ok())
            .collect();
        if ips.len() == families.len() {
            Ok(ips)
        } else {
            Err((status, world.logs()))
        }
    });
    for addresses in families {
        let named = addresses.family.address(requested);
        let own = given
            .iter()
            .find(|ip| Family::of(**ip) == addresses.family)
            .expect("one of each family");
        addresses.given.insert(named, *own);
    }
}

fn manifest(pod: &Pod) -> Value {
    let Pod {
        name,
        labels,
        node,
        ports,
        state,
    } = pod;
    let numbers: Vec<String> = ports
        .iter()
        .flat_map(|(_, number)| ["--port".to_owned(), number.to_string()])
        .collect();
    let declared: Vec<Value> = ports
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, number)| json!({"name": name, "containerPort": number}))
        .collect();
    let probe = match state {
        PodState::Ready | PodState::Leaving => json!({"tcpSocket": {"port": ports[0].1}}),
        PodState::Unready => json!({"exec": {"command": ["false"]}}),
    };
    // A leaving pod goes on answering until long after the rows are asked.
    let drain_ms = if *state == PodState::Leaving {
        "100000"
    } else {
        "0"
    };
    let command: Vec<String> = ["knarr", "echo", "--drain-ms", drain_ms]
        .map(str::to_owned)
        .into_iter()
        .chain(numbers)
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": if *state == PodState::Leaving { 100 } else { 1 },
            "containers": [{"name": "echo", "command": command, "ports": declared, "readinessProbe": probe}],
        },
    })
}

/// Waits until every pod has its address and is as ready as it should be.
fn addresses(world: &World, scenario: &Scenario, family: Family) -> Addresses {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    found.insert("client".into(), vec![World::client_ip(family)]);
    for node in &world.nodes {
        // The uplink first: it is what others call the node.
        let listed = node.netns.sh(match family {
            Family::V4 => "ip -o -4 addr show scope global",
            Family::V6 => "ip -o -6 addr show scope global",
        });
        let mut ips: Vec<String> = listed
            .split_whitespace()
            .filter_map(|word| Some(word.split_once('/')?.0.to_owned()))
            .collect();
        ips.retain(|ip| *ip != node.ip_in(family));
        ips.insert(0, node.ip_in(family));
        found.insert(node.netns.name.clone(), ips);
    }
    for pod in &scenario.pods {
        let ip = wait::until(&format!("{} runs", pod.name), READY_TIME_MAX, || {
            let object = world.get(&format!("/api/v1/namespaces/default/pods/{}", pod.name));
            let conditions = object["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let ready = conditions
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True");
            let running = object["status"]["phase"] == "Running";
            let ips = object["status"]["podIPs"].as_array();
            let mut ips = ips.into_iter().flatten().filter_map(|ip| ip["ip"].as_str());
            let of_family = |ip: &&str| ip.parse().is_ok_and(|ip: IpAddr| Family::of(ip) == family);
            match ips.find(of_family) {
                Some(ip) if running && ready == (pod.state != PodState::Unready) => {
                    Ok(ip.to_owned())
                }
                _ => Err((object["status"].clone(), world.logs())),
            }
        });
        found.insert(pod.name.clone(), vec![ip]);
    }
    Addresses {
        family,
        of_names: found,
        given: BTreeMap::new(),
    }
}

fn check(
    world: &World,
    addresses: &Addresses,
    row: &Row,
    kept: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    let to = addresses.destination(row);
    match &row.outcome {
        Outcome::Answered { by, seen_as } => {
            let met = met(world, addresses, row, to, by.len(), seen_as)?;
            if met == by.iter().cloned().collect() {
                Ok(())
            } else {
                Err(format!("answered by {met:?}"))
            }
        }
        Outcome::Kept { by_one_of, seen_as } => {
            let met = met(world, addresses, row, to, by_one_of.len(), seen_as)?;
            let first = met.first().cloned().unwrap_or_default();
            let known = kept.entry(row.from.clone()).or_insert(first);
            if met == BTreeSet::from([known.clone()]) && by_one_of.contains(known) {
                Ok(())
            } else {
                Err(format!("answered by {met:?}, and before by {known}"))
            }
        }
        Outcome::Dropped => expect(ask(world, row, to), Probed::Dropped),
        // The host's own refusal and ours look alike to a client.
        Outcome::Rejected | Outcome::Untouched => expect(ask(world, row, to), Probed::Rejected),
    }
}

/// Everybody who answers over many tries.
fn met(
    world: &World,
    addresses: &Addresses,
    row: &Row,
    to: SocketAddr,
    backend_count: usize,
    seen_as: &str,
) -> Result<BTreeSet<String>, String> {
    let mut met = BTreeSet::new();
    for _ in 0..backend_count * TRIES_PER_BACKEND {
        match ask(world, row, to) {
            Probed::Answered { by, seen_as: ip } => {
                let seen = addresses.name_of(&ip);
                if seen != seen_as {
                    return Err(format!("{by} saw {seen}"));
                }
                met.insert(by);
            }
            other => return Err(format!("{other:?}")),
        }
    }
    Ok(met)
}

fn expect(found: Probed, wanted: Probed) -> Result<(), String> {
    if found == wanted {
        Ok(())
    } else {
        Err(format!("{found:?}"))
    }
}

fn ask(world: &World, row: &Row, to: SocketAddr) -> Probed {
    let protocol = match row.protocol {
        Protocol::Tcp => probe::Protocol::Tcp,
        Protocol::Udp => probe::Protocol::Udp,
        Protocol::Sctp => probe::Protocol::Sctp,
        Protocol::Icmp => probe::Protocol::Icmp,
    };
    let machine = if row.from == "client" {
        Some(&world.client)
    } else {
        world
            .nodes
            .iter()
            .map(|n| &n.netns)
            .find(|n| n.name == row.from)
    };
    match machine {
        Some(netns) => netns.run(move || probe::ask(protocol, to)),
        None => probe::ask_from(&world.pod_netns(&row.from), protocol, to),
    }
}

/// One test a file, so that they run side by side and fail by name.
macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(&of_file(stringify!($name)), Stack::Dual);
        })*

        #[test]
        fn every_scenario_is_run() {
            let run: BTreeSet<String> = [$(stringify!($name).replace('_', "-")),*].into();
            let written: BTreeSet<String> = Scenario::all(Path::new(FOLDER)).into_iter().map(|s| s.name).collect();
            assert_eq!(run, written);
        }
    };
}

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");

fn of_file(name: &str) -> Scenario {
    let file = name.replace('_', "-");
    Scenario::read(&Path::new(FOLDER).join(format!("{file}.md")))
}

/// Those that meet every kind of frontend, in clusters of one family.
#[test]
fn cluster_ip_without_ipv4() {
    run(&of_file("cluster_ip"), Stack::V6);
}

#[test]
fn node_port_without_ipv4() {
    run(&of_file("node_port"), Stack::V6);
}

#[test]
fn load_balancer_ip_without_ipv4() {
    run(&of_file("load_balancer_ip"), Stack::V6);
}

#[test]
fn node_port_without_ipv6() {
    run(&of_file("node_port"), Stack::V4);
}

scenarios! {
    affinity
    cluster_ip
    duplicates
    external_ip
    external_addresses_local
    external_policy_local
    hairpin
    hints
    internal_policy_local
    leaving
    leaving_everywhere
    leaving_local
    load_balancer_ip
    load_balancer_proxy
    manual_slice
    nobody_answers
    node_port
    not_proxied
    other_proxy
    outside
    ports_by_name
    same_number
    sctp
    several_slices
    source_ranges
    source_ranges_inside
    topology
    two_policies
    unready
}
