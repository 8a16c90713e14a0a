//! One kind as the controllers see it: the server's own memory of it, read as typed objects.
//!
//! Whatever has been acknowledged is seen at once. Observers hear of every change a little later, in order.

mod decoded;
mod index;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::follow::{Side, Source};
use crate::storage::Stored;
use decoded::Decoded;
use index::Index;
pub(super) use index::{Term, Terms};

/// What every kind in a store can do.
pub(super) trait Object:
    Resource<DynamicType = ()>
    + Serialize
    + DeserializeOwned
    + Clone
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = ()>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static
{
}

/// Namespace and name; the namespace is empty for cluster-scoped kinds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    pub(super) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Key {
        Key {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    pub(super) fn of<K: Resource<DynamicType = ()>>(object: &K) -> Key {
        let meta = object.meta();
        Key::new(
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// Hears of every change: the object before and after, `None` where it did not or does not exist.
pub(super) type Observer<K> = Box<dyn Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync>;

pub(super) struct Store<K> {
    source: Source,
    index: Option<Mutex<Index>>,
    decoded: Mutex<Decoded<K>>,
    observers: Mutex<Vec<Observer<K>>>,
    synced: watch::Sender<bool>,
}

impl<K: Object> Store<K> {
    pub(super) fn new(source: Source) -> Store<K> {
        Store {
            source,
            index: None,
            decoded: Mutex::new(Decoded::new()),
            observers: Mutex::default(),
            synced: watch::Sender::new(false),
        }
    }

    /// A store whose objects can be [found by](Store::found_by) `terms`.
    pub(super) fn indexed(source: Source, terms: Terms) -> Store<K> {
        Store {
            index: Some(Mutex::new(Index::new(terms))),
            ..Store::new(source)
        }
    }

    /// Adds an observer; the store must not be [followed](Store::follow) yet.
    pub(super) fn observe(
        &self,
        observer: impl Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync + 'static,
    ) {
        lock(&self.observers).push(Box::new(observer));
    }

    /// Tells the observers of everything there is and then of every change, until dropped.
    pub(super) async fn follow(&self) {
        let observers = std::mem::take(&mut *lock(&self.observers));
        let tell = |old: Side<'_>, new: Side<'_>| {
            if let Some(index) = &self.index {
                lock(index).catch_up(&self.source);
            }
            if observers.is_empty() {
                return;
            }
            let old = old.and_then(|stored| self.decode(stored));
            let new = new.and_then(|stored| self.decode(stored));
            if old.is_none() && new.is_none() {
                return;
            }
            for observer in &observers {
                observer(old.as_ref(), new.as_ref());
            }
        };
        let listed = || _ = self.synced.send_replace(true);
        self.source.follow(tell, listed).await;
    }

    /// Returns once the observers have heard of everything there was.
    pub(super) async fn wait_synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives as long as the store, so waiting cannot fail.
        let _ = synced.wait_for(|done| *done).await;
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.decode(&self.source.get(namespace, name)?)
    }

    pub(super) fn get_key(&self, key: &Key) -> Option<Arc<K>> {
        self.get(&key.namespace, &key.name)
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.source.get(&key.namespace, &key.name).is_some()
    }

    /// Everything in one namespace, ordered by name.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.decode_all(&self.source.list(Some(namespace)).objects)
    }

    /// Everything, ordered by namespace and name.
    pub(super) fn all(&self) -> Vec<Arc<K>> {
        self.decode_all(&self.source.list(None).objects)
    }

    /// What is wanted, ordered by namespace and name; everything wanted has `term` among its terms.
    ///
    /// `namespace` matters to terms that lead to objects of one namespace.
    pub(super) fn found_by(
        &self,
        namespace: &str,
        term: &Term,
        wanted: impl Fn(&K) -> bool,
    ) -> Vec<Arc<K>> {
        let mut found = self.decode_all(&self.candidates(namespace, term));
        found.retain(|object| wanted(object));
        found
    }

    /// How many objects may be found by the term.
    pub(super) fn count_by(&self, namespace: &str, term: &Term) -> usize {
        self.candidates(namespace, term).len()
    }

    fn candidates(&self, namespace: &str, term: &Term) -> Vec<Arc<Stored>> {
        let Some(index) = &self.index else {
            let namespace = match term {
                Term::InNamespace(_) => Some(namespace),
                Term::InCluster(_) => None,
            };
            return self.source.list(namespace).objects;
        };
        let mut index = lock(index);
        index.catch_up(&self.source);
        index.get(namespace, term)
    }

    fn decode_all(&self, stored: &[Arc<Stored>]) -> Vec<Arc<K>> {
        let objects = stored.iter().filter_map(|stored| self.decode(stored));
        objects.collect()
    }

    /// The object, unless it is not what the kind's objects are: one such object must not keep the others away.
    fn decode(&self, stored: &Arc<Stored>) -> Option<Arc<K>> {
        if let Some(object) = lock(&self.decoded).get(stored) {
            return Some(object);
        }
        let object = decoded::decode(&stored.document)
            .inspect_err(
                |error| tracing::warn!(%error, key = %stored.key, "an object cannot be read"),
            )
            .ok()?;
        let object = Arc::new(object);
        lock(&self.decoded).insert(stored, &object);
        Some(object)
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
