//! Whether a node should run a daemon's pod, and the pod it would run.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Toleration,
};

use crate::controllers::history::HASH_LABEL;
use crate::controllers::pods;
use crate::controllers::scheduler::{Misfit, bears, fits};
use crate::controllers::template;

const GENERATION_LABEL: &str = "pod-template-generation";
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";
/// What every daemon bears with: taint and effect.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// What a node has to do with a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Runs,
    /// Gets no new pod, but keeps one it has.
    Keeps,
    Never,
}

/// Judges a node by what the template asks for, and by what every daemon bears with.
pub(super) fn place(set: &DaemonSet, node: &Node) -> Place {
    let pod = pod(set, node, "");
    let named = set
        .spec
        .template
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref());
    if named.is_some_and(|name| !name.is_empty() && Some(name) != node.metadata.name.as_deref()) {
        return Place::Never;
    }
    // The pod's own affinity names this node, so the template's is what is judged.
    let mut asking = pod;
    if let (Some(spec), Some(template)) = (&mut asking.spec, &set.spec.template.spec) {
        spec.affinity.clone_from(&template.affinity);
    }
    match fits(&asking, node) {
        Ok(()) => Place::Runs,
        Err(Misfit::Tainted) if !is_driven_away(&asking, node) => Place::Keeps,
        Err(_) => Place::Never,
    }
}

fn is_driven_away(pod: &Pod, node: &Node) -> bool {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let mut driving = taints.iter().filter(|taint| taint.effect == "NoExecute");
    driving.any(|taint| {
        !tolerations
            .iter()
            .any(|toleration| bears(toleration, taint))
    })
}

/// The daemon's pod for `node`, made from the template with the given hash.
pub(super) fn pod(set: &DaemonSet, node: &Node, hash: &str) -> Pod {
    let mut pod = template::pod(set, &set.spec.template);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    let annotations = set.metadata.annotations.as_ref();
    if let Some(generation) =
        annotations.and_then(|annotations| annotations.get(GENERATION_ANNOTATION))
    {
        labels.insert(GENERATION_LABEL.to_owned(), generation.clone());
    }
    let spec = pod.spec.get_or_insert_default();
    let tolerations = spec.tolerations.get_or_insert_default();
    let on_host = spec.host_network == Some(true);
    let network = on_host.then_some(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        tolerations
            .retain(|t| (t.key.as_deref(), t.effect.as_deref()) != (Some(key), Some(effect)));
        tolerations.push(toleration);
    }
    let affinity = spec
        .affinity
        .get_or_insert_default()
        .node_affinity
        .get_or_insert_default();
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_default();
    required.node_selector_terms = vec![NodeSelectorTerm {
        match_expressions: None,
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: node.metadata.name.clone().map(|name| vec![name]),
        }]),
    }];
    pod
}

/// The hash of the template a pod was made from.
pub(super) fn hash(pod: &Pod) -> Option<&str> {
    pod.metadata
        .labels
        .as_ref()?
        .get(HASH_LABEL)
        .map(String::as_str)
}

/// The node a pod runs on or is meant for.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    if let Some(name) = pods::node_name(pod) {
        return Some(name);
    }
    let affinity = pod
        .spec
        .as_ref()?
        .affinity
        .as_ref()?
        .node_affinity
        .as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    let mut named = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
    named
        .find_map(|field| field.values.as_ref()?.first())
        .map(String::as_str)
}
