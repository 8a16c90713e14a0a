//! Watches: cursors on a kind's log.
//!
//! A watch holds no queue of its own, so a slow one costs nothing; it expires when the log no longer reaches back to it.

use std::{collections::VecDeque, sync::Arc};

use knarr_api::kind::Kind;
use tokio::sync::watch::Receiver;

use super::{
    Expired, Revision, Stored,
    cache::{Cache, KindCache},
};

/// How an object changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Event {
    pub change: Change,
    /// For a deletion: the last state, with the deletion's own resourceVersion.
    pub object: Arc<Stored>,
    /// What was there before; `None` when the object is new.
    pub previous: Option<Arc<Stored>>,
}

impl Event {
    pub fn revision(&self) -> Revision {
        self.object.revision
    }
}

/// Events fetched from the log at once.
const BATCH_EVENTS_MAX: usize = 64;

/// The changes of one kind after some revision.
pub struct Watch {
    cache: Arc<Cache>,
    kind: Arc<KindCache>,
    latest: Receiver<Revision>,
    position: Revision,
    fetched: VecDeque<Event>,
}

impl Watch {
    pub(super) fn open(
        cache: Arc<Cache>,
        kind: &'static Kind,
        from: Revision,
    ) -> Result<Watch, Expired> {
        let kind = cache.kind(kind).ok_or(Expired)?.clone();
        let mut latest = kind.latest();
        latest.mark_changed();
        kind.after(from, 0)?;
        Ok(Watch {
            cache,
            kind,
            latest,
            position: from,
            fetched: VecDeque::new(),
        })
    }

    /// Waits for the next change. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When this watch has fallen so far behind that changes it has not seen left the log.
    pub async fn next(&mut self) -> Result<Event, Expired> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            // The cache outlives this watch and owns the sender.
            self.latest.changed().await.map_err(|_| Expired)?;
        }
    }

    /// The next change if there is one already.
    pub fn try_next(&mut self) -> Result<Option<Event>, Expired> {
        if self.fetched.is_empty() {
            self.latest.mark_unchanged();
            self.fetched = self.kind.after(self.position, BATCH_EVENTS_MAX)?.into();
        }
        let event = self.fetched.pop_front();
        if let Some(event) = &event {
            self.position = event.revision();
        }
        Ok(event)
    }

    /// A revision up to which this watch has delivered everything, for bookmarks.
    pub fn position(&mut self) -> Revision {
        if self.fetched.is_empty() {
            let reached = self.cache.revision();
            if self
                .kind
                .after(self.position, 1)
                .is_ok_and(|e| e.is_empty())
            {
                self.position = self.position.max(reached);
            }
        }
        self.position
    }
}
