//! What makes a StatefulSet's pod itself: its ordinal, its name, and the revision it was made from.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};
use serde_json::{Value, json};

use crate::controllers::history::HASH_LABEL;
use crate::controllers::template;
use crate::controllers::write::Write;

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in a pod's name, if it is one of the set's names.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let prefix = set.metadata.name.as_deref()?;
    let rest = pod
        .metadata
        .name
        .as_deref()?
        .strip_prefix(prefix)?
        .strip_prefix('-')?;
    rest.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| rest.parse().ok())?
}

/// The revision a pod was made from.
pub(super) fn revision(pod: &Pod) -> Option<&str> {
    pod.metadata
        .labels
        .as_ref()?
        .get(HASH_LABEL)
        .map(String::as_str)
}

/// The pod with the given ordinal, from the template of the named revision.
pub(super) fn pod(
    set: &StatefulSet,
    ordinal: i32,
    template: &PodTemplateSpec,
    revision: &str,
) -> Pod {
    let mut pod = template::pod(set, template);
    let name = format!(
        "{}-{ordinal}",
        set.metadata.name.as_deref().unwrap_or_default()
    );
    pod.metadata.generate_name = None;
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(NAME_LABEL.to_owned(), name.clone());
    labels.insert(INDEX_LABEL.to_owned(), ordinal.to_string());
    labels.insert(HASH_LABEL.to_owned(), revision.to_owned());
    pod.metadata.name = Some(name.clone());
    let spec = pod.spec.get_or_insert_default();
    spec.volumes = volumes(set, &name, spec.volumes.take());
    spec.hostname = Some(name);
    spec.subdomain.clone_from(&set.spec.service_name);
    pod
}

/// The volumes of a pod: those of its claims, and of the template's own those that no claim stands for.
fn volumes(set: &StatefulSet, pod: &str, own: Option<Vec<Volume>>) -> Option<Vec<Volume>> {
    let templates = set.spec.volume_claim_templates.iter().flatten();
    let mut volumes: Vec<Volume> = templates
        .filter_map(|template| template.metadata.name.clone())
        .map(|name| Volume {
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: format!("{name}-{pod}"),
                ..PersistentVolumeClaimVolumeSource::default()
            }),
            name,
            ..Volume::default()
        })
        .collect();
    let claimed: BTreeSet<String> = volumes.iter().map(|volume| volume.name.clone()).collect();
    let own = own.into_iter().flatten();
    volumes.extend(own.filter(|volume| !claimed.contains(&volume.name)));
    Some(volumes).filter(|volumes| !volumes.is_empty())
}

/// The patch that gives an adopted pod back the labels its name calls for.
pub(super) fn corrected(pod: &Pod, ordinal: i32) -> Option<Write<Pod>> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let ordinal = ordinal.to_string();
    let labels = pod.metadata.labels.as_ref();
    let wanted = [(NAME_LABEL, name), (INDEX_LABEL, ordinal.as_str())];
    let wrong = wanted.into_iter().filter(|(key, value)| {
        labels
            .and_then(|labels| labels.get(*key))
            .map(String::as_str)
            != Some(*value)
    });
    let wrong: serde_json::Map<String, Value> = wrong
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    (!wrong.is_empty()).then(|| Write::merge(pod, json!({"metadata": {"labels": wrong}})))
}
