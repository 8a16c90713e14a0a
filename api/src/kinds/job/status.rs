//! What writes through `/status` may say of a job: it may not un-finish, and its numbers have to fit each other.

use serde_json::Value;

use super::{
    super::{
        checks::{self, Errors},
        internal, rollout,
    },
    condition, policies,
};
use crate::{
    field::{Error, Path},
    walk,
};

/// Validates a write through `/status`; rules that tie fields together hold only where one of them changed.
pub fn validate(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let counts = ["active", "succeeded", "failed", "ready", "terminating"];
    rollout::status_counts(&mut errors, new, &counts);
    uncounted_pods(&mut errors, new);
    let write = Write { new, old };
    completion(&mut errors, &write);
    finished(&mut errors, &write);
    indexes(&mut errors, &write);
    pods(&mut errors, &write);
    criteria(&mut errors, &write);
    transitions(&mut errors, &write);
    errors
}

struct Write<'a> {
    new: &'a Value,
    old: &'a Value,
}

impl Write<'_> {
    fn changed(&self, field: &str) -> bool {
        !walk::same(&self.new["status"][field], &self.old["status"][field])
    }

    fn condition_changed(&self, kind: &str) -> bool {
        condition(self.new, kind) != condition(self.old, kind)
    }

    fn finish_changed(&self) -> bool {
        is_finished(self.new) != is_finished(self.old)
    }

    fn count(&self, field: &str) -> i64 {
        walk::count(&self.new["status"], field)
    }

    fn text(&self, field: &str) -> &str {
        walk::text(&self.new["status"], field)
    }

    fn is_indexed(&self) -> bool {
        walk::text(self.new, "spec.completionMode") == "Indexed"
    }
}

fn is_finished(job: &Value) -> bool {
    condition(job, "Complete") || condition(job, "Failed")
}

fn at(field: &str) -> Path {
    Path::new("status").child(field)
}

fn unshown(errors: &mut Errors, detail: &str) {
    checks::invalid_unshown(errors, &at("conditions"), detail);
}

fn uncounted_pods(errors: &mut Errors, job: &Value) {
    let mut seen: Vec<&str> = Vec::new();
    for list in ["succeeded", "failed"] {
        let uids = walk::list(&job["status"]["uncountedTerminatedPods"], list);
        for (index, uid) in uids.iter().enumerate() {
            let path = at("uncountedTerminatedPods").child(list).index(index);
            let uid = uid.as_str().unwrap_or_default();
            if uid.is_empty() {
                errors.push(Error::invalid(&path, uid, "must not be empty"));
            } else if seen.contains(&uid) {
                errors.push(Error::duplicate(&path, uid));
            }
            seen.push(uid);
        }
    }
}

fn completion(errors: &mut Errors, write: &Write) {
    let complete = condition(write.new, "Complete");
    let complete_changed = write.condition_changed("Complete");
    if complete
        && condition(write.new, "Failed")
        && (complete_changed || write.condition_changed("Failed"))
    {
        unshown(
            errors,
            "cannot set Complete=True and Failed=true conditions",
        );
    }
    if complete
        && condition(write.new, "FailureTarget")
        && (complete_changed || write.condition_changed("FailureTarget"))
    {
        unshown(
            errors,
            "cannot set Complete=True and FailureTarget=true conditions",
        );
    }
    let (start, end) = (write.text("startTime"), write.text("completionTime"));
    if complete_changed || write.changed("completionTime") {
        if !end.is_empty() && !complete {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.push(Error::invalid(&at("completionTime"), end, detail));
        }
        if end.is_empty() && complete {
            let detail = "completionTime is required for Complete jobs";
            errors.push(Error::required(&at("completionTime"), detail));
        }
    }
    let times_changed = write.changed("startTime") || write.changed("completionTime");
    if times_changed && !start.is_empty() && !end.is_empty() && end < start {
        let detail = "must be equal to or after `startTime`";
        errors.push(Error::invalid(&at("completionTime"), end, detail));
    }
    let failed = condition(write.new, "Failed");
    if failed
        && !condition(write.new, "FailureTarget")
        && (write.condition_changed("Failed") || write.changed("failedIndexes"))
    {
        unshown(
            errors,
            "cannot set Failed=True condition without the FailureTarget=true condition",
        );
    }
    let criteria_changed = write.condition_changed("SuccessCriteriaMet");
    if complete
        && !condition(write.new, "SuccessCriteriaMet")
        && (complete_changed || criteria_changed)
    {
        unshown(
            errors,
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        );
    }
}

fn finished(errors: &mut Errors, write: &Write) {
    if !is_finished(write.new) {
        return;
    }
    let finish_changed = write.finish_changed();
    let active = write.count("active");
    if active > 0 && (finish_changed || write.changed("active")) {
        let detail = "active>0 is invalid for finished job";
        errors.push(Error::invalid(&at("active"), active, detail));
    }
    let idle = walk::is_true(write.new, "spec.suspend")
        && walk::integer(write.new, "spec.completions") == Some(0);
    if write.text("startTime").is_empty() && (finish_changed || write.changed("startTime")) && !idle
    {
        let detail = "startTime is required for finished job";
        errors.push(Error::required(&at("startTime"), detail));
    }
    let uncounted = walk::at(write.new, "status.uncountedTerminatedPods");
    let any = ["succeeded", "failed"]
        .iter()
        .any(|list| !walk::list(uncounted, list).is_empty());
    if any && (finish_changed || write.changed("uncountedTerminatedPods")) {
        let shown = internal::show("UncountedTerminatedPods", uncounted);
        let path = at("uncountedTerminatedPods");
        checks::invalid_shown(errors, &path, &shown, "must be empty for finished job");
    }
}

fn indexes(errors: &mut Errors, write: &Write) {
    let completions = walk::integer(write.new, "spec.completions");
    let completed = write.text("completedIndexes");
    let failed = walk::at(write.new, "status.failedIndexes").as_str();
    let has_limit = walk::has(write.new, "spec.backoffLimitPerIndex");
    if let Some(completions) = completions {
        if write.changed("completedIndexes")
            && let Err(problem) = policies::count_indexes(completed, completions)
        {
            let detail = format!("error parsing completedIndexes: {problem}");
            errors.push(Error::invalid(&at("completedIndexes"), completed, &detail));
        }
        if let Some(failed) = failed.filter(|_| has_limit && write.changed("failedIndexes"))
            && let Err(problem) = policies::count_indexes(failed, completions)
        {
            let detail = format!("error parsing failedIndexes: {problem}");
            errors.push(Error::invalid(&at("failedIndexes"), failed, &detail));
        }
    }
    if write.changed("completedIndexes") && !completed.is_empty() && !write.is_indexed() {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(Error::invalid(&at("completedIndexes"), completed, detail));
    }
    if let Some(failed) = failed.filter(|_| !has_limit && write.changed("failedIndexes")) {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(Error::invalid(&at("failedIndexes"), failed, detail));
    }
}

fn pods(errors: &mut Errors, write: &Write) {
    let terminating = write.count("terminating");
    let finish_changed = write.finish_changed();
    if terminating > 0 && is_finished(write.new) && (finish_changed || write.changed("terminating"))
    {
        let detail = "terminating>0 is invalid for finished job";
        errors.push(Error::invalid(&at("terminating"), terminating, detail));
    }
    let ready = write.count("ready");
    if ready > write.count("active") && (write.changed("ready") || write.changed("active")) {
        let detail = "cannot set more ready pods than active";
        errors.push(Error::invalid(&at("ready"), ready, detail));
    }
}

fn criteria(errors: &mut Errors, write: &Write) {
    let met = condition(write.new, "SuccessCriteriaMet");
    for other in ["Failed", "FailureTarget"] {
        if met && condition(write.new, other) {
            let detail = match other {
                "Failed" => "cannot set SuccessCriteriaMet=True and Failed=true conditions",
                _ => "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
            };
            unshown(errors, detail);
        }
    }
    if walk::has(write.new, "spec.successPolicy") && !met && condition(write.new, "Complete") {
        unshown(
            errors,
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        );
    }
}

/// What was once true of a job stays so.
fn transitions(errors: &mut Errors, write: &Write) {
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if condition(write.old, kind) && !condition(write.new, kind) {
            unshown(
                errors,
                &format!("cannot disable the terminal {kind}=True condition"),
            );
        }
    }
    let resizable = write.is_indexed()
        && walk::at(write.new, "spec.completions") == walk::at(write.new, "spec.parallelism");
    for field in ["failed", "succeeded"] {
        let (now, before) = (write.count(field), walk::count(&write.old["status"], field));
        if now < before && (field == "failed" || !resizable) {
            let detail = format!("cannot decrease the {field} counter");
            errors.push(Error::invalid(&at(field), now, &detail));
        }
    }
    let before = |field: &str| walk::text(&write.old["status"], field);
    let end = write.text("completionTime");
    if !end.is_empty() && !before("completionTime").is_empty() && end != before("completionTime") {
        errors.push(Error::invalid(
            &at("completionTime"),
            end,
            "field is immutable",
        ));
    }
    let suspended = walk::is_true(write.new, "spec.suspend");
    let resumes = condition(write.old, "Suspended") && !condition(write.new, "Suspended");
    let start = walk::at(write.new, "status.startTime");
    if !before("startTime").is_empty() && write.changed("startTime") && !suspended && !resumes {
        let detail = "field is immutable for unsuspended job once set";
        errors.push(Error::invalid(&at("startTime"), start.clone(), detail));
    }
    let met = "SuccessCriteriaMet";
    if condition(write.old, met) && !condition(write.new, met) {
        unshown(
            errors,
            "cannot disable the SuccessCriteriaMet=True condition",
        );
    }
    if condition(write.old, "Complete") && !condition(write.old, met) && condition(write.new, met) {
        unshown(
            errors,
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
        );
    }
}
