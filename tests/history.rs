//! Many clients write, read and watch while the server is killed again and again; afterwards nobody may have been lied to.

mod checker;
mod clients;
mod record;
mod watchers;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::sys::signal::Signal;
use rand::{Rng, SeedableRng, rngs::StdRng};

use self::{
    clients::{Client, Target},
    record::{History, Selection},
    watchers::Style,
};
use crate::lab::world::World;

/// Chooses the clients' actions; the same seed asks for the same things, in whatever order they arrive.
const SEED_VARIABLE: &str = "KNARR_HISTORY_SEED";
/// How long clients work, in seconds.
const SECONDS_VARIABLE: &str = "KNARR_HISTORY_SECONDS";
const SECONDS_DEFAULT: u64 = 15;
const KILLS: u64 = 5;
const WRITERS: u64 = 6;
/// Watches begun after the load, each from another revision.
const PROBES: u64 = 60;
/// How long watchers may take to see the last write.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(60);

/// What all clients of one run share.
struct Shared {
    stopping: AtomicBool,
    tick: AtomicU64,
    value: AtomicU64,
    /// The highest revision anybody saw.
    reached: AtomicU64,
}

impl Shared {
    fn tick(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::SeqCst)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn saw(&self, revision: u64) {
        self.reached.fetch_max(revision, Ordering::SeqCst);
    }
}

fn number_from(variable: &str, default: impl FnOnce() -> u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or_else(default, |text| text.parse().expect("a number"))
}

#[test]
fn no_client_is_lied_to_while_the_server_is_killed() {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = number_from(SEED_VARIABLE, || clock().map_or(0, |t| t.as_secs()));
    println!("{SEED_VARIABLE}={seed}");
    let mut world = World::new(1);
    world.nodes[0].start(&["server"]);
    world.wait_for_api();
    let shared = Arc::new(Shared {
        stopping: AtomicBool::new(false),
        tick: AtomicU64::new(1),
        value: AtomicU64::new(1),
        reached: AtomicU64::new(1),
    });
    let target = Target {
        kubeconfig: world.nodes[0].data_dir().join("kubeconfig.yaml"),
        shared: shared.clone(),
    };
    // Threads begun inside stay inside.
    let load = world.nodes[0]
        .netns
        .run(move || std::thread::spawn(move || run_clients(&target, seed)));
    kill_again_and_again(&mut world, seed);
    shared.stopping.store(true, Ordering::SeqCst);
    let history = load.join().unwrap_or_else(|_| panic!("{}", world.logs()));
    judge(&history);
}

fn kill_again_and_again(world: &mut World, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let seconds = number_from(SECONDS_VARIABLE, || SECONDS_DEFAULT);
    let pause_ms = seconds * 1000 / (KILLS + 1);
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_millis(
            random.random_range(pause_ms / 2..=pause_ms * 3 / 2),
        ));
        world.nodes[0].stop(Signal::SIGKILL);
        world.nodes[0].start(&["server"]);
        world.wait_for_api();
    }
    std::thread::sleep(Duration::from_millis(pause_ms));
}

#[tokio::main(worker_threads = 2)]
async fn run_clients(target: &Target, seed: u64) -> History {
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let client = Client::new(target, seed.wrapping_add(number)).await;
        writers.push(tokio::spawn(client.write_until_stopped()));
    }
    let mut watching = Vec::new();
    for (selection, style) in [
        (Selection::All, Style::ListThenWatch),
        (Selection::All, Style::Hasty),
        (Selection::All, Style::WatchList),
        (Selection::Even, Style::ListThenWatch),
        (Selection::Even, Style::WatchList),
    ] {
        let client = Client::new(target, seed).await;
        watching.push(tokio::spawn(watchers::follow(client, selection, style)));
    }
    let prober = Client::new(target, seed).await;
    watching.push(tokio::spawn(watchers::probe_until_stopped(prober)));
    let mut history = History::default();
    for writer in writers {
        history.append(writer.await.expect("a writer"));
    }
    let mut closing = Client::new(target, seed).await;
    closing.write_last().await;
    for watcher in watching {
        let watcher = tokio::time::timeout(CATCH_UP_TIME_MAX, watcher).await;
        let told = watcher.expect("every watch tells of the last write");
        history.append(told.expect("a watcher"));
    }
    let reached = target.shared.reached.load(Ordering::SeqCst);
    let mut probes = Vec::new();
    for number in 0..PROBES {
        let client = closing.another(number);
        // Every other one is recent, so that it continues.
        let from = match number % 2 {
            0 => reached.saturating_sub(number * 7),
            _ => reached * number / PROBES,
        };
        let from = from.max(1);
        probes.push(tokio::spawn(watchers::probe(client, from)));
    }
    for probe in probes {
        history.append(probe.await.expect("a probe"));
    }
    closing.list().await;
    history.append(closing.into_history());
    history
}

fn judge(history: &History) {
    let count = |wanted: fn(&record::Step) -> bool| {
        let steps = history.watches.iter().flat_map(|watch| &watch.steps);
        steps.filter(|step| wanted(step)).count()
    };
    let events = count(|step| matches!(step, record::Step::Event { .. }));
    let expired = count(|step| matches!(step, record::Step::Expired));
    let outcome = |wanted: fn(&record::Outcome) -> bool| {
        let outcomes = history.attempts.iter().map(|attempt| &attempt.outcome);
        outcomes.filter(|outcome| wanted(outcome)).count()
    };
    let acknowledged = outcome(|o| matches!(o, record::Outcome::Acknowledged(_)));
    let unknown = outcome(|o| matches!(o, record::Outcome::Unknown));
    println!(
        "{acknowledged} writes acknowledged, {unknown} cut off, {} reads, {events} events, {expired} times 410",
        history.reads.len()
    );
    assert!(acknowledged > 100, "the clients never got to write");
    assert!(unknown > 0, "no kill met a write");
    assert!(events > acknowledged, "the watchers never got to watch");
    assert!(expired > 0, "no watch had to begin anew");
    let violations = checker::violations(history);
    assert!(
        violations.is_empty(),
        "{} violations, first: {:#?}",
        violations.len(),
        &violations[..violations.len().min(10)]
    );
}
