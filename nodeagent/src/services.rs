//! What the agent keeps of Services: name, cluster IP and ports, for the environment of pods. Nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::runtime::watcher;
use serde_json::Value;

/// One Service as an environment shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceAddress {
    pub(crate) name: String,
    pub(crate) cluster_ip: String,
    /// Its cluster IP of the other family, if it has one.
    pub(crate) second_ip: Option<String>,
    pub(crate) ports: Vec<Port>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) port: i32,
    pub(crate) protocol: String,
}

type Key = (String, String);

/// All Services with a cluster IP, kept by a watch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Services {
    known: Arc<Mutex<BTreeMap<Key, ServiceAddress>>>,
}

impl Services {
    /// Those of a namespace, and `kubernetes` of the default one.
    pub(crate) fn visible_in(&self, namespace: &str, links: bool) -> Vec<ServiceAddress> {
        let known = self.lock();
        let master = ("default".to_owned(), "kubernetes".to_owned());
        let own = known.iter().filter(|((ns, _), _)| links && ns == namespace);
        let master = known
            .get_key_value(&master)
            .filter(|_| !links || namespace != "default");
        own.chain(master)
            .map(|(_, service)| service.clone())
            .collect()
    }

    /// Whether some Service has this cluster IP.
    pub(crate) fn has_cluster_ip(&self, address: &str) -> bool {
        self.lock().values().any(|service| {
            service.cluster_ip == address || service.second_ip.as_deref() == Some(address)
        })
    }

    /// Follows the API until it is dropped.
    pub(crate) async fn follow(&self, client: Client) {
        let all = watcher::Config::default();
        let mut events = knarr_client::watch_values::<Service>(client, None, all);
        let mut listed = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                watcher::Event::Init => listed = BTreeMap::new(),
                watcher::Event::InitApply(service) => listed.extend(entry(&service)),
                watcher::Event::InitDone => *self.lock() = std::mem::take(&mut listed),
                watcher::Event::Apply(service) => {
                    let mut known = self.lock();
                    key_of(&service).and_then(|key| known.remove(&key));
                    known.extend(entry(&service));
                }
                watcher::Event::Delete(service) => {
                    key_of(&service).and_then(|key| self.lock().remove(&key));
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, ServiceAddress>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of(service: &Value) -> Option<Key> {
    let metadata = &service["metadata"];
    Some((text(&metadata["namespace"])?, text(&metadata["name"])?))
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn entry(service: &Value) -> Option<(Key, ServiceAddress)> {
    let key = key_of(service)?;
    let spec = &service["spec"];
    let cluster_ip = text(&spec["clusterIP"]).filter(|ip| !ip.is_empty() && ip != "None")?;
    let second_ip = text(&spec["clusterIPs"][1]);
    let port = |port: &Value| {
        Some(Port {
            name: text(&port["name"]).unwrap_or_default(),
            port: i32::try_from(port["port"].as_i64()?).ok()?,
            protocol: text(&port["protocol"]).unwrap_or_else(|| "TCP".to_owned()),
        })
    };
    let ports = spec["ports"].as_array().into_iter().flatten();
    let mut ports: Vec<Port> = ports.filter_map(port).collect();
    ports.shrink_to_fit();
    let name = key.1.clone();
    Some((
        key,
        ServiceAddress {
            name,
            cluster_ip,
            second_ip,
            ports,
        },
    ))
}
