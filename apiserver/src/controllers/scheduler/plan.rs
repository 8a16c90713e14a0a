//! The plan for all waiting pods: where each goes, or why it cannot.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use knarr_api::quantity;

use super::fit::{self, Misfit, fits};
use super::topology::{self, Company, Place, Surroundings};
use crate::controllers::claim::controller_of;
use crate::controllers::pods;

pub(super) const UNSCHEDULABLE: &str = "Unschedulable";
const GATED: &str = "SchedulingGated";
const SCHEDULER: &str = "default-scheduler";

/// Everything the plan looks at.
pub(super) struct Snapshot<'a> {
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) nodes: &'a [Arc<Node>],
    pub(super) namespaces: &'a [Arc<Namespace>],
    /// Bindings made that the pods do not show yet: uid to node.
    pub(super) assumed: &'a HashMap<String, String>,
}

#[derive(Debug)]
pub(super) enum Decision {
    Bind {
        pod: Arc<Pod>,
        node: String,
    },
    Wait {
        pod: Arc<Pod>,
        reason: &'static str,
        message: String,
    },
}

/// Says whether the pod waits for this scheduler.
pub(super) fn is_waiting(pod: &Pod) -> bool {
    let scheduler = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.scheduler_name.as_deref());
    pods::node_name(pod).is_none()
        && pods::is_active(pod)
        && matches!(scheduler, None | Some("" | SCHEDULER))
}

/// Places every waiting pod, the most important and then the oldest first.
pub(super) fn plan(snapshot: &Snapshot<'_>) -> Vec<Decision> {
    let is_assumed = |pod: &Pod| {
        pod.metadata
            .uid
            .as_ref()
            .is_some_and(|uid| snapshot.assumed.contains_key(uid))
    };
    let mut waiting: Vec<&Arc<Pod>> = snapshot
        .pods
        .iter()
        .filter(|pod| is_waiting(pod) && !is_assumed(pod))
        .collect();
    if waiting.is_empty() {
        return Vec::new();
    }
    waiting.sort_by_key(|pod| {
        let priority = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.priority)
            .unwrap_or(0);
        (
            std::cmp::Reverse(priority),
            pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        )
    });
    let mut load = Load::of(snapshot);
    waiting
        .into_iter()
        .map(|pod| place(pod, &mut load, snapshot.namespaces))
        .collect()
}

fn place(pod: &Arc<Pod>, load: &mut Load, namespaces: &[Arc<Namespace>]) -> Decision {
    let gates = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.scheduling_gates.as_ref());
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return Decision::Wait {
            pod: Arc::clone(pod),
            reason: GATED,
            message: "Scheduling is blocked due to non-empty scheduling gates".to_owned(),
        };
    }
    if let Some(claim) = claim(pod).filter(|_| !load.nodes.is_empty()) {
        let nodes = load.nodes.len();
        return Decision::Wait {
            pod: Arc::clone(pod),
            reason: UNSCHEDULABLE,
            message: format!(
                "0/{nodes} nodes are available: persistentvolumeclaim \"{claim}\" not found."
            ),
        };
    }
    let wants = Wants::of(pod);
    let mut misfits: BTreeMap<Misfit, usize> = BTreeMap::new();
    let company = load.company(pod, namespaces);
    let mut best: Option<(Rank, usize)> = None;
    for (index, node) in load.nodes.iter().enumerate() {
        let admitted = node.admits(pod, &wants).and_then(|()| match &company {
            Some(company) => company.admits(&node.node),
            None => Ok(()),
        });
        match admitted {
            Ok(()) => {
                let company = company.as_ref();
                let company = company.map_or(0, |company| company.score(&node.node));
                let score = company + fit::preference(pod, &node.node);
                let rank = (-score, node.rank(&wants));
                if best.as_ref().is_none_or(|(least, _)| rank < *least) {
                    best = Some((rank, index));
                }
            }
            Err(misfit) => *misfits.entry(misfit).or_insert(0) += 1,
        }
    }
    match best {
        Some((_, index)) => {
            let node = &mut load.nodes[index];
            node.add(pod, &wants);
            load.is_sociable |= topology::matters(pod);
            let node = &load.nodes[index];
            Decision::Bind {
                pod: Arc::clone(pod),
                node: node.name.clone(),
            }
        }
        None => Decision::Wait {
            pod: Arc::clone(pod),
            reason: UNSCHEDULABLE,
            message: report(load.nodes.len(), &misfits),
        },
    }
}

/// A claim that the pod needs: there are none, so no node will do.
fn claim(pod: &Pod) -> Option<&str> {
    let volumes = pod.spec.as_ref()?.volumes.as_ref()?;
    let mut claims = volumes
        .iter()
        .filter_map(|volume| volume.persistent_volume_claim.as_ref());
    claims.next().map(|claim| claim.claim_name.as_str())
}

fn report(nodes: usize, misfits: &BTreeMap<Misfit, usize>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut reasons: Vec<String> = misfits
        .iter()
        .map(|(misfit, count)| format!("{count} {}", misfit.text()))
        .collect();
    reasons.sort();
    format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
}

/// What one pod takes of a node.
struct Wants {
    /// Pods that should be kept apart: those of one controller, or of one set of labels.
    group: String,
    cpu: i128,
    memory: i128,
    host_ports: HashSet<(String, i32)>,
}

impl Wants {
    fn of(pod: &Pod) -> Wants {
        let group = match controller_of(&pod.metadata) {
            Some(owner) => owner.uid.clone(),
            None => format!("{:?} {:?}", pod.metadata.namespace, pod.metadata.labels),
        };
        let spec = pod.spec.as_ref();
        let containers = spec
            .map(|spec| spec.containers.as_slice())
            .unwrap_or_default();
        let requested = |name: &str| -> i128 {
            let requests = containers
                .iter()
                .filter_map(|container| container.resources.as_ref()?.requests.as_ref());
            requests
                .filter_map(|requests| milli(&requests.get(name)?.0))
                .sum()
        };
        let ports = containers
            .iter()
            .flat_map(|container| container.ports.iter().flatten());
        let host_ports = ports.filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            Some((
                port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                number,
            ))
        });
        Wants {
            group,
            cpu: requested("cpu"),
            memory: requested("memory"),
            host_ports: host_ports.collect(),
        }
    }
}

/// A quantity in thousandths, as far as it can be read.
fn milli(text: &str) -> Option<i128> {
    quantity::Quantity::parse(text)
        .ok()
        .map(|quantity| quantity.milli_value().into())
}

struct Load {
    /// Whether a pod that has its place asks for the company of others, or against it.
    is_sociable: bool,
    nodes: Vec<NodeLoad>,
}

/// Smaller is better: how unwelcome the pod is, then few of the same group, few pods, little requested.
type Rank = (i64, (usize, usize, i128));

struct NodeLoad {
    name: String,
    node: Arc<Node>,
    pods: Vec<Arc<Pod>>,
    pods_max: Option<i128>,
    cpu: i128,
    cpu_max: Option<i128>,
    memory: i128,
    memory_max: Option<i128>,
    groups: HashMap<String, usize>,
    host_ports: HashSet<(String, i32)>,
}

impl Load {
    fn of(snapshot: &Snapshot<'_>) -> Load {
        let leaving = |node: &&Arc<Node>| node.metadata.deletion_timestamp.is_some();
        let nodes = snapshot
            .nodes
            .iter()
            .filter(|node| !leaving(node))
            .map(|node| {
                let allocatable = fit::allocatable(node).unwrap_or_default();
                let max = |name: &str| allocatable.get(name).and_then(|text| milli(text));
                NodeLoad {
                    name: node.metadata.name.clone().unwrap_or_default(),
                    node: Arc::clone(node),
                    pods: Vec::new(),
                    pods_max: max("pods").map(|milli| milli / 1000),
                    cpu: 0,
                    cpu_max: max("cpu"),
                    memory: 0,
                    memory_max: max("memory"),
                    groups: HashMap::new(),
                    host_ports: HashSet::new(),
                }
            });
        let mut load = Load {
            nodes: nodes.collect(),
            is_sociable: false,
        };
        let index: HashMap<String, usize> = load
            .nodes
            .iter()
            .enumerate()
            .map(|(i, node)| (node.name.clone(), i))
            .collect();
        for pod in snapshot.pods.iter().filter(|pod| !pods::is_terminal(pod)) {
            let assumed = pod
                .metadata
                .uid
                .as_ref()
                .and_then(|uid| snapshot.assumed.get(uid));
            let node = pods::node_name(pod).or(assumed.map(String::as_str));
            if let Some(index) = node.and_then(|node| index.get(node)) {
                load.nodes[*index].add(pod, &Wants::of(pod));
                load.is_sociable |= topology::matters(pod);
            }
        }
        load
    }
}

impl Load {
    /// What the pod and those around it ask of each other, if they ask anything.
    fn company(&self, pod: &Pod, namespaces: &[Arc<Namespace>]) -> Option<Company> {
        if !self.is_sociable && !topology::matters(pod) {
            return None;
        }
        let nodes = self.nodes.iter();
        let places: Vec<Place<'_>> = nodes.map(NodeLoad::place).collect();
        let around = Surroundings {
            places: &places,
            namespaces,
        };
        Some(Company::of(pod, &around))
    }
}

impl NodeLoad {
    fn place(&self) -> Place<'_> {
        Place {
            node: &self.node,
            pods: &self.pods,
        }
    }

    fn admits(&self, pod: &Pod, wants: &Wants) -> Result<(), Misfit> {
        fits(pod, &self.node)?;
        if !fit::is_ready(&self.node) && !tolerates_not_ready(pod) {
            return Err(Misfit::NotReady);
        }
        let pods = i128::try_from(self.pods.len()).unwrap_or(i128::MAX);
        if self.pods_max.is_some_and(|max| pods >= max) {
            return Err(Misfit::TooManyPods);
        }
        if self
            .cpu_max
            .is_some_and(|max| wants.cpu > 0 && self.cpu + wants.cpu > max)
        {
            return Err(Misfit::Cpu);
        }
        if self
            .memory_max
            .is_some_and(|max| wants.memory > 0 && self.memory + wants.memory > max)
        {
            return Err(Misfit::Memory);
        }
        if !self.host_ports.is_disjoint(&wants.host_ports) {
            return Err(Misfit::HostPort);
        }
        Ok(())
    }

    fn rank(&self, wants: &Wants) -> (usize, usize, i128) {
        let together = self.groups.get(&wants.group).copied().unwrap_or(0);
        (together, self.pods.len(), self.cpu)
    }

    fn add(&mut self, pod: &Arc<Pod>, wants: &Wants) {
        self.pods.push(Arc::clone(pod));
        self.cpu += wants.cpu;
        self.memory += wants.memory;
        *self.groups.entry(wants.group.clone()).or_insert(0) += 1;
        self.host_ports.extend(wants.host_ports.iter().cloned());
    }
}

/// A daemon's pods belong on nodes that are not ready, too.
fn tolerates_not_ready(pod: &Pod) -> bool {
    let taint = |effect: &str| k8s_openapi::api::core::v1::Taint {
        key: "node.kubernetes.io/not-ready".to_owned(),
        effect: effect.to_owned(),
        ..Default::default()
    };
    let tolerations = fit::tolerations(pod);
    fit::tolerates(tolerations, &taint("NoSchedule"))
        && fit::tolerates(tolerations, &taint("NoExecute"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, ready: &str, allocatable: Value) -> Arc<Node> {
        let node = json!({"metadata": {"name": name}, "status": {"allocatable": allocatable,
            "conditions": [{"type": "Ready", "status": ready}]}});
        Arc::new(serde_json::from_value(node).expect("a Node"))
    }

    fn pod(name: &str, spec: Value) -> Arc<Pod> {
        let mut full = json!({"schedulerName": "default-scheduler", "containers": []});
        for (key, value) in spec.as_object().into_iter().flatten() {
            full[key] = value.clone();
        }
        let pod = json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}}, "spec": full});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn check(pods: &[Arc<Pod>], nodes: &[Arc<Node>], assumed: &[(&str, &str)], expected: &[&str]) {
        let assumed = assumed
            .iter()
            .map(|(uid, node)| ((*uid).to_owned(), (*node).to_owned()))
            .collect();
        let decisions = plan(&Snapshot {
            pods,
            nodes,
            namespaces: &[],
            assumed: &assumed,
        });
        let seen: Vec<String> = decisions
            .iter()
            .map(|decision| match decision {
                Decision::Bind { pod, node } => format!(
                    "{} -> {node}",
                    pod.metadata.name.as_deref().unwrap_or_default()
                ),
                Decision::Wait { message, .. } => message.clone(),
            })
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn pods_of_one_kind_are_spread_over_ready_nodes() {
        let nodes = [
            node("a", "True", json!({})),
            node("b", "True", json!({})),
            node("c", "False", json!({})),
        ];
        let pods = [
            pod("1", json!({})),
            pod("2", json!({})),
            pod("3", json!({"nodeName": "a"})),
            pod("4", json!({})),
        ];
        check(&pods, &nodes, &[], &["1 -> b", "2 -> a", "4 -> b"]);
        check(&pods, &nodes, &[("1", "b"), ("2", "b")], &["4 -> a"]);
    }

    #[test]
    fn pods_that_shun_each_other_wait_for_another_node() {
        let shy = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"},
        ]}}});
        let labelled = |name: &str| {
            let mut node = Arc::unwrap_or_clone(node(name, "True", json!({})));
            let label = ("kubernetes.io/hostname".to_owned(), name.to_owned());
            node.metadata.labels = Some([label].into());
            Arc::new(node)
        };
        let pods = [pod("1", shy.clone()), pod("2", shy.clone()), pod("3", shy)];
        let full = "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.";
        let nodes = [labelled("a"), labelled("b")];
        check(&pods, &nodes, &[], &["1 -> a", "2 -> b", full]);
    }

    #[test]
    fn other_schedulers_pods_are_left_alone() {
        let nodes = [node("a", "True", json!({}))];
        check(
            &[pod("1", json!({"schedulerName": "replay"}))],
            &nodes,
            &[],
            &[],
        );
    }

    #[test]
    fn a_pod_without_a_node_says_why() {
        let one = [pod("1", json!({"nodeSelector": {"disk": "ssd"}}))];
        check(&one, &[], &[], &["no nodes available to schedule pods"]);
        let nodes = [node("a", "True", json!({})), node("b", "True", json!({}))];
        check(
            &one,
            &nodes,
            &[],
            &["0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."],
        );
        let claims =
            json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "v-db-0"}}]});
        check(
            &[pod("1", claims)],
            &nodes,
            &[],
            &["0/2 nodes are available: persistentvolumeclaim \"v-db-0\" not found."],
        );
        let gated = [pod("1", json!({"schedulingGates": [{"name": "x"}]}))];
        check(
            &gated,
            &nodes,
            &[],
            &["Scheduling is blocked due to non-empty scheduling gates"],
        );
    }

    #[test]
    fn nodes_take_no_more_than_they_have() {
        let small = [node(
            "a",
            "True",
            json!({"pods": "2", "cpu": "1", "memory": "1Gi"}),
        )];
        let asking = |name: &str, requests: Value| {
            pod(
                name,
                json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}),
            )
        };
        let cpu = [
            asking("1", json!({"cpu": "600m"})),
            asking("2", json!({"cpu": "600m"})),
        ];
        check(
            &cpu,
            &small,
            &[],
            &["1 -> a", "0/1 nodes are available: 1 Insufficient cpu."],
        );
        let memory = [asking("1", json!({"memory": "2Gi"}))];
        check(
            &memory,
            &small,
            &[],
            &["0/1 nodes are available: 1 Insufficient memory."],
        );
        let three = [
            pod("1", json!({})),
            pod("2", json!({})),
            pod("3", json!({})),
        ];
        check(
            &three,
            &small,
            &[],
            &[
                "1 -> a",
                "2 -> a",
                "0/1 nodes are available: 1 Too many pods.",
            ],
        );
        let port = |name: &str| {
            pod(
                name,
                json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}),
            )
        };
        let misfit = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
        check(&[port("1"), port("2")], &small, &[], &["1 -> a", misfit]);
    }
}
