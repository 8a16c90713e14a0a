//! Validation of jobs and of what may change in them.

use serde_json::Value;

use super::{
    super::{
        checks::{self, Errors},
        internal, template,
    },
    NAME_LABELS, UID_LABELS, policies,
};
use crate::{
    field::{Error, Path},
    names, selector, walk,
};

const PARALLELISM_MAX: i64 = 100_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
const COMPLETIONS_SOFT_MAX: i64 = 100_000;
const PARALLELISM_MAX_BEYOND: i64 = 10_000;
const FAILED_INDEXES_MAX_BEYOND: i64 = 10_000;
const MANAGED_BY_LENGTH_MAX: usize = 63;

/// Validates a new job.
pub fn create(job: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let spec = walk::at(job, "spec");
    generated_selector(&mut errors, job);
    spec_with_selector(&mut errors, &path, spec);
    let completions = walk::count(spec, "completions");
    if walk::text(spec, "completionMode") == "Indexed" && completions > 0 {
        let name = walk::text(job, "metadata.name");
        let longest = format!("{name}-{}", completions - 1);
        if !names::dns1123_label(&longest).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {longest}");
            errors.push(Error::invalid(
                &Path::new("metadata").child("name"),
                name,
                &detail,
            ));
        }
    }
    errors
}

/// A selector that was not written by hand has to be the one made from name and uid.
fn generated_selector(errors: &mut Errors, job: &Value) {
    let selector = walk::at(job, "spec.selector");
    if walk::is_true(job, "spec.manualSelector") || selector.is_null() {
        return;
    }
    let (name, uid) = (
        walk::text(job, "metadata.name"),
        walk::text(job, "metadata.uid"),
    );
    if uid.is_empty() {
        errors.push(Error::required(&Path::new("metadata").child("uid"), ""));
    }
    let labels = walk::at(job, "spec.template.metadata.labels");
    let path = Path::new("spec")
        .child("template")
        .child("metadata")
        .child("labels");
    let mut expected = serde_json::Map::new();
    for index in 0..UID_LABELS.len() {
        for (key, value) in [(UID_LABELS[index], uid), (NAME_LABELS[index], name)] {
            expected.insert(key.to_owned(), value.into());
            let detail = format!("must be '{value}'");
            match labels.get(key).and_then(Value::as_str) {
                None => errors.push(Error::required(&path.key(key), &detail)),
                Some(other) if other != value => {
                    errors.push(Error::invalid(&path.key(key), labels.clone(), &detail));
                }
                Some(_) => {}
            }
        }
    }
    if let Ok(parsed) = selector::from_label_selector(selector)
        && !parsed.matches(Some(&expected))
    {
        let path = Path::new("spec").child("selector");
        let shown = internal::show("*LabelSelector", selector);
        errors.push(Error::invalid_shown(
            &path,
            &shown,
            "`selector` not auto-generated",
        ));
    }
}

fn spec_with_selector(errors: &mut Errors, path: &Path, spec: &Value) {
    self::spec(errors, path, spec);
    let selector = walk::at(spec, "selector");
    let path_selector = path.child("selector");
    if selector.is_null() {
        errors.push(Error::required(&path_selector, ""));
    } else {
        errors.extend(selector::validate_label_selector(selector, &path_selector));
    }
    if let Ok(selector) = selector::from_label_selector(selector) {
        let template = walk::at(spec, "template");
        template::matches(errors, &path.child("template"), template, &selector);
    }
}

/// Validates a job's spec, its selector left aside.
pub fn spec(errors: &mut Errors, path: &Path, spec: &Value) {
    checks::counts(
        errors,
        path,
        spec,
        &[
            "parallelism",
            "completions",
            "activeDeadlineSeconds",
            "backoffLimit",
            "ttlSecondsAfterFinished",
            "backoffLimitPerIndex",
            "maxFailedIndexes",
        ],
    );
    let per_index = walk::integer(spec, "backoffLimitPerIndex");
    if walk::has(spec, "maxFailedIndexes") && per_index.is_none() {
        let detail = "when maxFailedIndexes is specified";
        errors.push(Error::required(&path.child("backoffLimitPerIndex"), detail));
    }
    managed_by(errors, &path.child("managedBy"), spec);
    completion_mode(errors, path, spec);
    policies::validate(errors, path, spec);
    let template = walk::at(spec, "template");
    template::validate(errors, &path.child("template"), template);
    restart_policy(errors, path, spec);
}

fn managed_by(errors: &mut Errors, path: &Path, spec: &Value) {
    let Some(manager) = walk::at(spec, "managedBy").as_str() else {
        return;
    };
    if manager.is_empty() {
        errors.push(Error::required(path, ""));
    } else {
        match manager.split_once('/') {
            Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
                checks::complain(errors, path, domain, names::dns1123_subdomain(domain));
            }
            _ => {
                let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
                errors.push(Error::invalid(path, manager, detail));
            }
        }
    }
    if manager.len() > MANAGED_BY_LENGTH_MAX {
        errors.push(Error::too_long(path, MANAGED_BY_LENGTH_MAX));
    }
}

fn completion_mode(errors: &mut Errors, path: &Path, spec: &Value) {
    let mode = walk::at(spec, "completionMode");
    checks::one_of_if_set(
        errors,
        &path.child("completionMode"),
        mode,
        &["NonIndexed", "Indexed"],
    );
    if mode == "Indexed" {
        indexed(errors, path, spec);
    } else if mode.is_null() || mode == "NonIndexed" {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(value) = walk::integer(spec, field) {
                let detail = "requires indexed completion mode";
                errors.push(Error::invalid(&path.child(field), value, detail));
            }
        }
    }
}

fn indexed(errors: &mut Errors, path: &Path, spec: &Value) {
    let parallelism = walk::integer(spec, "parallelism");
    let failed = walk::integer(spec, "maxFailedIndexes");
    let (path_parallelism, path_failed) =
        (path.child("parallelism"), path.child("maxFailedIndexes"));
    let completions = walk::integer(spec, "completions");
    if completions.is_none() {
        let detail = "when completion mode is Indexed";
        errors.push(Error::required(&path.child("completions"), detail));
    }
    if let Some(value) = parallelism.filter(|value| *value > PARALLELISM_MAX) {
        let detail = format!(
            "must be less than or equal to {PARALLELISM_MAX} when completion mode is Indexed"
        );
        errors.push(Error::invalid(&path_parallelism, value, &detail));
    }
    if let (Some(completions), Some(failed)) = (completions, failed)
        && failed > completions
    {
        let detail = "must be less than or equal to completions";
        errors.push(Error::invalid(&path_failed, failed, detail));
    }
    if let Some(value) = failed.filter(|value| *value > FAILED_INDEXES_MAX) {
        let detail = format!("must be less than or equal to {FAILED_INDEXES_MAX}");
        errors.push(Error::invalid(&path_failed, value, &detail));
    }
    let is_huge = completions.is_some_and(|completions| completions > COMPLETIONS_SOFT_MAX);
    if !is_huge || !walk::has(spec, "backoffLimitPerIndex") {
        return;
    }
    if failed.is_none() {
        let detail = format!("must be specified when completions is above {COMPLETIONS_SOFT_MAX}");
        errors.push(Error::required(&path_failed, &detail));
    }
    for (path, value, limit) in [
        (&path_parallelism, parallelism, PARALLELISM_MAX_BEYOND),
        (&path_failed, failed, FAILED_INDEXES_MAX_BEYOND),
    ] {
        if let Some(value) = value.filter(|value| *value > limit) {
            let detail = format!(
                "must be less than or equal to {limit} when completions are above {COMPLETIONS_SOFT_MAX} and used with backoff limit per index"
            );
            errors.push(Error::invalid(path, value, &detail));
        }
    }
}

fn restart_policy(errors: &mut Errors, path: &Path, spec: &Value) {
    let path = path.child("template").child("spec").child("restartPolicy");
    match walk::text(spec, "template.spec.restartPolicy") {
        "" | "Always" => {
            let detail = "valid values: \"OnFailure\", \"Never\"";
            errors.push(Error::required(&path, detail));
        }
        policy @ "OnFailure" if walk::has(spec, "podFailurePolicy") => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(Error::invalid(&path, policy, detail));
        }
        "OnFailure" | "Never" => {}
        other => errors.push(Error::not_supported(&path, other, &["OnFailure", "Never"])),
    }
}

/// Validates a write of a stored job; Kubernetes judges the whole job and then its spec once more.
pub fn update(new: &Value, old: &Value) -> Errors {
    let mut errors = create(new);
    let (spec, before) = (walk::at(new, "spec"), walk::at(old, "spec"));
    let path = Path::new("spec");
    spec_with_selector(&mut errors, &path, spec);
    completions_change(&mut errors, &path.child("completions"), spec, before);
    let same = |errors: &mut Errors, field: &str, shape: &str| {
        let (new, old) = (walk::at(spec, field), walk::at(before, field));
        checks::immutable_shaped(errors, &path.child(field), shape, new, old);
    };
    same(&mut errors, "selector", "*LabelSelector");
    template_change(&mut errors, &path.child("template"), new, old);
    for (field, shape) in [
        ("completionMode", "*s"),
        ("podFailurePolicy", "*PodFailurePolicy"),
        ("backoffLimitPerIndex", "*i"),
        ("managedBy", "*s"),
        ("successPolicy", "*SuccessPolicy"),
    ] {
        same(&mut errors, field, shape);
    }
    errors
}

/// Only indexed jobs may be resized, and only together with their parallelism.
fn completions_change(errors: &mut Errors, path: &Path, spec: &Value, old: &Value) {
    let (now, before) = (walk::at(spec, "completions"), walk::at(old, "completions"));
    if now == before {
        return;
    }
    if walk::text(spec, "completionMode") != "Indexed" {
        checks::immutable(errors, path, now, before);
        return;
    }
    if !now.is_null() && now != walk::at(spec, "parallelism") {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.push(Error::invalid(path, now.clone(), detail));
    }
}

/// A suspended job that never started may still be sent elsewhere.
fn template_change(errors: &mut Errors, path: &Path, new: &Value, old: &Value) {
    let now = walk::at(new, "spec.template");
    let mut before = walk::at(old, "spec.template").clone();
    if is_open_to_scheduling(old) {
        for (place, field) in [
            ("spec", "nodeSelector"),
            ("spec", "tolerations"),
            ("spec", "schedulingGates"),
            ("metadata", "annotations"),
            ("metadata", "labels"),
        ] {
            if let Some(part) = before.get_mut(place) {
                walk::carry(part, walk::at(now, place), field);
            }
        }
        open_node_affinity(&mut before, now);
    }
    checks::immutable_shaped(errors, path, "PodTemplateSpec", now, &before);
}

fn is_open_to_scheduling(job: &Value) -> bool {
    walk::is_true(job, "spec.suspend") && !walk::has(job, "status.startTime")
}

fn open_node_affinity(before: &mut Value, now: &Value) {
    let wanted = walk::at(now, "spec.affinity.nodeAffinity").clone();
    let keeps_affinity = walk::has(now, "spec.affinity");
    let affinity = walk::object_mut(before, "spec.affinity");
    affinity.remove("nodeAffinity");
    if !wanted.is_null() {
        affinity.insert("nodeAffinity".into(), wanted);
    }
    if affinity.is_empty() && !keeps_affinity {
        walk::object_mut(before, "spec").remove("affinity");
    }
}
