//! When a job counts as failed or done before its number of pods has succeeded.

use serde_json::Value;

use super::super::{
    checks::{self, Errors},
    internal,
};
use crate::{
    field::{Error, Path, quote},
    walk,
};

const RULES_MAX: usize = 20;
const VALUES_MAX: usize = 255;
const INDEXES_LENGTH_MAX: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

/// Validates all of a job's policies.
pub fn validate(errors: &mut Errors, path: &Path, spec: &Value) {
    let failure = walk::at(spec, "podFailurePolicy");
    if !failure.is_null() {
        failure_policy(errors, &path.child("podFailurePolicy").child("rules"), spec);
    }
    let success = walk::at(spec, "successPolicy");
    let path_success = path.child("successPolicy");
    if !success.is_null() && walk::text(spec, "completionMode") != "Indexed" {
        let shown = internal::show("SuccessPolicy", success);
        let detail = "requires indexed completion mode";
        checks::invalid_shown(errors, &path_success, &shown, detail);
    } else if !success.is_null() {
        success_policy(errors, &path_success.child("rules"), spec);
    }
    let supported: &[&str] = if failure.is_null() {
        &["Failed", "TerminatingOrFailed"]
    } else {
        &["Failed"]
    };
    let policy = walk::at(spec, "podReplacementPolicy");
    checks::one_of_if_set(
        errors,
        &path.child("podReplacementPolicy"),
        policy,
        supported,
    );
}

fn failure_policy(errors: &mut Errors, path: &Path, spec: &Value) {
    let rules = walk::list(spec, "podFailurePolicy.rules");
    if rules.len() > RULES_MAX {
        errors.push(Error::too_many(path, rules.len(), RULES_MAX));
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        action(errors, &path.child("action"), rule, spec);
        let codes = walk::at(rule, "onExitCodes");
        let conditions = walk::list(rule, "onPodConditions");
        if !codes.is_null() {
            exit_codes(errors, &path.child("onExitCodes"), codes, spec);
        }
        pod_conditions(errors, &path.child("onPodConditions"), conditions);
        match (codes.is_null(), conditions.is_empty()) {
            (false, false) => {
                let detail = "specifying both OnExitCodes and OnPodConditions is not supported";
                checks::invalid_unshown(errors, &path, detail);
            }
            (true, true) => {
                let detail = "specifying one of OnExitCodes and OnPodConditions is required";
                checks::invalid_unshown(errors, &path, detail);
            }
            _ => {}
        }
    }
}

fn action(errors: &mut Errors, path: &Path, rule: &Value, spec: &Value) {
    match walk::text(rule, "action") {
        "" => {
            let detail = "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]";
            errors.push(Error::required(path, detail));
        }
        action @ "FailIndex" if !walk::has(spec, "backoffLimitPerIndex") => {
            let detail = "requires the backoffLimitPerIndex to be set";
            errors.push(Error::invalid(path, action, detail));
        }
        action if !ACTIONS.contains(&action) => {
            errors.push(Error::not_supported(path, action, &ACTIONS));
        }
        _ => {}
    }
}

fn pod_conditions(errors: &mut Errors, path: &Path, conditions: &[Value]) {
    if conditions.len() > RULES_MAX {
        errors.push(Error::too_many(path, conditions.len(), RULES_MAX));
    }
    for (index, pattern) in conditions.iter().enumerate() {
        let path = path.index(index);
        checks::qualified_name(errors, &path.child("type"), walk::text(pattern, "type"));
        let status = walk::text(pattern, "status");
        let supported = ["False", "True", "Unknown"];
        checks::one_of(errors, &path.child("status"), status, &supported);
    }
}

fn exit_codes(errors: &mut Errors, path: &Path, codes: &Value, spec: &Value) {
    let operator = walk::text(codes, "operator");
    let path_operator = path.child("operator");
    if operator.is_empty() {
        let detail = "valid values: [\"In\" \"NotIn\"]";
        errors.push(Error::required(&path_operator, detail));
    } else if !["In", "NotIn"].contains(&operator) {
        errors.push(Error::not_supported(
            &path_operator,
            operator,
            &["In", "NotIn"],
        ));
    }
    if let Some(name) = walk::at(codes, "containerName").as_str() {
        let is_known = ["template.spec.containers", "template.spec.initContainers"]
            .iter()
            .flat_map(|list| walk::list(spec, list))
            .any(|container| walk::text(container, "name") == name);
        if !is_known {
            let detail = "must be one of the container or initContainer names in the pod template";
            errors.push(Error::invalid(&path.child("containerName"), name, detail));
        }
    }
    let values = walk::list(codes, "values");
    let path = path.child("values");
    if values.is_empty() {
        let shown = walk::at(codes, "values").clone();
        errors.push(Error::invalid(
            &path,
            shown,
            "at least one value is required",
        ));
    } else if values.len() > VALUES_MAX {
        errors.push(Error::too_many(&path, values.len(), VALUES_MAX));
    }
    let numbers: Vec<i64> = values
        .iter()
        .map(|value| value.as_i64().unwrap_or_default())
        .collect();
    for (index, number) in numbers.iter().enumerate() {
        let path = path.index(index);
        if operator == "In" && *number == 0 {
            errors.push(Error::invalid(
                &path,
                0,
                "must not be 0 for the In operator",
            ));
        }
        if numbers[..index].contains(number) {
            errors.push(Error::duplicate(&path, *number));
        }
    }
    if !numbers.is_sorted() {
        errors.push(Error::invalid(
            &path,
            Value::from(numbers),
            "must be ordered",
        ));
    }
}

fn success_policy(errors: &mut Errors, path: &Path, spec: &Value) {
    let rules = walk::list(spec, "successPolicy.rules");
    let completions = walk::count(spec, "completions");
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(Error::required(path, detail));
    }
    if rules.len() > RULES_MAX {
        errors.push(Error::too_many(path, rules.len(), RULES_MAX));
    }
    for (index, rule) in rules.iter().enumerate() {
        success_rule(errors, &path.index(index), rule, completions);
    }
}

fn success_rule(errors: &mut Errors, path: &Path, rule: &Value, completions: i64) {
    let indexes = walk::at(rule, "succeededIndexes").as_str();
    let count = walk::integer(rule, "succeededCount");
    if indexes.is_none() && count.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(Error::required(path, detail));
    }
    let mut index_count = 0;
    if let Some(indexes) = indexes {
        let path = path.child("succeededIndexes");
        if indexes.len() > INDEXES_LENGTH_MAX {
            errors.push(Error::too_long(&path, INDEXES_LENGTH_MAX));
        }
        match count_indexes(indexes, completions) {
            Ok(count) => index_count = count,
            Err(problem) => {
                let detail = format!("error parsing succeededIndexes: {problem}");
                errors.push(Error::invalid(&path, indexes, &detail));
            }
        }
    }
    let Some(count) = count else {
        return;
    };
    let path = path.child("succeededCount");
    checks::non_negative(errors, &path, count);
    let mut exceeds = |limit: i64, what: &str| {
        if count > limit {
            let detail = format!("must be less than or equal to {limit} (the number of {what})");
            errors.push(Error::invalid(&path, count, &detail));
        }
    };
    exceeds(completions, "specified completions");
    if indexes.is_some() {
        exceeds(
            index_count,
            "indexes in the specified succeededIndexes field",
        );
    }
}

/// Counts the indexes in `1,3-5,7`.
///
/// # Errors
/// What is wrong with the first part that is.
pub fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, None);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let (from, to) = parse_interval(interval, completions)?;
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(format!(
                "non-increasing order, previous: {last}, current: {from}"
            ));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

fn parse_interval(interval: &str, completions: i64) -> Result<(i64, i64), String> {
    let limits: Vec<&str> = interval.split('-').collect();
    let parse = |text: &str| -> Result<i64, String> {
        let index: i64 = text.parse().map_err(|_| {
            format!(
                "cannot convert string to integer for index: {}",
                quote(text)
            )
        })?;
        if index >= completions {
            return Err(format!("too large index: {}", quote(text)));
        }
        Ok(index)
    };
    match limits[..] {
        [only] => parse(only).map(|index| (index, index)),
        [from, to] => {
            let (from, to) = (parse(from)?, parse(to)?);
            if from >= to {
                return Err(format!(
                    "non-increasing order, previous: {from}, current: {to}"
                ));
            }
            Ok((from, to))
        }
        _ => Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            quote(interval)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted_or_refused_in_words() {
        let check = |text: &str, expected: Result<i64, &str>| {
            assert_eq!(
                count_indexes(text, 10),
                expected.map_err(str::to_owned),
                "{text}"
            );
        };
        check("", Ok(0));
        check("1,3-5,7", Ok(5));
        check("3,3", Err("non-increasing order, previous: 3, current: 3"));
        check("5-4", Err("non-increasing order, previous: 5, current: 4"));
        check("10", Err("too large index: \"10\""));
        check(
            "a",
            Err("cannot convert string to integer for index: \"a\""),
        );
        check(
            "1-2-3",
            Err(
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
            ),
        );
    }
}
