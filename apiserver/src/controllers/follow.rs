//! The server's own memory as the controllers read it: what there is of a kind, and everything that happens to it, in order.
//!
//! Nothing is copied: what is handed out is what the server holds anyway. Nothing is written.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use knarr_api::kind::Kind;
use tokio::sync::Mutex;

use crate::storage::{self, Change, Expired, Listing, Stored, Watch};

/// Objects told of before other tasks get their turn.
const TOLD_AT_ONCE: usize = 64;

/// Which objects of a kind are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Everything,
    Namespace(&'static str),
    Name(&'static str),
}

impl Scope {
    fn holds(self, stored: &Stored) -> bool {
        match self {
            Scope::Everything => true,
            Scope::Namespace(namespace) => stored.key.namespace == namespace,
            Scope::Name(name) => stored.key.name == name,
        }
    }
}

/// Taken by whoever tells of everything there is: while one does, the other cores answer requests.
#[derive(Clone, Default)]
pub(super) struct Turn(Arc<Mutex<()>>);

/// The objects of one kind that somebody follows.
#[derive(Clone)]
pub(super) struct Source {
    storage: storage::Store,
    turn: Turn,
    kind: &'static Kind,
    scope: Scope,
}

impl Source {
    pub(super) fn new(
        storage: storage::Store,
        turn: Turn,
        kind: &'static Kind,
        scope: Scope,
    ) -> Source {
        Source {
            storage,
            turn,
            kind: kind.stored(),
            scope,
        }
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        let key = storage::Key::new(self.kind, namespace, name);
        self.storage
            .get(&key)
            .filter(|stored| self.scope.holds(stored))
    }

    /// Everything, in one namespace or in all, ordered by namespace and name.
    pub(super) fn list(&self, namespace: Option<&str>) -> Listing {
        let mut listing = self.storage.list(self.kind, namespace);
        listing.objects.retain(|stored| self.scope.holds(stored));
        listing
    }

    /// Every change after `listing`.
    pub(super) fn watch(&self, listing: &Listing) -> Result<Watch, Expired> {
        self.storage.watch(self.kind, listing.revision)
    }

    /// A change as its object before and after, `None` where it did not or does not exist; nothing if it is out of scope.
    pub(super) fn sides(&self, event: storage::Event) -> Sides {
        let storage::Event {
            change,
            object,
            previous,
        } = event;
        if !self.scope.holds(&object) {
            return (None, None);
        }
        match change {
            Change::Added | Change::Modified => (previous, Some(object)),
            Change::Deleted => (previous, None),
        }
    }

    /// Tells of everything there is, says that it did, and then tells of every change, until dropped.
    ///
    /// Who falls behind what the server remembers of changes is told the difference instead.
    pub(super) async fn follow(&self, tell: impl Fn(Side<'_>, Side<'_>), listed: impl Fn()) {
        let mut told = BTreeSet::new();
        loop {
            let turn = self.turn.0.lock().await;
            let listing = self.list(None);
            let watch = self.watch(&listing);
            let present: BTreeSet<ByKey> = listing.objects.into_iter().map(ByKey).collect();
            for (count, stored) in present.iter().enumerate() {
                tell(
                    told.get(stored).map(|ByKey(before)| before),
                    Some(&stored.0),
                );
                if count % TOLD_AT_ONCE == TOLD_AT_ONCE - 1 {
                    tokio::task::yield_now().await;
                }
            }
            for ByKey(gone) in told.difference(&present) {
                tell(Some(gone), None);
            }
            told = present;
            drop(turn);
            listed();
            let Ok(mut watch) = watch else { continue };
            while let Ok(event) = watch.next().await {
                let (old, new) = self.sides(event);
                if old.is_none() && new.is_none() {
                    continue;
                }
                tell(old.as_ref(), new.as_ref());
                match (old, new) {
                    (_, Some(new)) => drop(told.replace(ByKey(new))),
                    (Some(old), None) => drop(told.remove(&ByKey(old))),
                    (None, None) => {}
                }
            }
        }
    }
}

/// An object before or after a change.
pub(super) type Side<'a> = Option<&'a Arc<Stored>>;

pub(super) type Sides = (Option<Arc<Stored>>, Option<Arc<Stored>>);

/// An object told from others by its place alone, so that a newer state takes the place of an older one.
pub(super) struct ByKey(pub(super) Arc<Stored>);

impl ByKey {
    fn place(&self) -> (&str, &str) {
        (&self.0.key.namespace, &self.0.key.name)
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &ByKey) -> bool {
        self.place() == other.place()
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &ByKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &ByKey) -> Ordering {
        self.place().cmp(&other.place())
    }
}
