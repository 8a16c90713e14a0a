//! What controllers of identical pods share: which pods concern them, and making and removing pods in bulk.

use std::sync::Arc;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::claim::controller_of;
use super::cluster::Cluster;
use super::event::Notice;
use super::queue::Queue;
use super::selector;
use super::store::{Key, Object, Store};
use super::write::{Error, Write, perform};

/// A queue that is told of an object of `S` when it changes, when one of its pods does, and of a pod that it could adopt.
pub(super) fn observe<S: Object>(
    cluster: &Arc<Cluster>,
    store: fn(&Cluster) -> &Store<S>,
    selector: fn(&S) -> Option<&LabelSelector>,
) -> Arc<Queue<Key>> {
    let queue = Queue::new();
    let own = Arc::clone(&queue);
    store(cluster).observe(move |old, new| {
        if let Some(set) = new.or(old) {
            own.add(Key::of(set.as_ref()));
        }
    });
    let (known, by_pod) = (Arc::downgrade(cluster), Arc::clone(&queue));
    cluster.pods.observe(move |old, new| {
        let mut owned = false;
        for pod in [old, new].into_iter().flatten() {
            if let Some(owner) = controller_of(&pod.metadata) {
                owned = true;
                if owner.kind == S::kind(&()) {
                    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
                    by_pod.add(Key::new(namespace, owner.name.clone()));
                }
            }
        }
        if let (false, Some(pod), Some(cluster)) = (owned, new, known.upgrade()) {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let sets = store(&cluster).in_namespace(namespace);
            let adopts = |set: &&Arc<S>| selector(set).is_some_and(|labels| adopts(labels, pod));
            sets.iter()
                .filter(adopts)
                .for_each(|set| by_pod.add(Key::of(set.as_ref())));
        }
    });
    queue
}

/// Says whether a pod that nobody controls could be adopted by a controller with this selector.
fn adopts(selector: &LabelSelector, pod: &Pod) -> bool {
    !selector::is_empty(selector) && selector::matches(selector, pod.metadata.labels.as_ref())
}

/// The pod writes of one plan.
#[derive(Debug, Default, PartialEq)]
pub(super) struct PodWrites {
    /// Adoptions, releases and other patches.
    pub(super) patched: Vec<Write<Pod>>,
    pub(super) created: Vec<Pod>,
    pub(super) deleted: Vec<Arc<Pod>>,
}

/// A pod write that failed, named as Kubernetes' conditions do.
pub(super) struct Failure {
    reason: &'static str,
    error: Error,
}

impl Failure {
    /// Reason and message of a `ReplicaFailure` condition.
    pub(super) fn condition(&self) -> (&'static str, String) {
        (self.reason, self.error.message())
    }

    pub(super) fn into_error(self) -> Error {
        self.error
    }
}

/// Performs the pod writes of a plan for `owner` and tells about each.
///
/// A namespace that is going away takes no new pods, and needs none.
pub(super) async fn apply<K: Object>(
    cluster: &Cluster,
    component: &'static str,
    owner: &K,
    writes: PodWrites,
) -> Result<(), Failure> {
    let PodWrites {
        patched,
        created,
        deleted,
    } = writes;
    let mut first = None;
    let patches = join_all(
        patched
            .into_iter()
            .map(|write| perform(&cluster.client, write)),
    )
    .await;
    for error in patches
        .into_iter()
        .filter_map(Result::err)
        .filter(|error| !error.is_not_found())
    {
        first.get_or_insert(Failure {
            reason: "FailedAdopt",
            error,
        });
    }
    let creations = created
        .into_iter()
        .map(|pod| create(cluster, component, owner, pod));
    let deletions = deleted
        .into_iter()
        .map(|pod| delete(cluster, component, owner, pod));
    let (creations, deletions) = futures_util::join!(join_all(creations), join_all(deletions));
    for failure in creations
        .into_iter()
        .chain(deletions)
        .filter_map(Result::err)
    {
        first.get_or_insert(failure);
    }
    first.map_or(Ok(()), Err)
}

async fn create<K: Object>(
    cluster: &Cluster,
    component: &'static str,
    owner: &K,
    pod: Pod,
) -> Result<(), Failure> {
    match perform(&cluster.client, Write::Create(pod)).await {
        Ok(pod) => {
            let name = pod
                .and_then(|pod| pod.metadata.name.clone())
                .unwrap_or_default();
            let notice = Notice::normal("SuccessfulCreate", format!("Created pod: {name}"));
            cluster.recorder.record(component, owner, notice);
            Ok(())
        }
        Err(error) if error.is_namespace_terminating() => Ok(()),
        Err(error) => {
            let notice = Notice::warning(
                "FailedCreate",
                format!("Error creating: {}", error.message()),
            );
            cluster.recorder.record(component, owner, notice);
            let reason = "FailedCreate";
            Err(Failure { reason, error })
        }
    }
}

async fn delete<K: Object>(
    cluster: &Cluster,
    component: &'static str,
    owner: &K,
    pod: Arc<Pod>,
) -> Result<(), Failure> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    match perform(&cluster.client, Write::delete(pod.as_ref())).await {
        Ok(_) => {
            let notice = Notice::normal("SuccessfulDelete", format!("Deleted pod: {name}"));
            cluster.recorder.record(component, owner, notice);
            Ok(())
        }
        Err(error) => {
            let notice = Notice::warning(
                "FailedDelete",
                format!("Error deleting: {}", error.message()),
            );
            cluster.recorder.record(component, owner, notice);
            let reason = "FailedDelete";
            Err(Failure { reason, error })
        }
    }
}
