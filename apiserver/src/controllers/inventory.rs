//! Every object of every kind, by uid: who owns whom, and what is on its way out. Reads metadata only.

mod graph;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use knarr_api::{kind::Kind, kinds};
use serde::de::IgnoredAny;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::follow::{Scope, Side, Source, Turn};
use super::partial::Partial;
use crate::storage::{self, Stored};
use graph::Graph;

pub(super) const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
pub(super) const ORPHAN_FINALIZER: &str = "orphan";

/// What is to be known of one object.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) kind: &'static Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) deleting: bool,
    /// Waits for its dependents to be gone.
    pub(super) waits: bool,
    /// Its dependents are to be let go.
    pub(super) orphans: bool,
}

/// A change, told to the controllers that follow the inventory.
#[derive(Clone)]
pub(super) enum Change<'a> {
    Present {
        uid: &'a str,
        item: &'a Item,
        before: Option<&'a Item>,
    },
    Gone {
        uid: &'a str,
        item: &'a Item,
    },
}

type Observer = Box<dyn Fn(&Inventory, Change<'_>) + Send + Sync>;

pub(super) struct Inventory {
    graph: Mutex<Graph>,
    observers: Mutex<Vec<Arc<Observer>>>,
    missing: watch::Sender<usize>,
}

impl Inventory {
    pub(super) fn new() -> Arc<Inventory> {
        Arc::new(Inventory {
            graph: Mutex::default(),
            observers: Mutex::default(),
            missing: watch::Sender::new(0),
        })
    }

    /// Adds an observer; the inventory must not have been started yet.
    pub(super) fn observe(
        &self,
        observer: impl Fn(&Inventory, Change<'_>) + Send + Sync + 'static,
    ) {
        let mut observers = self
            .observers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        observers.push(Arc::new(Box::new(observer)));
    }

    /// Follows every kind that can be followed.
    pub(super) fn spawn(
        self: &Arc<Self>,
        storage: &storage::Store,
        turn: &Turn,
        shutdown: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) {
        for kind in watchable() {
            self.missing.send_modify(|missing| *missing += 1);
            let source = Source::new(storage.clone(), turn.clone(), kind, Scope::Everything);
            let (inventory, shutdown) = (Arc::clone(self), shutdown.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = inventory.follow(&source) => {}
                }
            });
        }
    }

    /// Returns once every kind has been listed.
    pub(super) async fn wait_synced(&self) {
        let mut missing = self.missing.subscribe();
        // The sender lives as long as the inventory, so waiting cannot fail.
        let _ = missing.wait_for(|missing| *missing == 0).await;
    }

    pub(super) fn get(&self, uid: &str) -> Option<Item> {
        let stored = self.lock().get(uid)?;
        Some(Item::read(&stored))
    }

    pub(super) fn contains(&self, uid: &str) -> bool {
        self.lock().contains(uid)
    }

    /// The objects that name `uid` among their owners.
    pub(super) fn dependents(&self, uid: &str) -> Vec<(String, Item)> {
        let dependents = self.lock().dependents(uid);
        let items = dependents
            .iter()
            .map(|stored| (stored.uid.to_string(), Item::read(stored)));
        items.collect()
    }

    async fn follow(&self, source: &Source) {
        let is_first = AtomicBool::new(true);
        let listed = || {
            if is_first.swap(false, Ordering::Relaxed) {
                self.missing.send_modify(|missing| *missing -= 1);
            }
        };
        source
            .follow(|old, new| self.changed(old, new), listed)
            .await;
    }

    fn changed(&self, old: Side<'_>, new: Side<'_>) {
        let before = old.map(|old| (old, Item::read(old)));
        let after = new.map(|new| (new, Item::read(new)));
        {
            let mut graph = self.lock();
            if let Some((old, item)) = &before {
                graph.remove(old, &item.owners);
            }
            if let Some((new, item)) = &after {
                graph.insert(new, &item.owners);
            }
        }
        let is_same = |old: &Stored| new.is_some_and(|new| new.uid == old.uid);
        let (before, gone) = match before {
            Some((old, item)) if is_same(old) => (Some(item), None),
            Some((old, item)) => (None, Some((old, item))),
            None => (None, None),
        };
        if let Some((old, item)) = &gone {
            let uid = &old.uid;
            self.tell(&Change::Gone { uid, item });
        }
        if let Some((new, item)) = &after {
            let (uid, before) = (&new.uid, before.as_ref());
            self.tell(&Change::Present { uid, item, before });
        }
    }

    fn tell(&self, change: &Change<'_>) {
        let observers = self
            .observers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for observer in observers {
            observer(self, change.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Item {
    fn read(stored: &Stored) -> Item {
        let storage::Key {
            kind,
            namespace,
            name,
        } = &stored.key;
        let Partial { metadata, .. } = Partial::<IgnoredAny>::read(stored);
        let deleting = metadata.deletion_timestamp.is_some();
        Item {
            kind,
            namespace: namespace.clone(),
            name: name.clone(),
            deleting,
            waits: deleting && metadata.has_finalizer(FOREGROUND_FINALIZER),
            orphans: deleting && metadata.has_finalizer(ORPHAN_FINALIZER),
            owners: metadata.owner_references.unwrap_or_default(),
        }
    }
}

/// What there is to know of an object with `meta`.
pub(super) fn item(kind: &'static Kind, meta: &ObjectMeta) -> Item {
    let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|f| f == finalizer);
    let deleting = meta.deletion_timestamp.is_some();
    Item {
        kind,
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        owners: meta.owner_references.clone().unwrap_or_default(),
        deleting,
        waits: deleting && has(FOREGROUND_FINALIZER),
        orphans: deleting && has(ORPHAN_FINALIZER),
    }
}

/// The kinds that can be followed; events only report, and own or are owned by nothing.
fn watchable() -> impl Iterator<Item = &'static Kind> {
    let kinds = kinds::ALL.iter().copied();
    kinds.filter(|kind| kind.verbs.contains(&"watch") && kind.kind != "Event")
}
