//! Which node's pods refer to which secrets, ConfigMaps and accounts. A pod is read once for every change of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use knarr_api::{
    kinds::pod::POD,
    value::{items, str_of},
};
use serde_json::Value;

use crate::storage::{Key, Revision, Store, Stored};

/// The pods of the store, as far as node agents ask about them.
pub(super) struct Graph {
    store: Store,
    read: Mutex<BTreeMap<String, Namespace>>,
}

/// Pods by name, with the revision they were read at.
type Namespace = BTreeMap<String, (Revision, Arc<References>)>;

/// What a pod refers to.
#[derive(Debug, Default, PartialEq, Eq)]
struct References {
    node: String,
    account: String,
    secrets: BTreeSet<String>,
    config_maps: BTreeSet<String>,
}

impl Graph {
    pub(super) fn new(store: Store) -> Graph {
        Graph {
            store,
            read: Mutex::default(),
        }
    }

    /// Whether the pod is bound to the node.
    pub(super) fn runs(&self, node: &str, namespace: &str, pod: &str) -> bool {
        let stored = self.store.get(&Key::new(&POD, namespace, pod));
        stored.is_some_and(|pod| pod.object()["spec"]["nodeName"] == node)
    }

    pub(super) fn runs_as(&self, node: &str, namespace: &str, account: &str) -> bool {
        self.any(node, namespace, |pod| pod.account == account)
    }

    pub(super) fn reads_secret(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.any(node, namespace, |pod| pod.secrets.contains(name))
    }

    pub(super) fn reads_config_map(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.any(node, namespace, |pod| pod.config_maps.contains(name))
    }

    /// Whether any pod of the namespace on the node is such a one.
    fn any(&self, node: &str, namespace: &str, wanted: impl Fn(&References) -> bool) -> bool {
        let pods = self.store.list(&POD, Some(namespace)).objects;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let old = read.remove(namespace).unwrap_or_default();
        if pods.is_empty() {
            return false;
        }
        let pods: Namespace = pods.iter().map(|pod| known(&old, pod)).collect();
        let found = pods
            .values()
            .any(|(_, pod)| pod.node == node && wanted(pod));
        read.insert(namespace.to_owned(), pods);
        found
    }
}

fn known(old: &Namespace, pod: &Stored) -> (String, (Revision, Arc<References>)) {
    let name = pod.key.name.clone();
    let references = match old.get(&name) {
        Some((revision, references)) if *revision == pod.revision => references.clone(),
        _ => Arc::new(References::read(&pod.object())),
    };
    (name, (pod.revision, references))
}

impl References {
    fn read(pod: &Value) -> References {
        let spec = &pod["spec"];
        let mut references = References {
            node: str_of(&spec["nodeName"]).to_owned(),
            account: str_of(&spec["serviceAccountName"]).to_owned(),
            ..References::default()
        };
        for secret in items(&spec["imagePullSecrets"]) {
            add(&mut references.secrets, &secret["name"]);
        }
        for list in ["containers", "initContainers", "ephemeralContainers"] {
            for container in items(&spec[list]) {
                references.add_environment(container);
            }
        }
        for volume in items(&spec["volumes"]) {
            add(&mut references.secrets, &volume["secret"]["secretName"]);
            add(&mut references.config_maps, &volume["configMap"]["name"]);
            for source in items(&volume["projected"]["sources"]) {
                add(&mut references.secrets, &source["secret"]["name"]);
                add(&mut references.config_maps, &source["configMap"]["name"]);
            }
        }
        references
    }

    fn add_environment(&mut self, container: &Value) {
        for from in items(&container["envFrom"]) {
            add(&mut self.secrets, &from["secretRef"]["name"]);
            add(&mut self.config_maps, &from["configMapRef"]["name"]);
        }
        for variable in items(&container["env"]) {
            let from = &variable["valueFrom"];
            add(&mut self.secrets, &from["secretKeyRef"]["name"]);
            add(&mut self.config_maps, &from["configMapKeyRef"]["name"]);
        }
    }
}

fn add(names: &mut BTreeSet<String>, name: &Value) {
    names.extend(name.as_str().map(str::to_owned));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_refers_to_what_its_environment_and_volumes_name() {
        let pod = json!({ "spec": {
            "nodeName": "a",
            "serviceAccountName": "till",
            "imagePullSecrets": [{ "name": "pull" }],
            "initContainers": [{ "envFrom": [{ "secretRef": { "name": "from" } }] }],
            "containers": [{ "env": [
                { "name": "A", "value": "1" },
                { "name": "B", "valueFrom": { "configMapKeyRef": { "name": "one", "key": "k" } } },
            ] }],
            "volumes": [
                { "secret": { "secretName": "volume" } },
                { "projected": { "sources": [{ "configMap": { "name": "two" } }] } },
            ],
        } });
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect();
        let expected = References {
            node: "a".into(),
            account: "till".into(),
            secrets: names(&["pull", "from", "volume"]),
            config_maps: names(&["one", "two"]),
        };
        assert_eq!(References::read(&pod), expected);
    }
}
