//! The namespace controller: empties a namespace that is being deleted, says what is left, and lets it go.

mod plan;

use std::sync::Arc;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knarr_api::{kind::Kind, kinds};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::{ObjectList, PartialObjectMeta, Request};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::inventory::{Change, Inventory};
use super::queue::{Next, Queue};
use super::store::Key;
use super::write::{Write, failure, perform};

use plan::Remaining;

type Error = super::write::Error;

/// Adds the controller's observers and its loop.
pub(super) fn spawn(
    cluster: &Arc<Cluster>,
    inventory: &Arc<Inventory>,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let queue = Queue::new();
    let leaving = Arc::clone(&queue);
    cluster.namespaces.observe(move |_, new| {
        if let Some(namespace) = new.filter(|namespace| is_leaving(namespace)) {
            leaving.add(Key::of(namespace.as_ref()));
        }
    });
    let (known, emptied) = (Arc::downgrade(cluster), Arc::clone(&queue));
    inventory.observe(move |_, change| {
        let Change::Gone { item, .. } = change else {
            return;
        };
        let Some(cluster) = known.upgrade().filter(|_| !item.namespace.is_empty()) else {
            return;
        };
        let namespace = cluster.namespaces.get("", &item.namespace);
        if namespace.is_some_and(|namespace| is_leaving(&namespace)) {
            emptied.add(Key::new("", item.namespace.clone()));
        }
    });
    cluster.reconcile("namespace", queue, reconcile, shutdown, tasks);
}

fn is_leaving(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}

async fn reconcile(cluster: Arc<Cluster>, key: Key) -> Result<Next, Error> {
    let Some(namespace) = cluster.namespaces.get_key(&key).filter(|n| is_leaving(n)) else {
        return Ok(Next::OnChange);
    };
    if plan::without_finalizer(&namespace).is_none() {
        return Ok(Next::OnChange);
    }
    let remaining = empty(&cluster, &key.name).await?;
    if remaining.is_empty() {
        finalize(&cluster, &namespace).await?;
        return Ok(Next::OnChange);
    }
    if let Some(told) = plan::with_conditions(&namespace, &remaining, Timestamp::now()) {
        perform(&cluster.client, Write::ReplaceStatus(told)).await?;
    }
    Ok(Next::OnChange)
}

/// Deletes what the namespace holds and says what is still there; pods go before what they may need.
async fn empty(cluster: &Cluster, namespace: &str) -> Result<Vec<Remaining>, Error> {
    let deletable =
        |kind: &&'static Kind| kind.is_namespaced() && kind.verbs.contains(&"deletecollection");
    let kinds = kinds::ALL.iter().copied().filter(deletable);
    let (pods, others): (Vec<_>, Vec<_>) =
        kinds.partition(|kind| kind.group.is_empty() && kind.kind == "Pod");
    for wave in [pods, others] {
        let left = wave
            .into_iter()
            .map(|kind| empty_of(cluster, namespace, kind));
        let left: Vec<Remaining> = try_join_all(left).await?.into_iter().flatten().collect();
        if !left.is_empty() {
            return Ok(left);
        }
    }
    Ok(Vec::new())
}

async fn empty_of(
    cluster: &Cluster,
    namespace: &str,
    kind: &'static Kind,
) -> Result<Option<Remaining>, Error> {
    let path = || {
        let root = if kind.group.is_empty() {
            "/api"
        } else {
            "/apis"
        };
        Request::new(format!(
            "{root}/{}/namespaces/{namespace}/{}",
            kind.api_version(),
            kind.plural
        ))
    };
    let fail = |source| failure::<Namespace>("empty", Key::new("", namespace), source);
    if list(cluster, path()).await.map_err(fail)?.is_empty() {
        return Ok(None);
    }
    let params = DeleteParams::background();
    let request = path().delete_collection(&params, &ListParams::default());
    let request = request.map_err(kube::Error::BuildRequest).map_err(fail)?;
    cluster
        .client
        .request::<Value>(request)
        .await
        .map_err(fail)?;
    let left = list(cluster, path()).await.map_err(fail)?;
    Ok((!left.is_empty()).then(|| Remaining::new(kind, &left)))
}

async fn list(cluster: &Cluster, path: Request) -> Result<Vec<ObjectMeta>, kube::Error> {
    let request = path
        .list_metadata(&ListParams::default())
        .map_err(kube::Error::BuildRequest)?;
    let list: ObjectList<PartialObjectMeta> = cluster.client.request(request).await?;
    Ok(list
        .items
        .into_iter()
        .map(|object| object.metadata)
        .collect())
}

async fn finalize(cluster: &Cluster, namespace: &Namespace) -> Result<(), Error> {
    let Some(finalized) = plan::without_finalizer(namespace) else {
        return Ok(());
    };
    let key = Key::of(namespace);
    let fail = |source| failure::<Namespace>("finalize", key.clone(), source);
    let body = serde_json::to_vec(&finalized)
        .map_err(kube::Error::SerdeError)
        .map_err(fail)?;
    let path = super::write::resource::<Namespace>("");
    let request = path.replace_subresource("finalize", &key.name, &PostParams::default(), body);
    let request = request.map_err(kube::Error::BuildRequest).map_err(fail)?;
    match cluster.client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        Err(source) => {
            let error = fail(source);
            if error.is_not_found() {
                Ok(())
            } else {
                Err(error)
            }
        }
    }
}
