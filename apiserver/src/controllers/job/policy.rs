//! What a Job's policies make of pods that failed and of indexes that succeeded.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::index;

/// What the failure of a pod means to its Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// One more failure.
    Counted,
    /// None; the pod is only replaced.
    Ignored,
    /// Its index has failed for good.
    IndexFailed,
    /// The Job has, and this is why.
    JobFailed(String),
}

/// Judges a failed pod by the first rule that fits.
pub(super) fn consequence(spec: &JobSpec, pod: &Pod) -> Consequence {
    let Some(policy) = &spec.pod_failure_policy else {
        return Consequence::Counted;
    };
    let fitting = policy.rules.iter().enumerate();
    let mut fitting = fitting.filter_map(|(at, rule)| Some((at, rule, cause(rule, pod)?)));
    let Some((at, rule, cause)) = fitting.next() else {
        return Consequence::Counted;
    };
    match rule.action.as_str() {
        "Ignore" => Consequence::Ignored,
        "FailIndex" => Consequence::IndexFailed,
        "FailJob" => Consequence::JobFailed(format!("{cause} matching FailJob rule at index {at}")),
        _ => Consequence::Counted,
    }
}

/// What of a pod's end fits a rule, in words.
fn cause(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let meta = &pod.metadata;
    let name = format!(
        "{}/{}",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default()
    );
    let status = pod.status.as_ref()?;
    if let Some(wanted) = &rule.on_exit_codes {
        let code = |container: &ContainerStatus| {
            let ended = container.state.as_ref()?.terminated.as_ref()?;
            let is_meant = wanted
                .container_name
                .as_ref()
                .is_none_or(|n| *n == container.name);
            let among = wanted.values.contains(&ended.exit_code);
            let fits = match wanted.operator.as_str() {
                "In" => among,
                "NotIn" => !among,
                _ => false,
            };
            (is_meant && fits && ended.exit_code != 0).then_some(ended.exit_code)
        };
        let containers = status.container_statuses.iter().flatten();
        let mut containers = containers.chain(status.init_container_statuses.iter().flatten());
        return containers.find_map(|container| {
            let code = code(container)?;
            let container = &container.name;
            Some(format!(
                "Container {container} for pod {name} failed with exit code {code}"
            ))
        });
    }
    let wanted = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let mut conditions = status.conditions.iter().flatten();
    let found = conditions.find(|condition| {
        let fits = |w: &k8s_openapi::api::batch::v1::PodFailurePolicyOnPodConditionsPattern| {
            w.type_ == condition.type_ && w.status.as_deref().unwrap_or("True") == condition.status
        };
        wanted.iter().any(fits)
    })?;
    Some(format!("Pod {name} has condition {}", found.type_))
}

/// Why the indexes that succeeded are enough, if they are.
pub(super) fn success(spec: &JobSpec, succeeded: &BTreeSet<i32>) -> Option<String> {
    let policy = spec.success_policy.as_ref()?;
    let completions = spec.completions.unwrap_or(0);
    let is_met = policy.rules.iter().position(|rule| {
        let wanted = rule.succeeded_indexes.as_deref();
        let wanted = wanted.map(|text| index::parse(text, completions));
        let done = match &wanted {
            Some(wanted) => wanted.intersection(succeeded).count(),
            None => succeeded.len(),
        };
        let needed = match (rule.succeeded_count, &wanted) {
            (Some(count), _) => usize::try_from(count).unwrap_or(usize::MAX),
            (None, Some(wanted)) => wanted.len(),
            (None, None) => return false,
        };
        done >= needed
    })?;
    Some(format!("Matched rules at index {is_met}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(fields: Value) -> JobSpec {
        let mut spec = json!({"completions": 5, "template": {}});
        for (key, value) in fields.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        serde_json::from_value(spec).expect("a spec")
    }

    fn pod(status: Value) -> Pod {
        let pod = json!({"metadata": {"name": "p", "namespace": "ns"}, "status": status});
        serde_json::from_value(pod).expect("a pod")
    }

    fn exited(name: &str, code: i32) -> Value {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code}}})
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = json!({"podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [7, 8]}},
            {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [9]}},
            {"action": "FailJob", "onPodConditions": [{"type": "Odd", "status": "False"}]},
        ]}});
        let check = |status: Value, expected: Consequence| {
            assert_eq!(
                consequence(&spec(rules.clone()), &pod(status.clone())),
                expected,
                "{status}"
            );
        };
        let failed = |text: &str| Consequence::JobFailed(text.to_owned());
        let conditions =
            |name: &str, status: &str| json!({"conditions": [{"type": name, "status": status}]});
        let containers = |list: &[Value]| json!({"containerStatuses": list});
        check(conditions("DisruptionTarget", "True"), Consequence::Ignored);
        check(
            conditions("DisruptionTarget", "False"),
            Consequence::Counted,
        );
        check(
            conditions("Odd", "False"),
            failed("Pod ns/p has condition Odd matching FailJob rule at index 4"),
        );
        check(
            containers(&[exited("main", 42)]),
            failed(
                "Container main for pod ns/p failed with exit code 42 matching FailJob rule at index 1",
            ),
        );
        check(containers(&[exited("other", 42)]), Consequence::Counted);
        check(
            containers(&[exited("main", 0), exited("b", 8)]),
            Consequence::IndexFailed,
        );
        check(containers(&[exited("main", 9)]), Consequence::Counted);
        assert_eq!(
            consequence(&spec(json!({})), &pod(containers(&[exited("main", 42)]))),
            Consequence::Counted
        );
    }

    #[test]
    fn enough_indexes_make_a_success() {
        let check = |rules: Value, succeeded: &[i32], expected: Option<&str>| {
            let spec = spec(json!({"successPolicy": {"rules": rules}}));
            let succeeded = succeeded.iter().copied().collect();
            assert_eq!(success(&spec, &succeeded).as_deref(), expected, "{rules}");
        };
        let both = json!([{"succeededIndexes": "0,2-3"}, {"succeededCount": 4}]);
        check(both.clone(), &[0, 2], None);
        check(both.clone(), &[0, 2, 3], Some("Matched rules at index 0"));
        check(both, &[0, 1, 2, 4], Some("Matched rules at index 1"));
        let some = json!([{"succeededIndexes": "1-3", "succeededCount": 2}]);
        check(some.clone(), &[0, 1, 4], None);
        check(some, &[1, 3], Some("Matched rules at index 0"));
        assert_eq!(success(&spec(json!({})), &BTreeSet::from([0])), None);
    }
}
