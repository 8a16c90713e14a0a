//! What is in memory: each kind's objects in order, and a bounded log of its latest changes. Does no I/O.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use knarr_api::kind::{Durability, Kind};
use tokio::sync::watch;

use super::{
    Change, Claim, Claims, Event, Expired, Key, Listing, Revision, Stored, disk::Contents,
};

/// Changes a kind's log reaches back.
const LOG_EVENTS_MAX: usize = 20_000;
/// Bytes of documents that only a kind's log keeps alive.
const LOG_BYTES_MAX: usize = 8 << 20;
/// The same for kinds that are written again and again, of which nobody reads old states.
const MEMORY_LOG_BYTES_MAX: usize = 1 << 20;

/// Documents that are fetched from a log at once, but for the last of them.
const FETCHED_BYTES_MAX: usize = 256 << 10;

/// All kinds, the claims, and the latest published revision.
pub(super) struct Cache {
    kinds: HashMap<(&'static str, &'static str), Arc<KindCache>>,
    claims: RwLock<Claims>,
    revision: AtomicU64,
}

impl Cache {
    pub(super) fn new(kinds: &'static [&'static Kind], contents: Contents) -> Self {
        let Contents {
            revision,
            objects,
            claims,
        } = contents;
        let mut rows: HashMap<(&str, &str), Objects> = HashMap::new();
        for stored in objects {
            let kind = stored.key.kind;
            let objects = rows.entry((kind.group, kind.plural)).or_default();
            insert(objects, Arc::new(stored));
        }
        let kinds = kinds
            .iter()
            .map(|kind| {
                let place = (kind.group, kind.plural);
                let objects = rows.remove(&place).unwrap_or_default();
                (
                    place,
                    Arc::new(KindCache::new(objects, revision, log_bytes_max(kind))),
                )
            })
            .collect();
        Cache {
            kinds,
            claims: RwLock::new(claims),
            revision: AtomicU64::new(revision.0),
        }
    }

    pub(super) fn kind(&self, kind: &Kind) -> Option<&Arc<KindCache>> {
        self.kinds.get(&(kind.group, kind.plural))
    }

    pub(super) fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    pub(super) fn claims(&self) -> RwLockReadGuard<'_, Claims> {
        self.claims.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn list(&self, kind: &Kind, namespace: Option<&str>) -> Listing {
        let Some(cache) = self.kind(kind) else {
            return Listing {
                revision: self.revision(),
                objects: Vec::new(),
            };
        };
        let state = cache.read();
        // Every change up to the global revision is published, and this kind may be one batch ahead of it.
        let revision = self.revision().max(state.latest);
        Listing {
            revision,
            objects: iter(&state.objects, namespace).cloned().collect(),
        }
    }

    pub(super) fn list_at(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        revision: Revision,
    ) -> Result<Listing, Expired> {
        let cache = self.kind(kind).ok_or(Expired)?;
        let objects = cache.read().objects_at(namespace, revision)?;
        Ok(Listing { revision, objects })
    }

    /// Publishes one transaction. Only the writer calls this, so changes arrive in order.
    pub(super) fn publish(&self, events: Vec<Event>, claims: &[(Hold, Claim)]) {
        if !claims.is_empty() {
            let mut held = self.claims.write().unwrap_or_else(PoisonError::into_inner);
            for (hold, claim) in claims {
                match hold {
                    Hold::Taken => held.insert(claim),
                    Hold::Released => held.remove(claim),
                }
            }
        }
        let Some(last) = events.last().map(Event::revision) else {
            return;
        };
        let mut by_kind: HashMap<(&str, &str), Vec<Event>> = HashMap::new();
        for event in events {
            let kind = event.object.key.kind;
            by_kind
                .entry((kind.group, kind.plural))
                .or_default()
                .push(event);
        }
        let published: Vec<_> = by_kind
            .into_iter()
            .filter_map(|(place, events)| Some((self.kinds.get(&place)?, events)))
            .map(|(kind, events)| (kind, kind.extend(events)))
            .collect();
        self.revision.store(last.0, Ordering::Release);
        for (kind, latest) in published {
            kind.announce.send_replace(latest);
        }
    }
}

fn log_bytes_max(kind: &Kind) -> usize {
    match kind.durability {
        Durability::Disk => LOG_BYTES_MAX,
        Durability::Memory | Durability::Expiring { .. } => MEMORY_LOG_BYTES_MAX,
    }
}

/// What happens to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Taken,
    Released,
}

/// By namespace, then by name.
type Objects = BTreeMap<String, BTreeMap<String, Arc<Stored>>>;

/// One kind's objects and log.
pub(super) struct KindCache {
    state: RwLock<KindState>,
    announce: watch::Sender<Revision>,
}

struct KindState {
    objects: Objects,
    log: VecDeque<Event>,
    log_bytes: usize,
    log_bytes_max: usize,
    /// The log holds every change after this revision.
    floor: Revision,
    latest: Revision,
}

impl KindCache {
    fn new(objects: Objects, revision: Revision, log_bytes_max: usize) -> Self {
        KindCache {
            state: RwLock::new(KindState {
                objects,
                log: VecDeque::new(),
                log_bytes: 0,
                log_bytes_max,
                floor: revision,
                latest: revision,
            }),
            announce: watch::Sender::new(revision),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, KindState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, KindState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn latest(&self) -> watch::Receiver<Revision> {
        self.announce.subscribe()
    }

    pub(super) fn revision(&self) -> Revision {
        self.read().latest
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        self.read().objects.get(namespace)?.get(name).cloned()
    }

    /// Up to `count_max` changes after `position`, oldest first, and no more after one that is large.
    pub(super) fn after(
        &self,
        position: Revision,
        count_max: usize,
    ) -> Result<Vec<Event>, Expired> {
        let state = self.read();
        if position < state.floor {
            return Err(Expired);
        }
        let start = state.log.partition_point(|e| e.revision() <= position);
        let mut bytes = 0;
        let mut events = Vec::new();
        for event in state.log.range(start..).take(count_max) {
            bytes += event.object.document.len() + kept_alive(event);
            events.push(event.clone());
            // Whoever does not come back for them keeps them alive.
            if bytes > FETCHED_BYTES_MAX {
                break;
            }
        }
        Ok(events)
    }

    fn extend(&self, events: Vec<Event>) -> Revision {
        let mut state = self.write();
        for event in events {
            state.push(event);
        }
        state.trim();
        state.latest
    }
}

impl KindState {
    fn push(&mut self, event: Event) {
        match event.change {
            Change::Added | Change::Modified => insert(&mut self.objects, event.object.clone()),
            Change::Deleted => remove(&mut self.objects, &event.object),
        }
        self.latest = event.revision();
        self.log_bytes += kept_alive(&event);
        self.log.push_back(event);
    }

    fn trim(&mut self) {
        while self.log.len() > LOG_EVENTS_MAX || self.log_bytes > self.log_bytes_max {
            let Some(oldest) = self.log.pop_front() else {
                return;
            };
            self.log_bytes -= kept_alive(&oldest);
            self.floor = oldest.revision();
        }
    }

    /// Undoes the log back to `revision`.
    fn objects_at(
        &self,
        namespace: Option<&str>,
        revision: Revision,
    ) -> Result<Vec<Arc<Stored>>, Expired> {
        if revision < self.floor {
            return Err(Expired);
        }
        let mut undone: HashMap<(&str, &str), Option<&Arc<Stored>>> = HashMap::new();
        for event in self.log.iter().rev() {
            if event.revision() <= revision {
                break;
            }
            let key = &event.object.key;
            if namespace.is_none_or(|n| n == key.namespace) {
                undone.insert((&key.namespace, &key.name), event.previous.as_ref());
            }
        }
        let mut objects: BTreeMap<(&str, &str), &Arc<Stored>> = iter(&self.objects, namespace)
            .map(|s| ((s.key.namespace.as_str(), s.key.name.as_str()), s))
            .collect();
        for (place, previous) in undone {
            match previous {
                Some(previous) => objects.insert(place, previous),
                None => objects.remove(&place),
            };
        }
        Ok(objects.into_values().cloned().collect())
    }
}

/// What an event holds on to that the kind's objects no longer do.
fn kept_alive(event: &Event) -> usize {
    let previous = event.previous.as_ref().map_or(0, |s| s.document.len());
    match event.change {
        Change::Added | Change::Modified => previous,
        Change::Deleted => previous + event.object.document.len(),
    }
}

fn iter<'a>(
    objects: &'a Objects,
    namespace: Option<&str>,
) -> impl Iterator<Item = &'a Arc<Stored>> {
    let (one, all) = match namespace {
        Some(namespace) => (objects.get(namespace), None),
        None => (None, Some(objects.values())),
    };
    one.into_iter()
        .chain(all.into_iter().flatten())
        .flat_map(BTreeMap::values)
}

fn insert(objects: &mut Objects, stored: Arc<Stored>) {
    let Key {
        namespace, name, ..
    } = &stored.key;
    if let Some(names) = objects.get_mut(namespace.as_str()) {
        names.insert(name.clone(), stored);
    } else {
        let names = BTreeMap::from([(name.clone(), stored.clone())]);
        objects.insert(namespace.clone(), names);
    }
}

fn remove(objects: &mut Objects, stored: &Stored) {
    if let Some(names) = objects.get_mut(stored.key.namespace.as_str()) {
        names.remove(stored.key.name.as_str());
        if names.is_empty() {
            objects.remove(stored.key.namespace.as_str());
        }
    }
}
