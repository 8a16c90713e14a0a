//! The local copy of one kind: what the watch has said, overlaid by what this process wrote and has not seen come back.
//!
//! Exactly one reflector feeds a store; any number of controllers read it. Observers hear of watch events only, in order.

mod index;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use index::Index;
pub(super) use index::Terms;

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

type Objects<K> = BTreeMap<String, BTreeMap<String, Arc<K>>>;

pub(super) struct Store<K> {
    state: RwLock<State<K>>,
    pending: RwLock<Vec<Observer<K>>>,
    observers: OnceLock<Vec<Observer<K>>>,
    synced: watch::Sender<bool>,
}

struct State<K> {
    objects: Objects<K>,
    index: Index<K>,
    /// The newest revision the watch has delivered.
    seen: u64,
    own_writes: BTreeMap<Key, OwnWrite<K>>,
}

enum OwnWrite<K> {
    Written { object: Arc<K>, revision: u64 },
    Removed { uid: String },
}

impl<K: Object> Store<K> {
    pub(super) fn new() -> Store<K> {
        Store::indexed(|_| Vec::new())
    }

    /// A store whose objects can be [found by](Store::found_by) `terms`.
    pub(super) fn indexed(terms: Terms<K>) -> Store<K> {
        Store {
            state: RwLock::new(State {
                objects: BTreeMap::new(),
                index: Index::new(terms),
                seen: 0,
                own_writes: BTreeMap::new(),
            }),
            pending: RwLock::new(Vec::new()),
            observers: OnceLock::new(),
            synced: watch::Sender::new(false),
        }
    }

    /// Adds an observer; the reflector must not have been started yet.
    pub(super) fn observe(
        &self,
        observer: impl Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync + 'static,
    ) {
        let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
        pending.push(Box::new(observer));
    }

    /// Returns once the first listing is complete.
    pub(super) async fn wait_synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives as long as the store, so waiting cannot fail.
        let _ = synced.wait_for(|done| *done).await;
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let state = self.read();
        if !state.own_writes.is_empty() {
            match state.own_writes.get(&Key::new(namespace, name)) {
                Some(OwnWrite::Written { object, .. }) => return Some(Arc::clone(object)),
                Some(OwnWrite::Removed { uid }) => {
                    return state
                        .watched(namespace, name)
                        .filter(|object| object.meta().uid.as_deref() != Some(uid));
                }
                None => {}
            }
        }
        state.watched(namespace, name)
    }

    pub(super) fn get_key(&self, key: &Key) -> Option<Arc<K>> {
        self.get(&key.namespace, &key.name)
    }

    /// Everything in one namespace, ordered by name.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read().in_namespace(namespace)
    }

    /// What is wanted of one namespace, ordered by name; everything wanted has `term` among its terms.
    pub(super) fn found_by(
        &self,
        namespace: &str,
        term: &str,
        wanted: impl Fn(&K) -> bool,
    ) -> Vec<Arc<K>> {
        let state = self.read();
        state.overlaid(namespace, state.index.get(namespace, term), wanted)
    }

    /// Everything, ordered by namespace and name.
    pub(super) fn all(&self) -> Vec<Arc<K>> {
        let state = self.read();
        let own = state.own_writes.keys().map(|key| &key.namespace);
        let namespaces: BTreeSet<&String> = state.objects.keys().chain(own).collect();
        let found = namespaces.into_iter().map(|name| state.in_namespace(name));
        found.flatten().collect()
    }

    /// Takes in the answer to a write, so that the next plan sees it before the watch says it.
    pub(super) fn wrote(&self, mut object: K) -> Arc<K> {
        trim(&mut object);
        let key = Key::of(&object);
        let revision = revision(&object);
        let object = Arc::new(object);
        let mut state = self.write();
        if revision > state.seen {
            let object = Arc::clone(&object);
            state
                .own_writes
                .insert(key, OwnWrite::Written { object, revision });
        }
        object
    }

    /// Takes in that this process removed an object for good.
    pub(super) fn removed(&self, key: Key, uid: &str) {
        let mut state = self.write();
        let watched = state.watched(&key.namespace, &key.name);
        let overlaid = matches!(state.own_writes.get(&key), Some(OwnWrite::Written { .. }));
        if overlaid || watched.is_some_and(|object| object.meta().uid.as_deref() == Some(uid)) {
            state.own_writes.insert(
                key,
                OwnWrite::Removed {
                    uid: uid.to_owned(),
                },
            );
        }
    }

    /// Takes in one ADDED or MODIFIED event.
    pub(super) fn applied(&self, mut object: K) {
        trim(&mut object);
        let key = Key::of(&object);
        let new = Arc::new(object);
        let old = {
            let mut state = self.write();
            let revision = revision(new.as_ref());
            state.advance(revision);
            let uid = new.meta().uid.as_deref();
            if matches!(state.own_writes.get(&key), Some(OwnWrite::Removed { uid: gone }) if Some(gone.as_str()) != uid)
            {
                state.own_writes.remove(&key);
            }
            let old = state.take(&key);
            state.put(key, &new);
            old
        };
        self.tell(old.as_ref(), Some(&new));
    }

    /// Takes in one DELETED event.
    pub(super) fn deleted(&self, object: &K) {
        let key = Key::of(object);
        let old = {
            let mut state = self.write();
            state.advance(revision(object));
            if matches!(state.own_writes.get(&key), Some(OwnWrite::Removed { .. })) {
                state.own_writes.remove(&key);
            }
            state.take(&key)
        };
        if let Some(old) = old {
            self.tell(Some(&old), None);
        }
    }

    /// Swaps in a complete listing and tells the differences.
    pub(super) fn replaced(&self, listing: Vec<K>) {
        let mut fresh: Objects<K> = BTreeMap::new();
        let mut newest = 0;
        for mut object in listing {
            trim(&mut object);
            newest = newest.max(revision(&object));
            let key = Key::of(&object);
            fresh
                .entry(key.namespace)
                .or_default()
                .insert(key.name, Arc::new(object));
        }
        let old = {
            let mut state = self.write();
            state.seen = state.seen.max(newest);
            state.own_writes.clear();
            state.index.clear();
            for (key, object) in keyed(&fresh) {
                state.index.insert(&key, object);
            }
            std::mem::replace(&mut state.objects, fresh.clone())
        };
        for (namespace, names) in &fresh {
            for (name, new) in names {
                let before = old.get(namespace).and_then(|names| names.get(name));
                self.tell(before, Some(new));
            }
        }
        for (namespace, names) in &old {
            for (name, gone) in names {
                if fresh
                    .get(namespace)
                    .is_none_or(|names| !names.contains_key(name))
                {
                    self.tell(Some(gone), None);
                }
            }
        }
        self.synced.send_replace(true);
    }

    fn tell(&self, old: Option<&Arc<K>>, new: Option<&Arc<K>>) {
        let observers = self.observers.get_or_init(|| {
            let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *pending)
        });
        for observer in observers {
            observer(old, new);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Object> State<K> {
    fn watched(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.objects.get(namespace)?.get(name).map(Arc::clone)
    }

    fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let names = self.objects.get(namespace);
        let watched = names.into_iter().flat_map(BTreeMap::values);
        self.overlaid(namespace, watched, |_| true)
    }

    /// Lays own writes over what the watch has said.
    fn overlaid<'a>(
        &'a self,
        namespace: &str,
        watched: impl Iterator<Item = &'a Arc<K>>,
        wanted: impl Fn(&K) -> bool,
    ) -> Vec<Arc<K>> {
        let own = self.own_writes.range(Key::new(namespace, "")..);
        let own: BTreeMap<&str, &OwnWrite<K>> = own
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(key, write)| (key.name.as_str(), write))
            .collect();
        let watched = watched.filter(|object| {
            let name = object.meta().name.as_deref().unwrap_or_default();
            match own.get(name) {
                None => true,
                Some(OwnWrite::Written { .. }) => false,
                Some(OwnWrite::Removed { uid }) => object.meta().uid.as_ref() != Some(uid),
            }
        });
        let written = own.values().filter_map(|write| match write {
            OwnWrite::Written { object, .. } => Some(object),
            OwnWrite::Removed { .. } => None,
        });
        let objects = watched.chain(written);
        let mut found: Vec<Arc<K>> = objects.filter(|object| wanted(object)).cloned().collect();
        if !own.is_empty() {
            found.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
        }
        found
    }

    fn take(&mut self, key: &Key) -> Option<Arc<K>> {
        let names = self.objects.get_mut(&key.namespace)?;
        let object = names.remove(&key.name)?;
        if names.is_empty() {
            self.objects.remove(&key.namespace);
        }
        self.index.remove(key, &object);
        Some(object)
    }

    fn put(&mut self, key: Key, object: &Arc<K>) {
        self.index.insert(&key, object);
        let names = self.objects.entry(key.namespace).or_default();
        names.insert(key.name, Arc::clone(object));
    }

    /// The watch is ordered by revision, so every own write up to `revision` has been told.
    fn advance(&mut self, revision: u64) {
        self.seen = self.seen.max(revision);
        let seen = self.seen;
        self.own_writes.retain(|_, write| match write {
            OwnWrite::Written { revision, .. } => *revision > seen,
            OwnWrite::Removed { .. } => true,
        });
    }
}

fn keyed<K>(objects: &Objects<K>) -> impl Iterator<Item = (Key, &Arc<K>)> {
    objects.iter().flat_map(|(namespace, names)| {
        let key = |name: &String| Key::new(namespace.as_str(), name.as_str());
        names.iter().map(move |(name, object)| (key(name), object))
    })
}

/// Managed fields are as large as the rest of a small object, and no plan reads them.
fn trim<K: Object>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// Revisions are decimal and comparable, as the API promises since Kubernetes 1.35.
pub(super) fn revision<K: Object>(object: &K) -> u64 {
    let text = object.meta().resource_version.as_deref();
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str, uid: &str, revision: u64) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some("ns".into());
        object.metadata.name = Some(name.into());
        object.metadata.uid = Some(uid.into());
        object.metadata.resource_version = Some(revision.to_string());
        object
    }

    fn names(store: &Store<ConfigMap>) -> Vec<String> {
        let all = store.in_namespace("ns");
        all.iter()
            .map(|o| format!("{}@{}", Key::of(o.as_ref()).name, revision(o.as_ref())))
            .collect()
    }

    #[test]
    fn own_writes_are_seen_before_the_watch_and_never_outlive_it() {
        let store = Store::new();
        store.replaced(vec![object("a", "1", 1)]);
        store.wrote(object("b", "2", 5));
        assert_eq!(names(&store), ["a@1", "b@5"]);
        store.applied(object("b", "2", 5));
        store.deleted(&object("b", "2", 6));
        assert_eq!(names(&store), ["a@1"]);
        store.wrote(object("b", "2", 5));
        assert_eq!(
            names(&store),
            ["a@1"],
            "an answer older than the watch must not raise the dead"
        );
    }

    #[test]
    fn own_removals_hide_the_object_but_not_its_successor() {
        let store = Store::new();
        store.replaced(vec![object("a", "1", 1)]);
        store.removed(Key::new("ns", "a"), "1");
        assert_eq!(names(&store), Vec::<String>::new());
        store.applied(object("a", "1", 2));
        assert_eq!(names(&store), Vec::<String>::new());
        store.applied(object("a", "2", 4));
        assert_eq!(names(&store), ["a@4"]);
    }

    #[test]
    fn terms_lead_to_what_was_watched_and_to_own_writes() {
        let uid = |object: &ConfigMap| object.metadata.uid.clone().into_iter().collect();
        let store: Store<ConfigMap> = Store::indexed(uid);
        let found = |term: &str| -> Vec<String> {
            let is_wanted = |object: &ConfigMap| object.metadata.uid.as_deref() == Some(term);
            let found = store.found_by("ns", term, is_wanted);
            found
                .iter()
                .map(|object| Key::of(object.as_ref()).name)
                .collect()
        };
        store.replaced(vec![object("a", "1", 1), object("b", "2", 2)]);
        assert_eq!(found("1"), ["a"]);
        store.wrote(object("c", "1", 5));
        assert_eq!(found("1"), ["a", "c"]);
        store.applied(object("a", "2", 6));
        assert_eq!(found("1"), Vec::<String>::new());
        assert_eq!(found("2"), ["a", "b"]);
        store.deleted(&object("b", "2", 7));
        assert_eq!(found("2"), ["a"]);
    }

    #[test]
    fn observers_hear_a_relist_as_differences() {
        let store = Store::new();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        store.observe(
            move |old: Option<&Arc<ConfigMap>>, new: Option<&Arc<ConfigMap>>| {
                let name = |o: &Arc<ConfigMap>| o.metadata.name.clone().unwrap_or_default();
                let mut log = log.lock().expect("not poisoned");
                log.push((old.map(name), new.map(name)));
            },
        );
        store.replaced(vec![object("a", "1", 1), object("b", "2", 2)]);
        store.replaced(vec![object("b", "2", 2)]);
        let heard = heard.lock().expect("not poisoned").clone();
        let name = |n: &str| Some(n.to_owned());
        let expected = [
            (None, name("a")),
            (None, name("b")),
            (name("b"), name("b")),
            (name("a"), None),
        ];
        assert_eq!(heard, expected);
    }
}
