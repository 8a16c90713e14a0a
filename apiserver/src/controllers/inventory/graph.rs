//! Objects by uid, and by the uids of their owners. Holds what the server holds anyway, and reads none of it.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::storage::Stored;

#[derive(Default)]
pub(super) struct Graph {
    objects: HashSet<ByUid>,
    /// Owner to dependents; the owner itself may be unknown.
    dependents: HashMap<Box<str>, BTreeSet<ByUid>>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<Arc<Stored>> {
        self.objects
            .get(uid)
            .map(|ByUid(stored)| Arc::clone(stored))
    }

    pub(super) fn contains(&self, uid: &str) -> bool {
        self.objects.contains(uid)
    }

    pub(super) fn dependents(&self, owner: &str) -> Vec<Arc<Stored>> {
        let dependents = self.dependents.get(owner).into_iter().flatten();
        dependents.map(|ByUid(stored)| Arc::clone(stored)).collect()
    }

    pub(super) fn insert(&mut self, stored: &Arc<Stored>, owners: &[OwnerReference]) {
        self.objects.replace(ByUid(Arc::clone(stored)));
        for owner in owners {
            let new = ByUid(Arc::clone(stored));
            match self.dependents.get_mut(owner.uid.as_str()) {
                Some(dependents) => drop(dependents.replace(new)),
                None => {
                    let dependents = BTreeSet::from([new]);
                    self.dependents
                        .insert(owner.uid.as_str().into(), dependents);
                }
            }
        }
    }

    /// Forgets an object as it was inserted.
    pub(super) fn remove(&mut self, stored: &Stored, owners: &[OwnerReference]) {
        self.objects.remove(&*stored.uid);
        for owner in owners {
            let Some(dependents) = self.dependents.get_mut(owner.uid.as_str()) else {
                continue;
            };
            dependents.remove(&*stored.uid);
            if dependents.is_empty() {
                self.dependents.remove(owner.uid.as_str());
            }
        }
    }
}

/// An object told from others by its uid alone.
struct ByUid(Arc<Stored>);

impl Borrow<str> for ByUid {
    fn borrow(&self) -> &str {
        &self.0.uid
    }
}

impl Hash for ByUid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        str::hash(self.borrow(), state);
    }
}

impl PartialEq for ByUid {
    fn eq(&self, other: &ByUid) -> bool {
        self.0.uid == other.0.uid
    }
}

impl Eq for ByUid {}

impl PartialOrd for ByUid {
    fn partial_cmp(&self, other: &ByUid) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByUid {
    fn cmp(&self, other: &ByUid) -> std::cmp::Ordering {
        self.0.uid.cmp(&other.0.uid)
    }
}
