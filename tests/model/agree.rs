//! The rules against the model: drawn clusters and written scenarios, by the tracer and by real packets.

use std::{collections::BTreeSet, net::SocketAddr, path::Path};

use k8s_openapi::api::core::v1::Service;
use knarr_netproxy::nftables::trace::{End, trace as follow};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use super::{Cluster, Fate, draw};
use crate::{
    lab::family::Stack,
    packets,
    scenario::{Outcome, Row, Scenario},
    trace::{self, Memory, World, zone_of},
};

/// Drawn Services that meet real packets in one run.
const LAB_CASE_COUNT: usize = 30;
/// Rows asked of each of them; a dropped packet costs a second.
const LAB_ROWS_PER_CASE: usize = 2;

impl Cluster {
    /// The cluster of a traced scenario, in the same family.
    fn of(scenario: &Scenario, world: &World, stack: Stack) -> Self {
        let objects = scenario.objects(stack, |name, family| {
            Some(trace::addresses(scenario, family).get(name)?.to_string())
        });
        let of_kind = |kind: &'static str| objects.iter().filter(move |o| o["kind"] == kind);
        let read = |object: &Value| -> Service {
            let mut object = object.clone();
            if let Some(ip) = object["spec"]["loadBalancerIP"].as_str() {
                let ip = world.family.address(ip.parse().expect("an address"));
                object["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": ip }] } });
            }
            serde_json::from_value(object).expect("a Service")
        };
        let node = |name: &str| (name.to_owned(), zone_of(&objects, name).map(str::to_owned));
        let range = |text: &str| world.family.net(text.parse().expect("a range"));
        Self {
            nodes: ["node-1", "node-2"].map(node).into(),
            pods: scenario.pods.clone(),
            services: of_kind("Service").map(read).collect(),
            slices: of_kind("EndpointSlice")
                .map(|slice| serde_json::from_value(slice.clone()).expect("a slice"))
                .collect(),
            addresses: world.addresses.clone(),
            pod_range: range("10.42.0.0/16"),
            service_range: range("10.0.128.0/17"),
        }
    }

    /// Where the model says that a row's packet can end, in the tracer's words.
    fn ends(&self, world: &World, row: &Row) -> BTreeSet<End> {
        let (_, packet) = world.start(row);
        let fate = self.fate(&row.from, packet.destination, row.protocol);
        ends(fate, packet.destination)
    }
}

/// Runs `compare` for each family of a scenario's cluster.
fn in_each_family(
    scenario: &Scenario,
    stacks: &[Stack],
    mut compare: impl FnMut(&World, &Cluster),
) {
    for stack in stacks.iter().copied() {
        for world in World::each_family_of(scenario, stack) {
            compare(&world, &Cluster::of(scenario, &world, stack));
        }
    }
}

fn ends(fate: Fate, to: SocketAddr) -> BTreeSet<End> {
    match fate {
        Fate::Answered(ways) => ways
            .into_iter()
            .map(|(to, source)| End::Passed { to, source })
            .collect(),
        Fate::Rejected => [End::Rejected].into(),
        Fate::Dropped => [End::Dropped].into(),
        Fate::Untouched(source) => [End::Passed { to, source }].into(),
    }
}

#[test]
fn every_scenario_says_what_the_model_says() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios"));
    let mut wrong = Vec::new();
    for scenario in Scenario::all(folder) {
        in_each_family(&scenario, &Stack::ALL, |world, cluster| {
            for row in &scenario.rows {
                let to = world.start(row).1.destination;
                let judged = match (world.judge(to, &cluster.ends(world, row)), &row.outcome) {
                    (Outcome::Answered { by, seen_as }, Outcome::Kept { .. }) => Outcome::Kept {
                        by_one_of: by,
                        seen_as,
                    },
                    (judged, _) => judged,
                };
                if judged != row.outcome {
                    let family = world.family;
                    wrong.push(format!(
                        "{} ({family:?}): {row:?}\n  but {judged:?}",
                        scenario.name
                    ));
                }
            }
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A failing cluster is printed whole, so no file remembers it.
fn drawn(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(drawn(64))]

    #[test]
    fn the_rules_do_what_kubernetes_does(text in draw::a_cluster()) {
        let scenario = Scenario::parse("drawn", &text).expect("a scenario");
        let mut wrong = Vec::new();
        in_each_family(&scenario, &Stack::ALL, |world, cluster| {
            for row in &scenario.rows {
                let (found, wanted) = (world.ends(row), cluster.ends(world, row));
                if found != wanted {
                    wrong.push((world.family, row.clone(), found, wanted));
                }
            }
        });
        prop_assert_eq!(wrong, vec![], "in\n{}", text);
    }
}

proptest! {
    #![proptest_config(drawn(12))]

    #[test]
    fn a_client_that_came_before_meets_its_backend_again(text in draw::a_cluster()) {
        let scenario = Scenario::parse("drawn", &text).expect("a scenario");
        let mut wrong = Vec::new();
        in_each_family(&scenario, &[Stack::Dual], |world, cluster| {
            for first in &scenario.rows {
                for (memory, backend) in remembered(world, first) {
                    for row in alike(world, cluster, &scenario.rows, first) {
                        let (node, packet) = world.start(row);
                        let found = world.through(node, packet, &[memory.clone()].into());
                        let to = packet.destination;
                        let fate = cluster.fate_after(&row.from, to, row.protocol, Some(backend));
                        let wanted = ends(fate, to);
                        if found != wanted {
                            wrong.push((row.clone(), first.clone(), found, wanted));
                        }
                    }
                }
            }
        });
        prop_assert_eq!(wrong, vec![], "in\n{}", text);
    }
}

/// What the first node remembers of a row's client, with the backend it got, one for each way.
fn remembered(world: &World, row: &Row) -> Vec<(Memory, SocketAddr)> {
    let (node, packet) = world.start(row);
    let machine = world.machine(node, &BTreeSet::new());
    let ways = follow(&world.rulesets[node], &machine, packet).into_iter();
    ways.filter_map(|way| match (way.remembers, way.end) {
        (Some(memory), End::Passed { to, .. }) => Some((memory, to)),
        _ => None,
    })
    .collect()
}

/// Rows of the same client to any address of the same service port, at the same node.
fn alike<'a>(world: &World, cluster: &Cluster, rows: &'a [Row], first: &Row) -> Vec<&'a Row> {
    let port = |row: &Row| {
        let to = world.start(row).1.destination;
        cluster.service_port(&row.from, to, row.protocol)
    };
    let wanted = port(first);
    rows.iter()
        .filter(|row| row.from == first.from && port(row) == wanted)
        .collect()
}

/// A seed for this run: the given one, or another each time.
fn seed() -> u64 {
    let given = std::env::var("KNARR_SEED").ok();
    given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        clock.map_or(1, |elapsed| elapsed.as_secs())
    })
}

#[test]
fn drawn_services_answer_real_packets_as_the_model_says() {
    let seed = seed();
    println!("KNARR_SEED={seed} draws these {LAB_CASE_COUNT} Services again");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut cases = Vec::new();
    for _ in 0..LAB_CASE_COUNT {
        cases.push(
            draw::a_case()
                .new_tree(&mut runner)
                .expect("a case")
                .current(),
        );
    }
    let (text, counts) = draw::for_lab(&cases);
    let mut scenario = Scenario::parse("drawn", &text).expect("a scenario");
    let world = World::each_family_of(&scenario, Stack::V4).remove(0);
    let cluster = Cluster::of(&scenario, &world, Stack::V4);
    let mut left = std::mem::take(&mut scenario.rows).into_iter();
    for count in counts {
        let own = left.by_ref().take(count).map(|row| {
            let (_, packet) = world.start(&row);
            let outcome = world.judge(packet.destination, &cluster.ends(&world, &row));
            Row { outcome, ..row }
        });
        let mut own: Vec<Row> = own.filter(|row| tellable(&row.outcome)).collect();
        own.sort_by_cached_key(|_| runner.rng().next_u32());
        scenario
            .rows
            .extend(own.into_iter().take(LAB_ROWS_PER_CASE));
    }
    println!("{} rows", scenario.rows.len());
    packets::run(&scenario, Stack::V4);
}

/// Whether a client can tell: one source for all backends, and nobody's address left alone.
fn tellable(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Answered { seen_as, .. } => !seen_as.contains(','),
        Outcome::Rejected | Outcome::Dropped => true,
        Outcome::Kept { .. } | Outcome::Untouched => false,
    }
}
