//! What one watching client gets next: initial events, changes, bookmarks, an end.
//!
//! A feed has no task and no queue: the connection that reads it drives it, so a slow client costs nothing.

use std::{pin::Pin, sync::Arc, time::Duration, vec};

use bytes::{Bytes, BytesMut};
use knarr_api::status::Status;
use tokio::time::{Instant, Sleep, sleep_until};

use super::lines::{Bookmark, Lines, Type};
use crate::{
    read::{self, Selection},
    storage::{self, Change, Expired, Listing, Revision, Stored},
};

/// Bytes after which events go out as they are, without waiting for more.
const FRAME_BYTES: usize = 64 << 10;
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// The last bookmark comes this long before the end, so that the next watch goes on from nearly there.
const LAST_BOOKMARK_LEAD: Duration = Duration::from_secs(2);

pub(super) struct Feed {
    selection: Selection,
    lines: Lines,
    ends: Instant,
    next_bookmark: Option<Instant>,
    /// Rings for the next bookmark or the end; a timer made for each event would cost more than the event.
    alarm: Pin<Box<Sleep>>,
    initial: vec::IntoIter<Arc<Stored>>,
    initial_end: Option<Revision>,
    source: Source,
}

enum Source {
    Live(storage::Watch),
    /// There is nothing to tell but this.
    Refused(Box<Status>),
    Ended,
}

/// When a watch that ends at `ends` is due for its next bookmark, if it is due for one at all.
fn bookmark_after(now: Instant, ends: Instant) -> Option<Instant> {
    let last = ends.checked_sub(LAST_BOOKMARK_LEAD)?;
    let due = last.min(now + BOOKMARK_PERIOD);
    (due > now).then_some(due)
}

/// What made a feed wake up.
enum Woken {
    Event(Result<storage::Event, Expired>),
    Bookmark,
    End,
}

impl Feed {
    pub(super) fn new(selection: Selection, lines: Lines, timeout: Duration) -> Self {
        let ends = Instant::now() + timeout;
        Feed {
            selection,
            lines,
            ends,
            next_bookmark: None,
            alarm: Box::pin(sleep_until(ends)),
            initial: Vec::new().into_iter(),
            initial_end: None,
            source: Source::Ended,
        }
    }

    pub(super) fn with_bookmarks(mut self) -> Self {
        self.next_bookmark = bookmark_after(Instant::now(), self.ends);
        self
    }

    pub(super) fn start_with(&mut self, listing: Listing) {
        self.initial = listing.objects.into_iter();
    }

    pub(super) fn end_initial_events(&mut self, revision: Revision) {
        self.initial_end = Some(revision);
    }

    pub(super) fn follow(&mut self, watch: storage::Watch) {
        self.source = Source::Live(watch);
    }

    /// The client has to list again.
    pub(super) fn expire(&mut self, wanted: Revision, current: Revision) {
        let text = format!("too old resource version: {wanted} ({current})");
        self.refuse(read::expired(text));
    }

    pub(super) fn refuse(&mut self, status: Status) {
        self.source = Source::Refused(Box::new(status));
    }

    /// The next lines, as soon as there are any; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        self.initial_events(&mut out);
        while out.is_empty() {
            let Source::Live(watch) = &mut self.source else {
                return self.last_words();
            };
            let bookmark = self.next_bookmark.filter(|due| *due < self.ends);
            let due = bookmark.unwrap_or(self.ends);
            let alarm = &mut self.alarm;
            if alarm.deadline() != due {
                alarm.as_mut().reset(due);
            }
            let woken = tokio::select! {
                biased;
                event = watch.next() => Woken::Event(event),
                () = alarm.as_mut() => if bookmark.is_some() { Woken::Bookmark } else { Woken::End },
            };
            match woken {
                Woken::Event(Ok(event)) => self.events(&mut out, event),
                Woken::Event(Err(Expired)) => {
                    let position = watch.position();
                    self.expire(position, position);
                }
                Woken::Bookmark => {
                    let revision = watch.position();
                    self.lines.bookmark(&mut out, revision, Bookmark::Progress);
                    self.next_bookmark = bookmark_after(Instant::now(), self.ends);
                }
                Woken::End => return None,
            }
        }
        Some(out.freeze())
    }

    fn initial_events(&mut self, out: &mut BytesMut) {
        for stored in self.initial.by_ref() {
            if self.selection.matches(&stored) {
                self.lines.event(out, Type::Added, &stored);
            }
            if out.len() >= FRAME_BYTES {
                return;
            }
        }
        if let Some(revision) = self.initial_end.take() {
            self.lines
                .bookmark(out, revision, Bookmark::InitialEventsEnd);
        }
    }

    /// Writes an event and those that are there already.
    fn events(&mut self, out: &mut BytesMut, first: storage::Event) {
        self.event(out, &first);
        while out.len() < FRAME_BYTES {
            let Source::Live(watch) = &mut self.source else {
                return;
            };
            // An expiry shows again on the next call, which reports it.
            let Ok(Some(event)) = watch.try_next() else {
                return;
            };
            self.event(out, &event);
        }
    }

    /// Entering the selection is an addition, leaving it a deletion.
    fn event(&mut self, out: &mut BytesMut, event: &storage::Event) {
        let is_selected = self.selection.matches(&event.object);
        let was_selected = || {
            let previous = event.previous.as_ref();
            previous.filter(|previous| self.selection.matches(previous))
        };
        match event.change {
            Change::Added if is_selected => self.lines.event(out, Type::Added, &event.object),
            Change::Deleted if is_selected => self.lines.event(out, Type::Deleted, &event.object),
            Change::Added | Change::Deleted => {}
            Change::Modified => match (was_selected(), is_selected) {
                (Some(_), true) => self.lines.event(out, Type::Modified, &event.object),
                (None, true) => self.lines.event(out, Type::Added, &event.object),
                (Some(previous), false) => {
                    let previous = previous.clone();
                    self.lines.left(out, &previous, event.revision());
                }
                (None, false) => {}
            },
        }
    }

    fn last_words(&mut self) -> Option<Bytes> {
        let ended = std::mem::replace(&mut self.source, Source::Ended);
        let Source::Refused(status) = ended else {
            return None;
        };
        let mut out = BytesMut::new();
        self.lines.error(&mut out, &status);
        Some(out.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookmarks_come_every_minute_and_once_before_the_end() {
        let now = Instant::now();
        let check = |lasts_seconds: u64, expected_seconds: Option<u64>| {
            let due = bookmark_after(now, now + Duration::from_secs(lasts_seconds));
            let expected = expected_seconds.map(|seconds| now + Duration::from_secs(seconds));
            assert_eq!(due, expected, "{lasts_seconds}");
        };
        check(600, Some(60));
        check(30, Some(28));
        check(2, None);
        check(1, None);
    }
}
