//! Every scenario with real sockets: the lab runs its pods, the rows are asked from where they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    lab::{
        probe::{self, Outcome as Probed},
        wait,
        world::{CLIENT_IP, World},
    },
    scenario::{Outcome, Pod, PodState, Protocol, Row, Scenario},
};

const READY_TIME_MAX: Duration = Duration::from_secs(40);
const ROW_TIME_MAX: Duration = Duration::from_secs(15);
/// Enough that each of a handful of backends is met, and a wrong one too.
const TRIES_PER_BACKEND: usize = 12;

/// Names of pods and machines, and the addresses that packets of theirs bear.
struct Addresses(BTreeMap<String, Vec<String>>);

impl Addresses {
    fn of(&self, name: &str) -> Option<String> {
        self.0.get(name)?.first().cloned()
    }

    fn name_of(&self, ip: &str) -> String {
        let found = self
            .0
            .iter()
            .find(|(_, addresses)| addresses.iter().any(|address| address == ip));
        found.map_or_else(|| ip.to_owned(), |(name, _)| name.clone())
    }
}

pub(crate) fn run(scenario: &Scenario) {
    let places = scenario
        .pods
        .iter()
        .map(|pod| &pod.node)
        .chain(scenario.rows.iter().map(|row| &row.from));
    let numbers = places.filter_map(|name| name.strip_prefix("node-")?.parse::<usize>().ok());
    let world = World::running(numbers.max().unwrap_or(1));
    for pod in &scenario.pods {
        world.post("/api/v1/namespaces/default/pods", &manifest(pod));
    }
    let addresses = addresses(&world, scenario);
    for object in scenario.objects(|name| addresses.of(name)) {
        world.apply(&object.to_string());
        if object["status"].is_object() {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let path = format!("/api/v1/namespaces/default/services/{name}/status");
            world.merge(&path, &json!({ "status": object["status"] }));
        }
    }
    for pod in scenario
        .pods
        .iter()
        .filter(|pod| pod.state == PodState::Leaving)
    {
        world.delete(&format!("/api/v1/namespaces/default/pods/{}", pod.name));
    }
    let mut kept = BTreeMap::new();
    for row in &scenario.rows {
        let what = format!("{} ({}): {row:?}", scenario.name, scenario.title);
        wait::until(&what, ROW_TIME_MAX, || {
            check(&world, &addresses, row, &mut kept).map_err(|why| (why, world.logs()))
        });
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
fn addresses(world: &World, scenario: &Scenario) -> Addresses {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    found.insert("client".into(), vec![CLIENT_IP.into()]);
    for node in &world.nodes {
        // The uplink first: it is what others call the node.
        let listed = node.netns.sh("ip -o -4 addr show scope global");
        let mut ips: Vec<String> = listed
            .split_whitespace()
            .filter_map(|word| Some(word.split_once('/')?.0.to_owned()))
            .collect();
        ips.retain(|ip| *ip != node.ip);
        ips.insert(0, node.ip.clone());
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
            match object["status"]["podIP"].as_str() {
                Some(ip) if running && ready == (pod.state != PodState::Unready) => {
                    Ok(ip.to_owned())
                }
                _ => Err((object["status"].clone(), world.logs())),
            }
        });
        found.insert(pod.name.clone(), vec![ip]);
    }
    Addresses(found)
}

fn check(
    world: &World,
    addresses: &Addresses,
    row: &Row,
    kept: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    let to = row.to(|name| addresses.of(name));
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
            let file = stringify!($name).replace('_', "-");
            run(&Scenario::read(&Path::new(FOLDER).join(format!("{file}.md"))));
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

scenarios! {
    affinity
    cluster_ip
    external_ip
    external_policy_local
    hairpin
    internal_policy_local
    leaving
    leaving_local
    load_balancer_ip
    load_balancer_proxy
    manual_slice
    nobody_answers
    node_port
    other_proxy
    ports_by_name
    several_slices
    source_ranges
    unready
}
