//! Label selectors over typed objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

pub(super) type Labels = BTreeMap<String, String>;

/// Says whether every pair of `selector` is among `labels`.
pub(super) fn pairs_match(selector: &Labels, labels: Option<&Labels>) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// Says whether `selector` selects `labels`; an empty selector selects everything, an unknown operator nothing.
pub(super) fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let pairs = selector.match_labels.as_ref();
    let requirements = selector.match_expressions.iter().flatten();
    pairs.is_none_or(|pairs| pairs_match(pairs, labels))
        && requirements.into_iter().all(|r| meets(r, labels))
}

/// Says whether `selector` has no requirement at all.
pub(super) fn is_empty(selector: &LabelSelector) -> bool {
    let LabelSelector {
        match_expressions,
        match_labels,
    } = selector;
    match_expressions.as_ref().is_none_or(Vec::is_empty)
        && match_labels.as_ref().is_none_or(BTreeMap::is_empty)
}

fn meets(requirement: &LabelSelectorRequirement, labels: Option<&Labels>) -> bool {
    let value = labels.and_then(|labels| labels.get(&requirement.key));
    let among = |value: &String| requirement.values.iter().flatten().any(|v| v == value);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(selector: serde_json::Value, labels: &[(&str, &str)], expected: bool) {
        let selector: LabelSelector = serde_json::from_value(selector).expect("a selector");
        let labels: Labels = labels
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect();
        assert_eq!(
            matches(&selector, Some(&labels)),
            expected,
            "{selector:?} on {labels:?}"
        );
    }

    #[test]
    fn every_requirement_must_hold() {
        check(json!({}), &[], true);
        check(
            json!({"matchLabels": {"a": "1"}}),
            &[("a", "1"), ("b", "2")],
            true,
        );
        check(
            json!({"matchLabels": {"a": "1", "b": "1"}}),
            &[("a", "1"), ("b", "2")],
            false,
        );
        let both = json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]});
        check(both.clone(), &[("a", "1")], false);
        check(both, &[("a", "1"), ("b", "")], true);
    }

    #[test]
    fn a_missing_label_satisfies_only_the_negative_operators() {
        for (operator, expected) in [
            ("In", false),
            ("NotIn", true),
            ("Exists", false),
            ("DoesNotExist", true),
        ] {
            let selector =
                json!({"matchExpressions": [{"key": "a", "operator": operator, "values": ["1"]}]});
            check(selector, &[], expected);
        }
    }
}
