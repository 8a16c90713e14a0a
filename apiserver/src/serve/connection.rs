//! Which connections there are, what is under way on each, and which of them have to go. Reads and writes none.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{exchange::Exchange, limits::Limits};
use crate::freed::Freed;

/// About what a connection that was used a little leaves behind.
const CONNECTION_BYTES: usize = 64 << 10;

/// All connections of one server.
pub(super) struct Connections {
    limits: Limits,
    freed: Arc<Freed>,
    open: Mutex<BTreeMap<u64, Weak<Connection>>>,
    next: AtomicU64,
}

/// One connection, as long as anything of it is there: an upgraded stream outlives its HTTP.
pub(super) struct Connection {
    number: u64,
    all: Arc<Connections>,
    under_way: watch::Sender<usize>,
    exchanges: Mutex<Exchanges>,
    /// Set when the connection has to make room.
    pub(super) evicted: CancellationToken,
}

struct Exchanges {
    open: Vec<Weak<Exchange>>,
    quiet_since: Instant,
}

impl Connections {
    pub(super) fn new(limits: Limits, freed: Arc<Freed>) -> Arc<Self> {
        Arc::new(Connections {
            limits,
            freed,
            open: Mutex::default(),
            next: AtomicU64::new(0),
        })
    }

    /// Takes in one more, at the cost of the longest quiet one if there are too many; `None` if all are busy.
    pub(super) fn open(self: &Arc<Self>) -> Option<Arc<Connection>> {
        if !self.make_room() {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection {
            number,
            all: self.clone(),
            under_way: watch::Sender::new(0),
            exchanges: Mutex::new(Exchanges {
                open: Vec::new(),
                quiet_since: Instant::now(),
            }),
            evicted: CancellationToken::new(),
        });
        let weak = Arc::downgrade(&connection);
        self.all().insert(number, weak);
        Some(connection)
    }

    fn make_room(&self) -> bool {
        let all: Vec<_> = {
            let all = self.all();
            if all.len() < self.limits.quiet_max.min(self.limits.connections_max) {
                return true;
            }
            all.values().filter_map(Weak::upgrade).collect()
        };
        let mut quiet: Vec<_> = all
            .iter()
            .filter_map(|connection| Some((connection.quiet_since()?, connection)))
            .collect();
        let is_full = all.len() >= self.limits.connections_max;
        if !is_full && quiet.len() < self.limits.quiet_max {
            return true;
        }
        quiet.sort_by_key(|(since, _)| *since);
        match quiet.first() {
            Some((_, longest)) => longest.evicted.cancel(),
            None => return false,
        }
        true
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Weak<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    pub(super) fn began(&self, exchange: &Arc<Exchange>) {
        self.exchanges().open.push(Arc::downgrade(exchange));
        self.under_way.send_modify(|count| *count += 1);
    }

    pub(super) fn ended(&self) {
        {
            let mut exchanges = self.exchanges();
            exchanges
                .open
                .retain(|exchange| exchange.strong_count() > 0);
            exchanges.quiet_since = Instant::now();
        }
        self.under_way.send_modify(|count| *count -= 1);
    }

    /// Returns when the client has kept this connection quiet, or what it asked for unread, for too long.
    pub(super) async fn outlived(&self, limits: &Limits) {
        let mut under_way = self.under_way.subscribe();
        let mut patience = limits.first_request;
        loop {
            let is_quiet = *under_way.borrow_and_update() == 0;
            if is_quiet {
                if timeout(patience, under_way.changed()).await.is_err() {
                    return;
                }
                patience = limits.idle;
                continue;
            }
            // Looked at now and then only: a timer for each piece of an answer would cost more than the piece.
            let again = Instant::now() + limits.unread.min(limits.request);
            tokio::select! {
                () = until_quiet(&mut under_way) => {}
                () = sleep_until(again) => if self.is_overdue(limits) { return },
            }
        }
    }

    fn is_overdue(&self, limits: &Limits) -> bool {
        let now = Instant::now();
        let exchanges: Vec<_> = {
            let open = &self.exchanges().open;
            open.iter().filter_map(Weak::upgrade).collect()
        };
        exchanges
            .iter()
            .any(|exchange| exchange.is_overdue(now, limits))
    }

    fn quiet_since(&self) -> Option<Instant> {
        let is_quiet = *self.under_way.borrow() == 0 && !self.evicted.is_cancelled();
        is_quiet.then(|| self.exchanges().quiet_since)
    }

    fn exchanges(&self) -> MutexGuard<'_, Exchanges> {
        self.exchanges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sender lives as long as whoever waits here.
async fn until_quiet(under_way: &mut watch::Receiver<usize>) {
    let _ = under_way.wait_for(|count| *count == 0).await;
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.all().remove(&self.number);
        self.all.freed.note(CONNECTION_BYTES);
    }
}
