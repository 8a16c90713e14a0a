//! Programs 1, 1,000 and 10,000 Services of five endpoints in a fresh network namespace, then changes one endpoint:
//! our time and memory, beside one `send` of the encoded batch, which is the kernel's own, and beside `nft -f` of the same
//! table and the same Services in the shapes that kube-proxy gives them.

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
    edits::edits,
    text::render,
    wire::{Socket, encode},
};
use knarr_netproxy_plan::{Family, Planner, ServiceKey, Settings, Snapshot, plan};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use crate::{Row, Samples, idle, shapes, show};

const ENDPOINTS: usize = 5;
const CHANGES: usize = 200;
const ROUNDS: usize = 3;

/// kube-proxy's shapes take the kernel quadratic time: 10,000 Services would be most of a minute each.
const PEER_SERVICES: usize = 1_000;

pub(crate) fn measure() -> Vec<Row> {
    let mut all: Vec<Row> = [1, 1_000, 10_000].into_iter().flat_map(rows).collect();
    all.extend(peers());
    all
}

fn rows(count: usize) -> [Row; 3] {
    let snapshot = snapshot(count);
    let median =
        |run: &(dyn Fn() -> Duration + Sync)| Samples::take(ROUNDS, || in_netns(run)).median();
    let floor = median(&|| floor(&snapshot));
    let text = {
        let (plan, _) = plan(&snapshot);
        render(&Ruleset::of(&plan, Family::V4))
    };
    let nft = median(&|| loaded(&["nft", "-f", "-"], &text).expect("nft is installed"));
    let runs: Vec<Times> = (0..ROUNDS)
        .map(|_| in_netns(|| programme(&snapshot)))
        .collect();
    let cold = Samples::new(runs.iter().map(|run| run.cold).collect());
    let cpu = Samples::new(runs.iter().map(|run| run.cold_cpu).collect());
    let peak_kib = runs.iter().map(|run| run.peak_kib).max().unwrap_or(0);
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
            format!("{}, of CPU {}", show(cold.median()), show(cpu.median())),
            format!("{}; `nft -f` {}", show(floor), show(nft)),
            "one send of the same batch; `nft` with the same text",
        ),
        row(
            "memory that takes at its peak",
            format!("{:.1} MiB", peak_kib as f64 / 1024.0),
            "none".to_owned(),
            "with the plan, without the objects it is made from",
        ),
        row(
            "one endpoint change (p50 / p99)",
            changes.show(),
            "none".to_owned(),
            "planned and programmed on top of the above",
        ),
    ]
}

/// The same Services as kube-proxy's backends write them, loaded by the tools that it uses.
fn peers() -> [Row; 2] {
    let row = |what: &str, command: &[&str], text: &str| Row {
        what: format!(
            "peer: {what} of kube-proxy, {PEER_SERVICES} Services x {ENDPOINTS}, loaded cold"
        ),
        figure: in_netns(|| loaded(command, text)).map_or("not installed".to_owned(), show),
        floor: "none".to_owned(),
        floor_is: "beside our cold programming of as many",
    };
    [
        row(
            "the nftables shape",
            &["nft", "-f", "-"],
            &shapes::nftables(PEER_SERVICES, ENDPOINTS),
        ),
        row(
            "the iptables shape",
            &["iptables-restore"],
            &shapes::iptables(PEER_SERVICES, ENDPOINTS),
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
    cold_cpu: Duration,
    peak_kib: u64,
    changes: Vec<Duration>,
}

fn programme(snapshot: &Snapshot) -> Times {
    let resident_kib = idle::resident_kib();
    idle::forget_peak();
    let start_cpu = thread_cpu();
    let start = Instant::now();
    let mut planner = Planner::new(snapshot.settings.clone());
    for (key, (service, slices)) in &snapshot.services {
        planner.put(key, service, slices.iter().map(AsRef::as_ref));
    }
    planner.settle();
    let mut dataplane = Nftables::open().expect("nftables");
    dataplane.sync(planner.plan()).expect("a sync");
    let cold = start.elapsed();
    let cold_cpu = thread_cpu() - start_cpu;
    let peak_kib = idle::peak_kib().saturating_sub(resident_kib);
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
    Times {
        cold,
        cold_cpu,
        peak_kib,
        changes,
    }
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

/// How long a tool takes to load a text; nothing if it is not installed.
fn loaded(command: &[&str], text: &str) -> Option<Duration> {
    let start = Instant::now();
    let mut tool = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .spawn()
        .ok()?;
    let mut stdin = tool.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("the tool reads");
    drop(stdin);
    assert!(tool.wait().expect("the tool ends").success());
    Some(start.elapsed())
}

/// What this thread has used of a CPU, in the kernel and outside.
fn thread_cpu() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    Duration::from(clock.now().expect("every thread has such a clock"))
}

fn snapshot(count: usize) -> Snapshot {
    let services: BTreeMap<_, _> = (0..count)
        .map(|index| {
            let ip = shapes::cluster_ip(index);
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
