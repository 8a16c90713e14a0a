//! What a namespace on its way out says of itself.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use knarr_api::kind::Kind;

const FINALIZER: &str = "kubernetes";

/// Objects of one kind that did not go at once.
#[derive(Debug)]
pub(super) struct Remaining {
    /// `configmaps.` or `deployments.apps`.
    resource: String,
    count: usize,
    finalizers: BTreeMap<String, usize>,
}

impl Remaining {
    pub(super) fn new(kind: &Kind, left: &[ObjectMeta]) -> Remaining {
        let mut finalizers = BTreeMap::new();
        for finalizer in left
            .iter()
            .flat_map(|meta| meta.finalizers.iter().flatten())
        {
            *finalizers.entry(finalizer.clone()).or_insert(0) += 1;
        }
        Remaining {
            resource: format!("{}.{}", kind.plural, kind.group),
            count: left.len(),
            finalizers,
        }
    }
}

/// The namespace without this controller's finalizer; `None` when it has none.
pub(super) fn without_finalizer(namespace: &Namespace) -> Option<Namespace> {
    let mut finalized = namespace.clone();
    let finalizers = finalized
        .spec
        .get_or_insert_default()
        .finalizers
        .get_or_insert_default();
    let count = finalizers.len();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    (finalizers.len() < count).then_some(finalized)
}

/// The namespace with conditions saying what remains; `None` when they say it already.
pub(super) fn with_conditions(
    namespace: &Namespace,
    remaining: &[Remaining],
    now: Timestamp,
) -> Option<Namespace> {
    let mut updated = namespace.clone();
    let status = updated.status.get_or_insert_default();
    status.phase = Some("Terminating".to_owned());
    let conditions = status.conditions.get_or_insert_default();
    for (kind, value, reason, message) in wanted(remaining) {
        set(conditions, kind, value, reason, message, now);
    }
    (updated != *namespace).then_some(updated)
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn wanted(remaining: &[Remaining]) -> [(&'static str, &'static str, &'static str, String); 5] {
    let mut left: Vec<String> = remaining
        .iter()
        .map(|r| format!("{} has {} resource instances", r.resource, r.count))
        .collect();
    left.sort();
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    for (finalizer, count) in remaining.iter().flat_map(|r| &r.finalizers) {
        *held.entry(finalizer).or_insert(0) += count;
    }
    let held: Vec<String> = held
        .into_iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    let discovered = "All resources successfully discovered".to_owned();
    let parsed = "All legacy kube types successfully parsed".to_owned();
    let deleted = "All content successfully deleted, may be waiting on finalization".to_owned();
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            "False",
            "ResourcesDiscovered",
            discovered,
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "False",
            "ParsedGroupVersions",
            parsed,
        ),
        (
            "NamespaceDeletionContentFailure",
            "False",
            "ContentDeleted",
            deleted,
        ),
        if left.is_empty() {
            let message = "All content successfully removed".to_owned();
            (
                "NamespaceContentRemaining",
                "False",
                "ContentRemoved",
                message,
            )
        } else {
            let message = format!("Some resources are remaining: {}", left.join(", "));
            (
                "NamespaceContentRemaining",
                "True",
                "SomeResourcesRemain",
                message,
            )
        },
        if held.is_empty() {
            let message = "All content-preserving finalizers finished".to_owned();
            (
                "NamespaceFinalizersRemaining",
                "False",
                "ContentHasNoFinalizers",
                message,
            )
        } else {
            let message = format!(
                "Some content in the namespace has finalizers remaining: {}",
                held.join(", ")
            );
            (
                "NamespaceFinalizersRemaining",
                "True",
                "SomeFinalizersRemain",
                message,
            )
        },
    ]
}

fn set(
    conditions: &mut Vec<NamespaceCondition>,
    kind: &str,
    value: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let fresh = NamespaceCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(Time(now)),
    };
    match conditions
        .iter_mut()
        .find(|condition| condition.type_ == kind)
    {
        Some(known) if known.status == fresh.status && known.message == fresh.message => {}
        Some(known) => {
            let since = known
                .last_transition_time
                .clone()
                .filter(|_| known.status == fresh.status);
            *known = fresh;
            if since.is_some() {
                known.last_transition_time = since;
            }
        }
        None => conditions.push(fresh),
    }
}

#[cfg(test)]
mod tests {
    use knarr_api::kinds;
    use serde_json::json;

    use super::*;

    fn namespace() -> Namespace {
        let namespace = json!({"metadata": {"name": "ns"}, "spec": {"finalizers": ["kubernetes", "example.com/other"]}});
        serde_json::from_value(namespace).expect("a Namespace")
    }

    fn left(kind: &str, finalizers: &[&[&str]]) -> Remaining {
        let metas: Vec<ObjectMeta> = finalizers
            .iter()
            .map(|finalizers| {
                serde_json::from_value(json!({"finalizers": finalizers})).expect("metadata")
            })
            .collect();
        let kind = kinds::ALL.iter().find(|k| k.kind == kind).expect("a kind");
        Remaining::new(kind, &metas)
    }

    fn check(remaining: &[Remaining], kind: &str, value: &str, message: &str) {
        let now = "2026-06-01T12:00:00Z".parse().expect("a time");
        let told = with_conditions(&namespace(), remaining, now).expect("news");
        assert_eq!(
            with_conditions(&told, remaining, now),
            None,
            "telling again must change nothing"
        );
        let status = told.status.expect("a status");
        let conditions = status.conditions.expect("conditions");
        let condition = conditions
            .iter()
            .find(|c| c.type_ == kind)
            .expect("the condition");
        assert_eq!(
            (condition.status.as_str(), condition.message.as_deref()),
            (value, Some(message))
        );
    }

    #[test]
    fn conditions_count_what_remains_and_what_holds_it() {
        let remaining = [
            left("Deployment", &[&["a/hold"], &[]]),
            left("ConfigMap", &[&["a/hold", "b/hold"]]),
        ];
        let message = "Some resources are remaining: configmaps. has 1 resource instances, deployments.apps has 2 resource instances";
        check(&remaining, "NamespaceContentRemaining", "True", message);
        let message = "Some content in the namespace has finalizers remaining: a/hold in 2 resource instances, b/hold in 1 resource instances";
        check(&remaining, "NamespaceFinalizersRemaining", "True", message);
        let unheld = [left("Pod", &[&[]])];
        check(
            &unheld,
            "NamespaceFinalizersRemaining",
            "False",
            "All content-preserving finalizers finished",
        );
    }

    #[test]
    fn only_the_own_finalizer_is_removed() {
        let finalized = without_finalizer(&namespace()).expect("a change");
        let finalizers = finalized
            .spec
            .as_ref()
            .and_then(|spec| spec.finalizers.clone());
        assert_eq!(finalizers, Some(vec!["example.com/other".to_owned()]));
        assert_eq!(without_finalizer(&finalized), None);
    }
}
