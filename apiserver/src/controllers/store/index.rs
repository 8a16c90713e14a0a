//! What a term leads to, so that nobody walks through everything. Knows no kind; reads a change when it is asked next.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::controllers::follow::{ByKey, Source};
use crate::storage::{Stored, Watch};

/// Something by which an object is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::controllers) enum Term {
    /// Among the objects of its own namespace.
    InNamespace(String),
    /// Among all objects of its kind.
    InCluster(String),
}

/// The terms by which an object is found.
pub(in crate::controllers) type Terms = fn(&Stored) -> Vec<Term>;

pub(super) struct Index {
    terms: Terms,
    /// By the hash of a term: what shares one is told apart by whoever asks.
    found: HashMap<u64, Found>,
    hasher: RandomState,
    changes: Option<Watch>,
}

/// Most terms lead to one object, which then needs no set of its own.
enum Found {
    One(ByKey),
    Many(BTreeSet<ByKey>),
}

impl Index {
    pub(super) fn new(terms: Terms) -> Index {
        Index {
            terms,
            found: HashMap::new(),
            hasher: RandomState::new(),
            changes: None,
        }
    }

    /// Takes in what has happened since it was last called.
    pub(super) fn catch_up(&mut self, source: &Source) {
        loop {
            let Some(changes) = &mut self.changes else {
                return self.begin(source);
            };
            match changes.try_next() {
                Ok(Some(event)) => {
                    let (old, new) = source.sides(event);
                    if let Some(old) = old {
                        self.remove(&old);
                    }
                    if let Some(new) = new {
                        self.insert(&new);
                    }
                }
                Ok(None) => return,
                Err(_) => self.changes = None,
            }
        }
    }

    fn begin(&mut self, source: &Source) {
        self.found.clear();
        let listing = source.list(None);
        self.changes = source.watch(&listing).ok();
        for stored in &listing.objects {
            self.insert(stored);
        }
    }

    /// What may be found by the term, in the order of namespaces and names.
    pub(super) fn get(&self, namespace: &str, term: &Term) -> Vec<Arc<Stored>> {
        match self.found.get(&self.hash(namespace, term)) {
            None => Vec::new(),
            Some(Found::One(ByKey(stored))) => vec![Arc::clone(stored)],
            Some(Found::Many(all)) => all.iter().map(|ByKey(stored)| Arc::clone(stored)).collect(),
        }
    }

    fn hash(&self, namespace: &str, term: &Term) -> u64 {
        match term {
            Term::InNamespace(_) => self.hasher.hash_one((namespace, term)),
            Term::InCluster(_) => self.hasher.hash_one(term),
        }
    }

    fn insert(&mut self, stored: &Arc<Stored>) {
        for term in (self.terms)(stored) {
            let hash = self.hash(&stored.key.namespace, &term);
            let new = ByKey(Arc::clone(stored));
            let found = match self.found.remove(&hash) {
                None => Found::One(new),
                Some(Found::One(other)) if other == new => Found::One(new),
                Some(Found::One(other)) => Found::Many(BTreeSet::from([other, new])),
                Some(Found::Many(mut all)) => {
                    all.replace(new);
                    Found::Many(all)
                }
            };
            self.found.insert(hash, found);
        }
    }

    /// Forgets an object as it was inserted.
    fn remove(&mut self, stored: &Arc<Stored>) {
        let gone = ByKey(Arc::clone(stored));
        for term in (self.terms)(stored) {
            let hash = self.hash(&stored.key.namespace, &term);
            let is_empty = match self.found.get_mut(&hash) {
                None => false,
                Some(Found::One(one)) => *one == gone,
                Some(Found::Many(all)) => {
                    all.remove(&gone);
                    all.is_empty()
                }
            };
            if is_empty {
                self.found.remove(&hash);
            }
        }
    }
}
