//! Every object of every kind, by uid: who owns whom, and what is on its way out. Knows metadata only.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use knarr_api::{kind::Kind, kinds};
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::store::Store;

pub(super) const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
pub(super) const ORPHAN_FINALIZER: &str = "orphan";

/// What is kept of one object.
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

#[derive(Default)]
struct Graph {
    items: HashMap<String, Item>,
    /// Owner to dependents; the owner itself may be unknown.
    dependents: HashMap<String, BTreeSet<String>>,
}

/// Kinds whose full objects the controllers keep anyway.
const TYPED: [&str; 16] = [
    "ControllerRevision",
    "CronJob",
    "DaemonSet",
    "Deployment",
    "EndpointSlice",
    "Endpoints",
    "IPAddress",
    "Job",
    "Namespace",
    "Node",
    "Pod",
    "ReplicaSet",
    "ServiceAccount",
    "Service",
    "ServiceCIDR",
    "StatefulSet",
];

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

    /// Taps the stores, and watches the metadata of every other kind.
    pub(super) fn spawn(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        shutdown: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) {
        self.tap(&cluster.controller_revisions);
        self.tap(&cluster.cron_jobs);
        self.tap(&cluster.daemon_sets);
        self.tap(&cluster.deployments);
        self.tap(&cluster.endpoint_slices);
        self.tap(&cluster.endpoints);
        self.tap(&cluster.ip_addresses);
        self.tap(&cluster.jobs);
        self.tap(&cluster.namespaces);
        self.tap(&cluster.nodes);
        self.tap(&cluster.pods);
        self.tap(&cluster.replica_sets);
        self.tap(&cluster.service_accounts);
        self.tap(&cluster.service_cidrs);
        self.tap(&cluster.services);
        self.tap(&cluster.stateful_sets);
        for kind in watchable().filter(|kind| !TYPED.contains(&kind.kind)) {
            self.missing.send_modify(|missing| *missing += 1);
            let (inventory, cluster, shutdown) =
                (Arc::clone(self), Arc::clone(cluster), shutdown.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = inventory.follow(kind, &cluster) => {}
                }
            });
        }
    }

    /// Returns once every kind has been listed.
    pub(super) async fn wait_synced(&self, cluster: &Cluster) {
        cluster.wait_synced().await;
        let mut missing = self.missing.subscribe();
        // The sender lives as long as the inventory, so waiting cannot fail.
        let _ = missing.wait_for(|missing| *missing == 0).await;
    }

    pub(super) fn get(&self, uid: &str) -> Option<Item> {
        self.lock().items.get(uid).cloned()
    }

    pub(super) fn contains(&self, uid: &str) -> bool {
        self.lock().items.contains_key(uid)
    }

    /// The objects that name `uid` among their owners.
    pub(super) fn dependents(&self, uid: &str) -> Vec<(String, Item)> {
        let graph = self.lock();
        let uids = graph.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| Some((uid.clone(), graph.items.get(uid)?.clone())))
            .collect()
    }

    fn tap<K: super::store::Object>(self: &Arc<Self>, store: &Store<K>) {
        let inventory = Arc::downgrade(self);
        let group = K::group(&()).into_owned();
        let Some(kind) = kinds::by_kind(&group, &K::version(&()), &K::kind(&())) else {
            return;
        };
        store.observe(move |old, new| {
            let Some(inventory) = inventory.upgrade() else {
                return;
            };
            if let Some(old) = old
                && new.is_none_or(|new| new.meta().uid != old.meta().uid)
            {
                inventory.gone(old.meta());
            }
            if let Some(new) = new {
                inventory.present(kind, new.meta());
            }
        });
    }

    async fn follow(&self, kind: &'static Kind, cluster: &Cluster) {
        let resource = resource(kind);
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::all_with(cluster.client.clone(), &resource);
        let events = watcher(api, watcher::Config::default()).default_backoff();
        let events = events
            .inspect_err(|error| tracing::warn!(kind = kind.kind, %error, "watch interrupted"));
        let mut events = std::pin::pin!(events);
        let mut listed = false;
        let mut listing: Vec<String> = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listing.clear(),
                Ok(watcher::Event::InitApply(object)) => {
                    listing.extend(object.metadata.uid.clone());
                    self.present(kind, &object.metadata);
                }
                Ok(watcher::Event::InitDone) => {
                    self.forget_others(kind, &listing);
                    if !listed {
                        listed = true;
                        self.missing.send_modify(|missing| *missing -= 1);
                    }
                }
                Ok(watcher::Event::Apply(object)) => self.present(kind, &object.metadata),
                Ok(watcher::Event::Delete(object)) => self.gone(&object.metadata),
                // The watcher itself starts again, after a delay.
                Err(_) => {}
            }
        }
    }

    fn present(&self, kind: &'static Kind, meta: &ObjectMeta) {
        let Some(uid) = &meta.uid else { return };
        let item = item(kind, meta);
        let before = self.lock().insert(uid, item.clone());
        self.tell(&Change::Present {
            uid,
            item: &item,
            before: before.as_ref(),
        });
    }

    fn gone(&self, meta: &ObjectMeta) {
        let Some(uid) = &meta.uid else { return };
        let removed = self.lock().remove(uid);
        if let Some(item) = removed {
            self.tell(&Change::Gone { uid, item: &item });
        }
    }

    fn forget_others(&self, kind: &'static Kind, listed: &[String]) {
        let listed: BTreeSet<&String> = listed.iter().collect();
        let vanished: Vec<String> = {
            let graph = self.lock();
            let of_kind = graph
                .items
                .iter()
                .filter(|(_, item)| std::ptr::eq(item.kind, kind));
            of_kind
                .map(|(uid, _)| uid.clone())
                .filter(|uid| !listed.contains(uid))
                .collect()
        };
        for uid in vanished {
            let removed = self.lock().remove(&uid);
            if let Some(item) = removed {
                self.tell(&Change::Gone {
                    uid: &uid,
                    item: &item,
                });
            }
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

impl Graph {
    fn insert(&mut self, uid: &str, item: Item) -> Option<Item> {
        let before = self.items.get(uid).cloned();
        if let Some(before) = &before {
            self.unlink(uid, before);
        }
        for owner in &item.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.to_owned());
        }
        self.items.insert(uid.to_owned(), item);
        before
    }

    fn remove(&mut self, uid: &str) -> Option<Item> {
        let item = self.items.remove(uid)?;
        self.unlink(uid, &item);
        Some(item)
    }

    fn unlink(&mut self, uid: &str, item: &Item) {
        for owner in &item.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }
}

/// What the inventory keeps of an object with `meta`.
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

/// The kind as dynamic clients name it.
pub(super) fn resource(kind: &Kind) -> ApiResource {
    ApiResource {
        group: kind.group.to_owned(),
        version: kind.version.to_owned(),
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    }
}
