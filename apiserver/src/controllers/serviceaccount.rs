//! Gives every namespace its `default` ServiceAccount and a copy of the cluster's CA.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::queue::{Next, Queue};
use super::store::{Object, Store};
use super::well_known::ROOT_CA;
use super::write::{Error, Write, perform};

const ACCOUNT: &str = "default";
const ROOT_CA_KEY: &str = "ca.crt";
const ROOT_CA_DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// Adds the controller's observers and its loop.
pub(super) fn spawn(
    cluster: &Arc<Cluster>,
    root_ca: String,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let queue = Queue::new();
    let namespaces = Arc::clone(&queue);
    cluster.namespaces.observe(move |_, new| {
        if let Some(namespace) = new {
            namespaces.add(namespace.metadata.name.clone().unwrap_or_default());
        }
    });
    observe(&cluster.service_accounts, &queue, ACCOUNT);
    observe(&cluster.config_maps, &queue, ROOT_CA);
    let (cluster, shutdown) = (Arc::clone(cluster), shutdown.clone());
    tasks.spawn(async move {
        cluster.wait_synced().await;
        let root_ca: Arc<str> = root_ca.into();
        let reconcile =
            |namespace| reconcile(Arc::clone(&cluster), Arc::clone(&root_ca), namespace);
        queue
            .run("serviceaccount", shutdown.clone(), reconcile)
            .await;
    });
}

fn observe<K: Object>(store: &Store<K>, queue: &Arc<Queue<String>>, name: &'static str) {
    let queue = Arc::clone(queue);
    store.observe(move |old, new| {
        let Some(object) = new
            .or(old)
            .filter(|object| object.meta().name.as_deref() == Some(name))
        else {
            return;
        };
        queue.add(object.meta().namespace.clone().unwrap_or_default());
    });
}

async fn reconcile(cluster: Arc<Cluster>, root_ca: Arc<str>, name: String) -> Result<Next, Error> {
    let namespace = cluster.namespaces.get("", &name);
    let account = plan_account(
        namespace.as_deref(),
        cluster.service_accounts.get(&name, ACCOUNT).as_deref(),
    );
    let bundle = plan_bundle(
        namespace.as_deref(),
        cluster.config_maps.get(&name, ROOT_CA).as_deref(),
        &root_ca,
    );
    let account = async {
        match account {
            Some(write) => tolerated(perform(&cluster.client, write).await),
            None => Ok(()),
        }
    };
    let bundle = async {
        match bundle {
            Some(write) => tolerated(perform(&cluster.client, write).await),
            None => Ok(()),
        }
    };
    let (account, bundle) = futures_util::join!(account, bundle);
    account.and(bundle).map(|()| Next::OnChange)
}

fn tolerated<T>(outcome: Result<T, Error>) -> Result<(), Error> {
    match outcome {
        Err(error)
            if !error.is_namespace_terminating()
                && !error.is_not_found()
                && !error.is_already_exists() =>
        {
            Err(error)
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn is_active(namespace: Option<&Namespace>) -> bool {
    namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none())
}

fn plan_account(
    namespace: Option<&Namespace>,
    existing: Option<&ServiceAccount>,
) -> Option<Write<ServiceAccount>> {
    if !is_active(namespace) || existing.is_some() {
        return None;
    }
    Some(Write::Create(ServiceAccount {
        metadata: named(namespace, ACCOUNT),
        ..ServiceAccount::default()
    }))
}

fn plan_bundle(
    namespace: Option<&Namespace>,
    existing: Option<&ConfigMap>,
    root_ca: &str,
) -> Option<Write<ConfigMap>> {
    if !is_active(namespace) {
        return None;
    }
    let data = || Some([(ROOT_CA_KEY.to_owned(), root_ca.to_owned())].into());
    match existing {
        Some(existing) if existing.data == data() => None,
        Some(existing) => Some(Write::Replace(ConfigMap {
            data: data(),
            ..existing.clone()
        })),
        None => {
            let mut metadata = named(namespace, ROOT_CA);
            let description = (
                "kubernetes.io/description".to_owned(),
                ROOT_CA_DESCRIPTION.to_owned(),
            );
            metadata.annotations = Some([description].into());
            Some(Write::Create(ConfigMap {
                metadata,
                data: data(),
                ..ConfigMap::default()
            }))
        }
    }
}

fn named(namespace: Option<&Namespace>, name: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: namespace.and_then(|namespace| namespace.metadata.name.clone()),
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn namespace(leaving: Option<&str>) -> Namespace {
        let namespace = json!({"metadata": {"name": "ns", "deletionTimestamp": leaving}});
        serde_json::from_value(namespace).expect("a Namespace")
    }

    #[test]
    fn a_namespace_gets_both_once_and_a_tampered_bundle_is_restored() {
        let (active, leaving) = (namespace(None), namespace(Some("2026-01-01T00:00:00Z")));
        let Some(Write::Create(bundle)) = plan_bundle(Some(&active), None, "PEM") else {
            panic!("a bundle must be made");
        };
        assert_eq!(plan_bundle(Some(&active), Some(&bundle), "PEM"), None);
        let mut tampered = bundle.clone();
        tampered.data = Some([(ROOT_CA_KEY.to_owned(), "x".to_owned())].into());
        assert_eq!(
            plan_bundle(Some(&active), Some(&tampered), "PEM"),
            Some(Write::Replace(bundle))
        );
        assert_eq!(plan_bundle(Some(&leaving), None, "PEM"), None);
        let Some(Write::Create(account)) = plan_account(Some(&active), None) else {
            panic!("an account must be made");
        };
        assert_eq!(plan_account(Some(&active), Some(&account)), None);
        assert_eq!(plan_account(Some(&leaving), None), None);
        assert_eq!(plan_account(None, None), None);
    }
}
