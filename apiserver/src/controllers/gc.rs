//! The garbage collector: what loses its last owner goes, what waits for its dependents waits, what is orphaned is let go.

mod plan;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use knarr_api::{kind::Kind, kinds};
use kube::api::{GetParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::core::Request;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::inventory::{self, Change, Inventory, Item};
use super::queue::{Next, Queue};
use super::write::{FIELD_MANAGER, Propagation, delete_params};

use plan::{Action, Owner, Snapshot};

/// A request that the collector could not get answered.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {kind} {name}")]
struct Error {
    verb: &'static str,
    kind: &'static str,
    name: String,
    #[source]
    source: Box<kube::Error>,
}

/// Adds the collector's observer and its loop.
pub(super) fn spawn(
    cluster: &Arc<Cluster>,
    inventory: &Arc<Inventory>,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let queue = Queue::new();
    let suspects = Arc::clone(&queue);
    inventory.observe(move |inventory, change| {
        for uid in suspected(inventory, &change) {
            suspects.add(uid);
        }
    });
    let (cluster, inventory, shutdown) =
        (Arc::clone(cluster), Arc::clone(inventory), shutdown.clone());
    tasks.spawn(async move {
        inventory.wait_synced().await;
        let (suspects, known) = (Arc::clone(&queue), Arc::clone(&inventory));
        let reconcile = |uid: String| {
            let (cluster, inventory, queue) = (
                Arc::clone(&cluster),
                Arc::clone(&known),
                Arc::clone(&suspects),
            );
            async move { reconcile(&cluster, &inventory, &queue, &uid).await }
        };
        queue.run("gc", shutdown.clone(), reconcile).await;
    });
}

/// Whom a change makes worth a look.
fn suspected(inventory: &Inventory, change: &Change<'_>) -> Vec<String> {
    let mut uids = Vec::new();
    match change {
        Change::Present { uid, item, before } => {
            let unowned = item
                .owners
                .iter()
                .any(|owner| !inventory.contains(&owner.uid));
            if unowned || item.waits || item.orphans {
                uids.push((*uid).to_owned());
            }
            let began = |now: bool, before: Option<bool>| now && before != Some(true);
            if began(item.waits, before.map(|before| before.waits)) {
                uids.extend(inventory.dependents(uid).into_iter().map(|(uid, _)| uid));
            }
            // An owner that waits may be waiting for this very reference.
            let former = before.iter().flat_map(|before| &before.owners);
            let changed = former.filter(|owner| !item.owners.contains(owner));
            uids.extend(changed.map(|owner| owner.uid.clone()));
        }
        Change::Gone { uid, item } => {
            uids.extend(inventory.dependents(uid).into_iter().map(|(uid, _)| uid));
            uids.extend(item.owners.iter().map(|owner| owner.uid.clone()));
        }
    }
    uids
}

async fn reconcile(
    cluster: &Cluster,
    inventory: &Inventory,
    queue: &Queue<String>,
    uid: &str,
) -> Result<Next, Error> {
    let Some(known) = inventory.get(uid) else {
        return Ok(Next::OnChange);
    };
    let Some(meta) = live(cluster, known.kind, &known.namespace, &known.name).await? else {
        return Ok(Next::OnChange);
    };
    if meta.uid.as_deref() != Some(uid) {
        return Ok(Next::OnChange);
    }
    let item = inventory::item(known.kind, &meta);
    let mut owners = Vec::new();
    if !item.deleting {
        for reference in &item.owners {
            owners.push((reference.clone(), owner(cluster, &item, reference).await?));
        }
    }
    let action = plan::plan(&Snapshot {
        uid,
        item: &item,
        finalizers: meta.finalizers.as_deref().unwrap_or_default(),
        owners: &owners,
        dependents: &inventory.dependents(uid),
    });
    apply(cluster, queue, &item, &meta, action).await?;
    Ok(Next::OnChange)
}

async fn apply(
    cluster: &Cluster,
    queue: &Queue<String>,
    item: &Item,
    meta: &ObjectMeta,
    action: Action,
) -> Result<(), Error> {
    let uid = meta.uid.as_deref().unwrap_or_default();
    match action {
        Action::Keep => {}
        Action::Look(uids) => uids.into_iter().for_each(|uid| queue.add(uid)),
        Action::Disown(references) => set_owners(cluster, item, meta, references).await?,
        Action::Unblock { dependents, then } => {
            for dependent in dependents {
                change_owners(cluster, &dependent, |references| {
                    plan::unblocked(references, uid)
                })
                .await?;
            }
            delete(cluster, item, meta, then).await?;
        }
        Action::Delete(propagation) => delete(cluster, item, meta, propagation).await?,
        Action::Orphan {
            dependents,
            finalizers,
        } => {
            for dependent in dependents {
                change_owners(cluster, &dependent, |references| {
                    plan::disowned(references, uid)
                })
                .await?;
            }
            set_finalizers(cluster, item, meta, finalizers).await?;
        }
        Action::Finish(finalizers) => set_finalizers(cluster, item, meta, finalizers).await?,
    }
    Ok(())
}

/// What has become of one owner.
async fn owner(cluster: &Cluster, item: &Item, reference: &OwnerReference) -> Result<Owner, Error> {
    let (group, version) = reference
        .api_version
        .rsplit_once('/')
        .unwrap_or(("", &reference.api_version));
    let Some(kind) = kinds::by_kind(group, version, &reference.kind) else {
        // What is not known to exist is not known to be gone either.
        return Ok(Owner::Solid);
    };
    if kind.is_namespaced() && item.namespace.is_empty() {
        return Ok(Owner::Solid);
    }
    let found = live(cluster, kind, &item.namespace, &reference.name).await?;
    let Some(meta) = found.filter(|meta| meta.uid.as_ref() == Some(&reference.uid)) else {
        return Ok(Owner::Absent);
    };
    Ok(if inventory::item(kind, &meta).waits {
        Owner::Waiting
    } else {
        Owner::Solid
    })
}

fn path(kind: &Kind, namespace: &str) -> Request {
    let root = if kind.group.is_empty() {
        "/api"
    } else {
        "/apis"
    };
    let scope = if kind.is_namespaced() && !namespace.is_empty() {
        format!("namespaces/{namespace}/")
    } else {
        String::new()
    };
    Request::new(format!(
        "{root}/{}/{scope}{}",
        kind.api_version(),
        kind.plural
    ))
}

async fn live(
    cluster: &Cluster,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
) -> Result<Option<ObjectMeta>, Error> {
    let request = path(kind, namespace).get_metadata(name, &GetParams::default());
    let answer = match request {
        Ok(request) => cluster.client.request::<PartialObjectMeta>(request).await,
        Err(error) => Err(kube::Error::BuildRequest(error)),
    };
    match answer {
        Ok(object) => Ok(Some(object.metadata)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(source) => Err(failed("look up", kind, name, source)),
    }
}

async fn delete(
    cluster: &Cluster,
    item: &Item,
    meta: &ObjectMeta,
    propagation: Propagation,
) -> Result<(), Error> {
    let mut params = delete_params(meta.uid.as_deref().unwrap_or_default(), propagation);
    if let Some(preconditions) = &mut params.preconditions {
        preconditions.resource_version = meta.resource_version.clone();
    }
    let request = path(item.kind, &item.namespace).delete(&item.name, &params);
    send(cluster, "delete", item, request).await
}

async fn set_owners(
    cluster: &Cluster,
    item: &Item,
    meta: &ObjectMeta,
    references: Vec<OwnerReference>,
) -> Result<(), Error> {
    let references = Some(references).filter(|references| !references.is_empty());
    patch(cluster, item, meta, json!({"ownerReferences": references})).await
}

async fn set_finalizers(
    cluster: &Cluster,
    item: &Item,
    meta: &ObjectMeta,
    finalizers: Vec<String>,
) -> Result<(), Error> {
    let finalizers = Some(finalizers).filter(|finalizers| !finalizers.is_empty());
    patch(cluster, item, meta, json!({"finalizers": finalizers})).await
}

async fn change_owners(
    cluster: &Cluster,
    dependent: &Item,
    change: impl Fn(Vec<OwnerReference>) -> Vec<OwnerReference>,
) -> Result<(), Error> {
    let Some(meta) = live(
        cluster,
        dependent.kind,
        &dependent.namespace,
        &dependent.name,
    )
    .await?
    else {
        return Ok(());
    };
    let before = meta.owner_references.clone().unwrap_or_default();
    let after = change(before.clone());
    if after == before {
        return Ok(());
    }
    set_owners(cluster, dependent, &meta, after).await
}

async fn patch(
    cluster: &Cluster,
    item: &Item,
    meta: &ObjectMeta,
    mut metadata: Value,
) -> Result<(), Error> {
    metadata["uid"] = json!(meta.uid);
    metadata["resourceVersion"] = json!(meta.resource_version);
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({"metadata": metadata}));
    let request = path(item.kind, &item.namespace).patch(&item.name, &params, &patch);
    send(cluster, "patch", item, request).await
}

async fn send(
    cluster: &Cluster,
    verb: &'static str,
    item: &Item,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<(), Error> {
    let answer = match request {
        Ok(request) => cluster.client.request::<Value>(request).await,
        Err(error) => Err(kube::Error::BuildRequest(error)),
    };
    match answer {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(failed(verb, item.kind, &item.name, source)),
    }
}

fn failed(verb: &'static str, kind: &'static Kind, name: &str, source: kube::Error) -> Error {
    Error {
        verb,
        kind: kind.kind,
        name: name.to_owned(),
        source: Box::new(source),
    }
}
