//! Where a pod may run: affinity, tolerations, spread and gates. Chooses no node.

use serde_json::Value;

use super::super::checks::{self, Errors};
use crate::{
    field::{Error, Path},
    names, selector, walk,
};

const TAINT_EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Whether values that could never match a label are refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LabelValues {
    Checked,
    Unchecked,
}

/// Validates `spec.affinity`.
pub fn affinity(errors: &mut Errors, path: &Path, affinity: &Value) {
    let node = walk::at(affinity, "nodeAffinity");
    if !node.is_null() {
        node_affinity(errors, &path.child("nodeAffinity"), node);
    }
    for name in ["podAffinity", "podAntiAffinity"] {
        let path = path.child(name);
        let own = walk::at(affinity, name);
        for (index, term) in walk::list(own, REQUIRED).iter().enumerate() {
            pod_term(errors, &path.child(REQUIRED).index(index), term);
        }
        for (index, weighted) in walk::list(own, PREFERRED).iter().enumerate() {
            let path = path.child(PREFERRED).index(index);
            weight(errors, &path, weighted);
            let term = walk::at(weighted, "podAffinityTerm");
            pod_term(errors, &path.child("podAffinityTerm"), term);
        }
    }
}

fn node_affinity(errors: &mut Errors, path: &Path, affinity: &Value) {
    let required = walk::at(affinity, REQUIRED);
    if !required.is_null() {
        let path = path.child(REQUIRED).child("nodeSelectorTerms");
        let terms = walk::list(required, "nodeSelectorTerms");
        if terms.is_empty() {
            let detail = "must have at least one node selector term";
            errors.push(Error::required(&path, detail));
        }
        for (index, term) in terms.iter().enumerate() {
            node_term(errors, &path.index(index), term, LabelValues::Checked);
        }
    }
    for (index, weighted) in walk::list(affinity, PREFERRED).iter().enumerate() {
        let path = path.child(PREFERRED).index(index);
        weight(errors, &path, weighted);
        let term = walk::at(weighted, "preference");
        node_term(
            errors,
            &path.child("preference"),
            term,
            LabelValues::Unchecked,
        );
    }
}

fn weight(errors: &mut Errors, path: &Path, weighted: &Value) {
    let weight = walk::count(weighted, "weight");
    if !(1..=100).contains(&weight) {
        let path = path.child("weight");
        errors.push(Error::invalid(&path, weight, "must be in the range 1-100"));
    }
}

fn node_term(errors: &mut Errors, path: &Path, term: &Value, values: LabelValues) {
    for (index, requirement) in walk::list(term, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        node_requirement(errors, &path, requirement, values);
    }
    for (index, requirement) in walk::list(term, "matchFields").iter().enumerate() {
        node_field(errors, &path.child("matchFields").index(index), requirement);
    }
}

fn node_requirement(errors: &mut Errors, path: &Path, requirement: &Value, checked: LabelValues) {
    let values = walk::list(requirement, "values");
    let path_values = path.child("values");
    let operator = walk::text(requirement, "operator");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(Error::required(&path_values, detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&path_values, detail));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(Error::required(&path_values, detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            let path = path.child("operator");
            errors.push(Error::invalid(
                &path,
                other,
                "not a valid selector operator",
            ));
        }
    }
    checks::qualified_name(errors, &path.child("key"), walk::text(requirement, "key"));
    if checked == LabelValues::Checked {
        for (index, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            checks::complain(
                errors,
                &path_values.index(index),
                value,
                names::label_value(value),
            );
        }
    }
}

fn node_field(errors: &mut Errors, path: &Path, requirement: &Value) {
    let values = walk::list(requirement, "values");
    let path_values = path.child("values");
    match walk::text(requirement, "operator") {
        "In" | "NotIn" if values.len() == 1 => {}
        "In" | "NotIn" => {
            let detail =
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(Error::required(&path_values, detail));
        }
        other => {
            let path = path.child("operator");
            errors.push(Error::invalid(
                &path,
                other,
                "not a valid selector operator",
            ));
        }
    }
    let key = walk::text(requirement, "key");
    if key != "metadata.name" {
        let path = path.child("key");
        errors.push(Error::invalid(&path, key, "not a valid field selector key"));
        return;
    }
    for (index, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        let messages = names::dns1123_subdomain(value);
        checks::complain(errors, &path_values.index(index), value, messages);
    }
}

fn pod_term(errors: &mut Errors, path: &Path, term: &Value) {
    for name in ["labelSelector", "namespaceSelector"] {
        errors.extend(selector::validate_label_selector(
            walk::at(term, name),
            &path.child(name),
        ));
    }
    for namespace in walk::list(term, "namespaces") {
        let namespace = namespace.as_str().unwrap_or_default();
        let path = path.child("namespace");
        checks::complain(errors, &path, namespace, names::dns1123_label(namespace));
    }
    label_keys(errors, path, term);
    let key = walk::text(term, "topologyKey");
    let path_key = path.child("topologyKey");
    if key.is_empty() {
        errors.push(Error::required(&path_key, "can not be empty"));
    }
    checks::qualified_name(errors, &path_key, key);
}

/// `matchLabelKeys` and `mismatchLabelKeys`, which are merged into the label selector when the pod is created.
fn label_keys(errors: &mut Errors, path: &Path, term: &Value) {
    let selector = walk::at(term, "labelSelector");
    for name in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = walk::list(term, name);
        let path = path.child(name);
        if !keys.is_empty() && selector.is_null() {
            let detail = "must not be specified when labelSelector is not set";
            errors.push(Error::forbidden(&path, detail));
            continue;
        }
        for (index, key) in keys.iter().enumerate() {
            let key = key.as_str().unwrap_or_default();
            checks::qualified_name(errors, &path.index(index), key);
        }
    }
    let matching = walk::list(term, "matchLabelKeys");
    let mut selected: Vec<&str> = walk::entries(selector, "matchLabels")
        .map(|(k, _)| k)
        .collect();
    for expression in walk::list(selector, "matchExpressions") {
        let key = walk::text(expression, "key");
        let position = matching.iter().rposition(|other| other == key);
        if let Some(index) = position.filter(|_| selected.contains(&key)) {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(Error::invalid(&path.index(index), key, detail));
        }
        selected.push(key);
    }
    let mismatching = walk::list(term, "mismatchLabelKeys");
    for (index, key) in matching.iter().enumerate() {
        if mismatching.contains(key) {
            let path = path.child("matchLabelKeys").index(index);
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.push(Error::invalid(&path, key.clone(), detail));
        }
    }
}

/// Validates `spec.tolerations`.
pub fn tolerations(errors: &mut Errors, path: &Path, tolerations: &[Value]) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let key = walk::text(toleration, "key");
        let operator = walk::text(toleration, "operator");
        let value = walk::text(toleration, "value");
        let effect = walk::text(toleration, "effect");
        if !key.is_empty() {
            checks::qualified_name(errors, &path.child("key"), key);
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(Error::invalid(&path.child("operator"), operator, detail));
        }
        if walk::has(toleration, "tolerationSeconds") && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(Error::invalid(&path.child("effect"), effect, detail));
        }
        operator_and_value(errors, &path, operator, value);
        if !effect.is_empty() {
            checks::one_of(errors, &path.child("effect"), effect, &TAINT_EFFECTS);
        }
    }
}

fn operator_and_value(errors: &mut Errors, path: &Path, operator: &str, value: &str) {
    let path = path.child("operator");
    match operator {
        "" | "Equal" => {
            let messages = names::label_value(value);
            if !messages.is_empty() {
                errors.push(Error::invalid(&path, value, &messages.join(";")));
            }
        }
        "Exists" => {
            if !value.is_empty() {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(Error::invalid(&path, value, detail));
            }
        }
        "Lt" | "Gt" => {
            let supported = ["Equal", "Exists", "Lt", "Gt"];
            errors.push(Error::not_supported(&path, operator, &supported));
        }
        other => errors.push(Error::not_supported(&path, other, &["Equal", "Exists"])),
    }
}

/// Validates `spec.topologySpreadConstraints`.
pub fn spread(errors: &mut Errors, path: &Path, constraints: &[Value]) {
    for (index, constraint) in constraints.iter().enumerate() {
        let own = path.index(index);
        positive(
            errors,
            &own.child("maxSkew"),
            walk::count(constraint, "maxSkew"),
        );
        let key = walk::text(constraint, "topologyKey");
        if key.is_empty() {
            errors.push(Error::required(
                &own.child("topologyKey"),
                "can not be empty",
            ));
        }
        let action = walk::text(constraint, "whenUnsatisfiable");
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action) {
            let path = own.child("whenUnsatisfiable");
            errors.push(Error::not_supported(&path, action, &actions));
        }
        let repeated = constraints[index + 1..].iter().any(|other| {
            walk::text(other, "topologyKey") == key
                && walk::text(other, "whenUnsatisfiable") == action
        });
        if repeated {
            let path = own.child("{topologyKey, whenUnsatisfiable}");
            errors.push(Error::duplicate(&path, format!("{{{key}, {action}}}")));
        }
        min_domains(errors, &own.child("minDomains"), constraint, action);
        for name in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let policy = walk::at(constraint, name);
            checks::one_of_if_set(errors, &own.child(name), policy, &["Honor", "Ignore"]);
        }
        label_keys(errors, &own, constraint);
        let selector = walk::at(constraint, "labelSelector");
        errors.extend(selector::validate_label_selector(
            selector,
            &own.child("labelSelector"),
        ));
    }
}

fn min_domains(errors: &mut Errors, path: &Path, constraint: &Value, action: &str) {
    let Some(domains) = walk::integer(constraint, "minDomains") else {
        return;
    };
    positive(errors, path, domains);
    if action != "DoNotSchedule" {
        let detail =
            format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        errors.push(Error::invalid(path, domains, &detail));
    }
}

fn positive(errors: &mut Errors, path: &Path, value: i64) {
    if value <= 0 {
        errors.push(Error::invalid(path, value, "must be greater than zero"));
    }
}

/// Validates `spec.schedulingGates`.
pub fn gates(errors: &mut Errors, path: &Path, gates: &[Value]) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, gate) in gates.iter().enumerate() {
        let path = path.index(index);
        let name = walk::text(gate, "name");
        checks::qualified_name(errors, &path, name);
        if seen.contains(&name) {
            errors.push(Error::duplicate(&path, name));
        }
        seen.push(name);
    }
}
