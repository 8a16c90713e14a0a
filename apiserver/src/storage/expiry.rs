//! When objects that live for a while only have had their time. Deletes nothing itself.

use std::{collections::VecDeque, time::Duration};

use knarr_api::kind::Durability;
use tokio::time::Instant;

use super::{Change, Event, Expect, Key, Revision, Write};

/// Objects that expire are noted at most this often; more, and the oldest go early.
const ENTRIES_MAX: usize = 20_000;
/// The part of their life by which objects may go later than due, so that many go at once.
const SLACK_DIVISOR: u32 = 100;

/// What will expire, the soonest first.
#[derive(Default)]
pub(super) struct Expiry {
    entries: VecDeque<Entry>,
}

struct Entry {
    due: Instant,
    slack: Duration,
    key: Key,
    revision: Revision,
}

impl Expiry {
    /// Notes what was written; an object written again lives on under its new revision.
    pub(super) fn note(&mut self, events: &[Event], now: Instant) {
        for event in events {
            let key = &event.object.key;
            if let Durability::Expiring { seconds } = key.kind.durability
                && event.change != Change::Deleted
            {
                let life = Duration::from_secs(seconds.into());
                self.entries.push_back(Entry {
                    due: now + life,
                    slack: life / SLACK_DIVISOR,
                    key: key.clone(),
                    revision: event.revision(),
                });
            }
        }
    }

    /// When to look again, if ever.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let first = self.entries.front()?;
        let is_overfull = self.entries.len() > ENTRIES_MAX;
        Some(if is_overfull {
            now
        } else {
            first.due + first.slack
        })
    }

    /// The deletions that are due, each a commit of its own.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Vec<Write>> {
        let due = self.entries.partition_point(|entry| entry.due <= now);
        let surplus = self.entries.len().saturating_sub(ENTRIES_MAX);
        let delete = |entry: Entry| Write::Delete {
            key: entry.key,
            expect: Expect::Revision(entry.revision),
        };
        let taken = self.entries.drain(..due.max(surplus));
        taken.map(|entry| vec![delete(entry)]).collect()
    }
}
