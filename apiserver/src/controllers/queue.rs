//! A work queue: keys to look at, now or at a deadline, each at most once at a time.
//!
//! It holds no objects and knows no kinds; it sleeps until there is work.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::{Debug, Display};
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const RETRY_FIRST: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Keys worked on at once; a reconcile waits for the server far longer than it computes.
const CONCURRENCY_MAX: usize = 32;

/// When a key wants to be looked at again although nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    OnChange,
    After(Duration),
}

pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Notify,
}

struct State<T> {
    ready: VecDeque<T>,
    queued: HashSet<T>,
    active: HashSet<T>,
    /// Active keys that were added again meanwhile.
    again: HashSet<T>,
    deadlines: BTreeMap<Instant, BTreeSet<T>>,
    deadline_of: HashMap<T, Instant>,
    failures: HashMap<T, u32>,
}

impl<T: Clone + Debug + Ord + Hash + Send + 'static> Queue<T> {
    pub(super) fn new() -> Arc<Queue<T>> {
        Arc::new(Queue {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                queued: HashSet::new(),
                active: HashSet::new(),
                again: HashSet::new(),
                deadlines: BTreeMap::new(),
                deadline_of: HashMap::new(),
                failures: HashMap::new(),
            }),
            wake: Notify::new(),
        })
    }

    /// Wants `key` looked at as soon as possible.
    pub(super) fn add(&self, key: T) {
        self.lock().add(key);
        self.wake.notify_one();
    }

    /// Wants `key` looked at after `delay`, unless an earlier deadline is set.
    pub(super) fn add_after(&self, key: T, delay: Duration) {
        self.lock().add_at(key, Instant::now() + delay);
        self.wake.notify_one();
    }

    /// Wants every key looked at now that waits for its time.
    pub(super) fn hurry(&self) {
        self.lock().hurry();
        self.wake.notify_one();
    }

    /// Reconciles keys until `shutdown`, retrying failures with a growing delay.
    pub(super) async fn run<F, R, E>(
        self: Arc<Self>,
        controller: &'static str,
        shutdown: CancellationToken,
        reconcile: F,
    ) where
        F: Fn(T) -> R,
        R: Future<Output = Result<Next, E>>,
        E: Display,
    {
        let mut running = FuturesUnordered::new();
        loop {
            self.lock().promote(Instant::now());
            while running.len() < CONCURRENCY_MAX {
                let Some(key) = self.take() else { break };
                let outcome = reconcile(key.clone());
                running.push(async move { (key, outcome.await) });
            }
            let deadline = self.lock().deadlines.keys().next().copied();
            let alarm = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
                Some((key, outcome)) = running.next(), if !running.is_empty() => self.finish(controller, key, outcome),
                () = alarm => {}
            }
        }
    }

    fn finish<E: Display>(&self, controller: &'static str, key: T, outcome: Result<Next, E>) {
        let mut state = self.lock();
        state.active.remove(&key);
        if state.again.remove(&key) {
            state.add(key.clone());
        }
        match outcome {
            Ok(next) => {
                state.failures.remove(&key);
                if let Next::After(delay) = next {
                    state.add_at(key, Instant::now() + delay);
                }
            }
            Err(error) => {
                let failures = state.failures.entry(key.clone()).or_insert(0);
                *failures += 1;
                let delay = retry_delay(*failures);
                if *failures > 3 {
                    tracing::warn!(controller, ?key, %error, failures, "reconcile keeps failing");
                } else {
                    tracing::debug!(controller, ?key, %error, failures, "reconcile failed");
                }
                state.add_at(key, Instant::now() + delay);
            }
        }
    }

    fn take(&self) -> Option<T> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + Debug + Ord + Hash> State<T> {
    fn add(&mut self, key: T) {
        if self.active.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: T, deadline: Instant) {
        if self
            .deadline_of
            .get(&key)
            .is_some_and(|set| *set <= deadline)
        {
            return;
        }
        self.forget_deadline(&key);
        self.deadline_of.insert(key.clone(), deadline);
        self.deadlines.entry(deadline).or_default().insert(key);
    }

    fn forget_deadline(&mut self, key: &T) {
        let Some(deadline) = self.deadline_of.remove(key) else {
            return;
        };
        if let Some(keys) = self.deadlines.get_mut(&deadline) {
            keys.remove(key);
            if keys.is_empty() {
                self.deadlines.remove(&deadline);
            }
        }
    }

    /// Moves keys whose deadline has come to the ready ones.
    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.deadlines.first_entry() {
            if *entry.key() > now {
                return;
            }
            for key in entry.remove() {
                self.deadline_of.remove(&key);
                self.add(key);
            }
        }
    }

    fn hurry(&mut self) {
        self.deadline_of.clear();
        for key in std::mem::take(&mut self.deadlines).into_values().flatten() {
            self.add(key);
        }
    }

    fn take(&mut self) -> Option<T> {
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        // A failing key keeps its deadline; a look for any other reason supersedes it.
        self.forget_deadline(&key);
        self.active.insert(key.clone());
        Some(key)
    }
}

fn retry_delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test]
    async fn a_key_added_while_active_runs_once_more() {
        let queue = Queue::new();
        let runs = Arc::new(Mutex::new(Vec::new()));
        let shutdown = CancellationToken::new();
        queue.add("a");
        queue.add("a");
        let (log, inner, stop) = (Arc::clone(&runs), Arc::clone(&queue), shutdown.clone());
        let reconcile = move |key| {
            let count = {
                let mut log = log.lock().expect("not poisoned");
                log.push(key);
                log.len()
            };
            match count {
                1 => (0..3).for_each(|_| inner.add("a")),
                _ => stop.cancel(),
            }
            async { Ok::<_, Infallible>(Next::OnChange) }
        };
        Arc::clone(&queue).run("test", shutdown, reconcile).await;
        assert_eq!(*runs.lock().expect("not poisoned"), ["a", "a"]);
    }

    #[tokio::test]
    async fn failures_are_retried_later_and_later() {
        let queue = Queue::new();
        let shutdown = CancellationToken::new();
        let start = Instant::now();
        let times = Arc::new(Mutex::new(Vec::new()));
        queue.add("a");
        let (log, stop) = (Arc::clone(&times), shutdown.clone());
        let reconcile = move |_| {
            let mut log = log.lock().expect("not poisoned");
            log.push(start.elapsed().as_millis());
            if log.len() == 4 {
                stop.cancel();
            }
            async { Err::<Next, _>("no") }
        };
        Arc::clone(&queue).run("test", shutdown, reconcile).await;
        let times = times.lock().expect("not poisoned").clone();
        let gaps: Vec<u128> = times.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(gaps[0] >= 5 && gaps[1] >= 10 && gaps[2] >= 20, "{gaps:?}");
    }

    #[test]
    fn whoever_waits_for_its_time_can_be_hurried() {
        let queue = Queue::new();
        let hour = Duration::from_secs(3600);
        queue.add_after("a", hour);
        queue.add_after("b", hour * 24);
        assert_eq!(queue.take(), None);
        queue.hurry();
        assert_eq!([queue.take(), queue.take()], [Some("a"), Some("b")]);
        assert!(queue.lock().deadlines.is_empty() && queue.lock().deadline_of.is_empty());
    }

    #[test]
    fn the_earliest_deadline_wins() {
        let queue = Queue::new();
        let now = Instant::now();
        let mut state = queue.lock();
        state.add_at("a", now + Duration::from_secs(5));
        state.add_at("a", now + Duration::from_secs(1));
        state.add_at("a", now + Duration::from_secs(9));
        state.promote(now + Duration::from_secs(2));
        assert_eq!(state.take(), Some("a"));
        assert!(state.deadlines.is_empty());
    }
}
