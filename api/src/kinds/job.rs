//! Job: pods that run until enough of them have succeeded.

pub mod policies;
pub mod status;
#[cfg(test)]
mod tests;
pub mod validate;

use serde_json::{Value, json};

use super::{pod::warnings, rollout, template};
use crate::{
    field::Path,
    kind::{Column, Generation, Kind, Strategy, Subresource},
    table::age,
    walk::{self, fill},
};

pub static JOB: Kind = Kind {
    group: "batch",
    kind: "Job",
    plural: "jobs",
    singular: "job",
    categories: &["all"],
    subresources: &[Subresource::STATUS],
    strategy: Strategy {
        default,
        prepare_create,
        validate_create: validate::create,
        prepare_update: rollout::keep_status,
        validate_update: validate::update,
        prepare_status: rollout::keep_spec,
        validate_status: status::validate,
        warnings,
        generation: Generation::Spec,
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string("Status", "How far the job has come, in one word."),
        Column::string(
            "Completions",
            "status.succeeded: pods that succeeded, of all needed.",
        ),
        Column::string(
            "Duration",
            "Time from status.startTime until now or the end.",
        ),
        Column::AGE,
        rollout::CONTAINERS,
        rollout::IMAGES,
        rollout::SELECTOR,
    ],
    cells,
    selectable: &[("status.successful", |job| {
        walk::count(job, "status.succeeded").to_string()
    })],
    unknown_field: Some(|field| {
        format!(
            "field label {} not supported for Job",
            crate::field::quote(field)
        )
    }),
    ..Kind::BASE
};

/// The labels that tie pods to their job, old names and new ones.
pub const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
pub const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const SELECTED_LABEL: &str = UID_LABELS[1];

fn default(job: &mut Value) {
    let labels = walk::at(job, "spec.template.metadata.labels");
    if labels.get(SELECTED_LABEL).is_some() || walk::is_true(job, "spec.manualSelector") {
        share_labels(job);
    }
    let spec = walk::object_mut(job, "spec");
    if spec.get("completions").is_none_or(Value::is_null)
        && spec.get("parallelism").is_none_or(Value::is_null)
    {
        spec.insert("completions".into(), json!(1));
    }
    fill(spec, "parallelism", 1);
    let per_index = spec
        .get("backoffLimitPerIndex")
        .is_some_and(|limit| !limit.is_null());
    fill(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    let has_policy = spec
        .get("podFailurePolicy")
        .is_some_and(|policy| !policy.is_null());
    let replacement = if has_policy {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    fill(spec, "podReplacementPolicy", replacement);
    fill(spec, "manualSelector", false);
    default_template(job.get_mut("spec"));
    walk::object_mut(job, "status");
}

/// What a job's template gets whether the job exists or is itself only a template.
pub fn default_template(spec: Option<&mut Value>) {
    let Some(spec) = spec else {
        return;
    };
    walk::object_mut(spec, "template");
    template::default(&mut spec["template"]);
    for rule in walk::list_mut(spec, "podFailurePolicy.rules") {
        for pattern in walk::list_mut(rule, "onPodConditions") {
            walk::fill_zero(walk::object_mut(pattern, ""), "status", "True");
        }
    }
}

/// Expects the system's metadata to be filled in: the selector is made from name and uid.
fn prepare_create(job: &mut Value) {
    if !walk::is_true(job, "spec.manualSelector") {
        generate_selector(job);
    }
    share_labels(job);
    rollout::reset_status(job, json!({}));
}

/// A job without labels of its own shows those of its template.
fn share_labels(job: &mut Value) {
    let labels = walk::at(job, "spec.template.metadata.labels").clone();
    let own = walk::at(job, "metadata.labels");
    if !labels.is_null() && own.as_object().is_none_or(|own| own.is_empty()) {
        walk::object_mut(job, "metadata").insert("labels".into(), labels);
    }
}

fn generate_selector(job: &mut Value) {
    let name = Value::from(walk::text(job, "metadata.name"));
    let uid = Value::from(walk::text(job, "metadata.uid"));
    let labels = walk::object_mut(job, "spec.template.metadata.labels");
    for (keys, value) in [(NAME_LABELS, &name), (UID_LABELS, &uid)] {
        for key in keys {
            labels.entry(key).or_insert_with(|| value.clone());
        }
    }
    let selector = walk::object_mut(job, "spec.selector.matchLabels");
    selector.entry(SELECTED_LABEL).or_insert(uid);
}

/// Warnings about a job's spec: numbers that are hard to keep track of, then the template.
pub fn spec_warnings(path: &Path, spec: &Value) -> Vec<String> {
    const COMPLETIONS_MAX: i64 = 100_000;
    const PARALLELISM_MAX: i64 = 10_000;
    let mut all = Vec::new();
    if walk::text(spec, "completionMode") == "Indexed"
        && walk::count(spec, "completions") > COMPLETIONS_MAX
        && walk::count(spec, "parallelism") > PARALLELISM_MAX
    {
        all.push(format!("{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"));
    }
    all.extend(warnings::spec(
        &path.child("template"),
        walk::at(spec, "template"),
    ));
    all
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut all = rollout::name_warnings(new, old);
    if old.is_none_or(|old| old["spec"] != new["spec"]) {
        all.extend(spec_warnings(&Path::new("spec"), walk::at(new, "spec")));
    }
    all
}

/// Whether a condition of a job holds.
pub fn condition(job: &Value, kind: &str) -> bool {
    walk::list(job, "status.conditions")
        .iter()
        .any(|condition| {
            walk::text(condition, "type") == kind && walk::text(condition, "status") == "True"
        })
}

fn cells(job: &Value, now_seconds: i64) -> Vec<Value> {
    let middle = [
        json!(state(job)),
        json!(completions(job)),
        json!(duration(job, now_seconds)),
    ];
    let mut cells = rollout::row(job, &middle, now_seconds);
    cells.extend(rollout::wide_cells(job));
    cells
}

fn state(job: &Value) -> &'static str {
    let is_deleted = walk::has(job, "metadata.deletionTimestamp");
    if condition(job, "Complete") {
        "Complete"
    } else if condition(job, "Failed") {
        "Failed"
    } else if is_deleted {
        "Terminating"
    } else if condition(job, "Suspended") {
        "Suspended"
    } else if condition(job, "FailureTarget") {
        "FailureTarget"
    } else if condition(job, "SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(job: &Value) -> String {
    let succeeded = walk::count(job, "status.succeeded");
    let parallelism = walk::count(job, "spec.parallelism");
    match walk::integer(job, "spec.completions") {
        Some(completions) => format!("{succeeded}/{completions}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    }
}

fn duration(job: &Value, now_seconds: i64) -> String {
    let start = age::seconds_of(walk::text(job, "status.startTime"));
    let end = age::seconds_of(walk::text(job, "status.completionTime"));
    match (start, end) {
        (None, _) => String::new(),
        (Some(start), end) => age::duration(end.unwrap_or(now_seconds) - start),
    }
}
