//! Room for large bodies while they are read: who holds how much of it, and who gives way to others. Reads none.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::freed::Freed;

/// How long a client may keep the server waiting for a body, all pauses together, when others have no room.
const DELAY_MAX: Duration = Duration::from_secs(1);
/// How long a body waits for room in all; then its client is asked to come back.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A reader may become too slow without anything happening.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What becomes of a body takes about so many times its bytes.
const DECODED_SIZE: usize = 4;

/// Bytes that large bodies may hold, all together.
pub(super) struct Room {
    bytes_max: usize,
    ledger: Mutex<Ledger>,
    left: Notify,
    freed: Arc<Freed>,
}

/// One body's part of the room, for as long as its bytes are there.
pub(crate) struct Share {
    room: Arc<Room>,
    number: u64,
    bytes: usize,
    waited: Duration,
    is_whole: bool,
    gives_way: CancellationToken,
}

/// Why the rest of a body is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Others needed the room, and this client was the slowest.
    Slow,
    /// There was no room for long.
    Crowded,
}

#[derive(Default)]
struct Ledger {
    held_bytes: usize,
    /// Of these, what will be free without any client's doing.
    whole_bytes: usize,
    next: u64,
    /// By number, the eldest first.
    readers: BTreeMap<u64, Reader>,
}

struct Reader {
    /// How long its client has kept the server waiting, until `since`.
    delay: Duration,
    since: Option<Instant>,
    gives_way: CancellationToken,
}

impl Room {
    pub(super) fn new(bytes_max: usize, freed: Arc<Freed>) -> Arc<Self> {
        Arc::new(Room {
            bytes_max,
            freed,
            ledger: Mutex::default(),
            left: Notify::new(),
        })
    }

    pub(super) fn enter(self: &Arc<Self>) -> Share {
        let gives_way = CancellationToken::new();
        let number = self.ledger().enter(gives_way.clone());
        Share {
            room: self.clone(),
            number,
            bytes: 0,
            waited: Duration::ZERO,
            is_whole: false,
            gives_way,
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// What the client sends next; time spent here is time that the client kept the server waiting.
    pub(crate) async fn expect<T>(&self, next: impl Future<Output = T>) -> Result<T, Refused> {
        self.room.ledger().expect(self.number, Instant::now());
        let outcome = tokio::select! {
            next = next => Ok(next),
            () = self.gives_way.cancelled() => Err(Refused::Slow),
        };
        self.room.ledger().received(self.number, Instant::now());
        outcome
    }

    /// Takes room for some bytes more, as soon as there is any.
    pub(crate) async fn grow(&mut self, bytes: usize) -> Result<(), Refused> {
        loop {
            let left = self.room.left.notified();
            let began = Instant::now();
            {
                let mut ledger = self.room.ledger();
                if ledger.take(self.number, bytes, self.room.bytes_max) {
                    self.bytes += bytes;
                    return Ok(());
                }
                ledger.make_room(began);
            }
            if self.gives_way.is_cancelled() {
                return Err(Refused::Slow);
            }
            if self.waited >= WAIT_MAX {
                return Err(Refused::Crowded);
            }
            // Either is a reason to look.
            let _ = timeout(LOOK_AGAIN, left).await;
            self.waited += began.elapsed();
        }
    }

    /// Nothing more will come: the bytes are here until they are worked on.
    pub(crate) fn is_whole(&mut self) {
        self.is_whole = true;
        let mut ledger = self.room.ledger();
        ledger.readers.remove(&self.number);
        ledger.whole_bytes += self.bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut ledger = self.room.ledger();
        ledger.readers.remove(&self.number);
        ledger.held_bytes -= self.bytes;
        if self.is_whole {
            ledger.whole_bytes -= self.bytes;
        }
        drop(ledger);
        self.room.left.notify_waiters();
        self.room.freed.note(self.bytes * DECODED_SIZE);
    }
}

impl Ledger {
    fn enter(&mut self, gives_way: CancellationToken) -> u64 {
        let number = self.next;
        self.next += 1;
        let reader = Reader {
            delay: Duration::ZERO,
            since: None,
            gives_way,
        };
        self.readers.insert(number, reader);
        number
    }

    /// The eldest may go beyond the bound where only readers hold room, or all of them would wait for each other.
    fn take(&mut self, number: u64, bytes: usize, bytes_max: usize) -> bool {
        let eldest = self.readers.keys().next();
        let may_exceed = eldest == Some(&number) && self.whole_bytes == 0;
        let fits = self.held_bytes + bytes <= bytes_max || may_exceed;
        if fits {
            self.held_bytes += bytes;
        }
        fits
    }

    /// Asks the slowest client's body to go, unless one is going already.
    fn make_room(&mut self, now: Instant) {
        let mut readers = self.readers.values();
        if readers.any(|reader| reader.gives_way.is_cancelled()) {
            return;
        }
        let slowest = self.readers.values().max_by_key(|reader| reader.delay(now));
        if let Some(slowest) = slowest.filter(|reader| reader.delay(now) >= DELAY_MAX) {
            slowest.gives_way.cancel();
        }
    }

    fn expect(&mut self, number: u64, now: Instant) {
        if let Some(reader) = self.readers.get_mut(&number) {
            reader.since = Some(now);
        }
    }

    fn received(&mut self, number: u64, now: Instant) {
        if let Some(reader) = self.readers.get_mut(&number) {
            reader.delay = reader.delay(now);
            reader.since = None;
        }
    }
}

impl Reader {
    fn delay(&self, now: Instant) -> Duration {
        let pause = self.since.map(|since| now.duration_since(since));
        self.delay + pause.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger with so many readers.
    fn ledger(count: u64) -> Ledger {
        let mut ledger = Ledger::default();
        for number in 0..count {
            assert_eq!(ledger.enter(CancellationToken::new()), number);
        }
        ledger
    }

    fn gone(ledger: &Ledger) -> Vec<u64> {
        let readers = ledger.readers.iter();
        let gone = readers.filter(|(_, reader)| reader.gives_way.is_cancelled());
        gone.map(|(number, _)| *number).collect()
    }

    #[test]
    fn only_the_eldest_goes_beyond_the_bound_and_only_among_readers() {
        let mut ledger = ledger(3);
        assert!(ledger.take(1, 6, 10));
        assert!(!ledger.take(2, 6, 10));
        assert!(ledger.take(0, 6, 10));
        ledger.whole_bytes = 1;
        assert!(!ledger.take(0, 6, 10));
        assert_eq!(ledger.held_bytes, 12);
    }

    #[test]
    fn the_slowest_gives_way_and_one_at_a_time() {
        let mut ledger = ledger(3);
        let began = Instant::now();
        ledger.expect(0, began);
        ledger.expect(1, began);
        ledger.received(0, began + DELAY_MAX / 2);
        ledger.make_room(began + DELAY_MAX / 2);
        assert!(gone(&ledger).is_empty());
        ledger.make_room(began + DELAY_MAX);
        assert_eq!(gone(&ledger), [1]);
        ledger.expect(0, began + DELAY_MAX);
        ledger.make_room(began + DELAY_MAX * 2);
        assert_eq!(gone(&ledger), [1]);
        ledger.readers.remove(&1);
        ledger.make_room(began + DELAY_MAX * 2);
        assert_eq!(gone(&ledger), [0]);
    }

    #[tokio::test]
    async fn what_leaves_makes_room_for_what_waits() {
        let room = Room::new(10, Freed::new(|| ()));
        let mut first = room.enter();
        first.grow(10).await.unwrap();
        first.is_whole();
        let mut second = room.enter();
        let (grown, ()) = tokio::join!(second.grow(10), async { drop(first) });
        assert_eq!(grown, Ok(()));
        drop(second);
        assert_eq!(room.ledger().held_bytes, 0);
        assert_eq!(room.ledger().whole_bytes, 0);
    }
}
