//! Programs 1, 1,000 and 10,000 Services of five endpoints in a fresh network namespace, then changes one endpoint:
//! our time, beside `nft -f` of the same table and beside one `send` of the encoded batch, which is the kernel's own.

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use knarr_netproxy::nftables::{
    Nftables, Ruleset,
    ruleset::edits,
    text::render,
    wire::{Socket, encode},
};
use knarr_netproxy_plan::{Family, Planner, ServiceKey, Settings, Snapshot, plan};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use crate::{Row, Samples, show};

const ENDPOINTS: usize = 5;
const CHANGES: usize = 200;
const ROUNDS: usize = 3;

pub(crate) fn measure() -> Vec<Row> {
    [1, 1_000, 10_000].into_iter().flat_map(rows).collect()
}

fn rows(count: usize) -> [Row; 2] {
    let snapshot = snapshot(count);
    let median =
        |run: &(dyn Fn() -> Duration + Sync)| Samples::take(ROUNDS, || in_netns(run)).median();
    let floor = median(&|| floor(&snapshot));
    let nft = median(&|| nft(&snapshot));
    let runs: Vec<Times> = (0..ROUNDS)
        .map(|_| in_netns(|| programme(&snapshot)))
        .collect();
    let cold = Samples::new(runs.iter().map(|run| run.cold).collect());
    let changes = Samples::new(runs.into_iter().flat_map(|run| run.changes).collect());
    let row = |what: &str, figure: String, floor: String, floor_is| Row {
        what: format!("{what}, {count} Services x {ENDPOINTS}"),
        figure,
        floor,
        floor_is,
    };
    [
        row(
            "cold programming",
            show(cold.median()),
            format!("{}; `nft -f` {}", show(floor), show(nft)),
            "one send of the same batch; `nft` with the same text",
        ),
        row(
            "one endpoint change (p50 / p99)",
            changes.show(),
            "none".to_owned(),
            "planned and programmed on top of the above",
        ),
    ]
}

fn in_netns<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
            run()
        });
        thread.join().expect("the run ends well")
    })
}

struct Times {
    cold: Duration,
    changes: Vec<Duration>,
}

fn programme(snapshot: &Snapshot) -> Times {
    let start = Instant::now();
    let mut planner = Planner::new(snapshot.settings.clone());
    for (key, (service, slices)) in &snapshot.services {
        planner.put(key, service, slices.iter().map(AsRef::as_ref));
    }
    planner.take_changes();
    let mut dataplane = Nftables::open().expect("nftables");
    dataplane.sync(planner.plan()).expect("a sync");
    let cold = start.elapsed();
    let (key, (service, _)) = snapshot.services.iter().next().expect("a Service");
    let changes = (0..CHANGES)
        .map(|round| {
            let changed = slice(0, 200 + round % 2);
            let start = Instant::now();
            planner.put(key, service, [&changed]);
            assert!(planner.warnings().is_empty());
            dataplane
                .sync_changes(&planner.take_changes())
                .expect("a sync");
            start.elapsed()
        })
        .collect();
    Times { cold, changes }
}

fn floor(snapshot: &Snapshot) -> Duration {
    let (plan, _) = plan(snapshot);
    let whole = edits(
        &Ruleset::absent(Family::V4),
        &Ruleset::of(&plan, Family::V4),
    );
    let batch = encode(&whole.change, Family::V4, None);
    let mut socket = Socket::open().expect("a socket");
    let start = Instant::now();
    socket.commit(&batch).expect("the kernel takes it");
    start.elapsed()
}

fn nft(snapshot: &Snapshot) -> Duration {
    let (plan, _) = plan(snapshot);
    let text = render(&Ruleset::of(&plan, Family::V4));
    let start = Instant::now();
    let nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn();
    let mut nft = nft.expect("nft is installed");
    let mut stdin = nft.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("nft reads");
    drop(stdin);
    assert!(nft.wait().expect("nft ends").success());
    start.elapsed()
}

fn snapshot(count: usize) -> Snapshot {
    let services: BTreeMap<_, _> = (0..count)
        .map(|index| {
            let ip = format!("10.0.{}.{}", 128 + index / 250, 1 + index % 250);
            let service: Service = serde_json::from_value(json!({
                "spec": { "clusterIP": ip, "ports": [{ "name": "a", "port": 80 }] },
            }))
            .expect("a Service");
            let key = ServiceKey::new("default", format!("s{index}"));
            (key, (Arc::new(service), vec![Arc::new(slice(index, 1))]))
        })
        .collect();
    let cidr = |text: &str| text.parse().expect("a CIDR");
    let settings = Settings {
        node_name: "node-1".to_owned(),
        cluster_cidrs: [cidr("10.42.0.0/16")].into(),
        service_cidrs: [cidr("10.0.128.0/17")].into(),
        ..Settings::default()
    };
    Snapshot { settings, services }
}

fn slice(service: usize, first: usize) -> EndpointSlice {
    let endpoints: Vec<_> = (0..ENDPOINTS)
        .map(|index| {
            let last = if index == 0 { first } else { 1 + index };
            json!({ "addresses": [format!("10.42.{}.{last}", service % 250)], "nodeName": "node-2" })
        })
        .collect();
    let ports = json!([{ "name": "a", "port": 8080 }]);
    let slice = json!({ "addressType": "IPv4", "endpoints": endpoints, "ports": ports });
    serde_json::from_value(slice).expect("a slice")
}
