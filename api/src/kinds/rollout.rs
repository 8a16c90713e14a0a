//! What the workloads of `apps/v1` share: selectors, rolling updates and counts of replicas.

#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use super::{
    checks::{self, Errors},
    internal,
    pod::warnings,
    scale, template,
};
use crate::{
    field::{Error, Path},
    kind::{Column, Subresource},
    names, selector, table, walk,
};

pub const SCALE: Subresource = Subresource {
    name: "scale",
    body: Some(("autoscaling", "v1", "Scale")),
    verbs: Subresource::PART_VERBS,
};

pub const CONTAINERS: Column =
    Column::string("Containers", "Names of the template's containers.").wide();
pub const IMAGES: Column = Column::string("Images", "Images of the template's containers.").wide();
pub const SELECTOR: Column = Column::string(
    "Selector",
    "spec.selector: labels of the pods that belong to it.",
)
.wide();

/// Containers, images and selector, as wide tables end.
pub fn wide_cells(object: &Value) -> [Value; 3] {
    let [containers, images] = template::cells(walk::at(object, "spec.template"));
    let selector = scale::selector_cell(walk::at(object, "spec.selector"));
    [containers, images, selector]
}

/// `READY` of workloads that count to a number of replicas.
pub fn ready_cell(object: &Value) -> Value {
    let ready = walk::count(object, "status.readyReplicas");
    json!(format!("{ready}/{}", walk::count(object, "spec.replicas")))
}

/// Starts a row: name, then what is given, then age.
pub fn row(object: &Value, middle: &[Value], now_seconds: i64) -> Vec<Value> {
    let mut cells = vec![json!(walk::text(object, "metadata.name"))];
    cells.extend_from_slice(middle);
    cells.push(table::age(object, now_seconds));
    cells
}

/// Clears what the client said of status and gives it the counts that are always written.
pub fn reset_status(object: &mut Value, status: Value) {
    walk::object_mut(object, "").insert("status".into(), status);
}

/// Status belongs to `/status`.
pub fn keep_status(new: &mut Value, old: &Value) {
    walk::carry(new, old, "status");
}

/// Everything but status belongs to the object itself.
pub fn keep_spec(new: &mut Value, old: &Value) {
    walk::carry(new, old, "spec");
    walk::object_mut(new, "status");
    for condition in walk::list_mut(new, "status.conditions") {
        let map = walk::object_mut(condition, "");
        map.entry("lastTransitionTime").or_insert(Value::Null);
    }
}

/// Warns once, on creation, of a name that its pods cannot use as it is.
pub fn name_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut all = Vec::new();
    if old.is_none() {
        let use_of_name =
            "this is used in Pod names and hostnames, which can result in surprising behavior";
        warnings::name(&mut all, new, use_of_name);
    }
    all
}

/// Warnings of a workload whose pods are named after it.
pub fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut all = name_warnings(new, old);
    all.extend(template_warnings(new, old));
    all
}

/// Warnings about the pod template, once per change of the spec.
pub fn template_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some_and(|old| old["spec"] == new["spec"]) {
        return Vec::new();
    }
    let path = Path::new("spec").child("template");
    warnings::spec(&path, walk::at(new, "spec.template"))
}

/// A selector that has to be there and has to select something.
pub fn required_selector(errors: &mut Errors, path: &Path, selector: &Value, kind: &str) {
    if selector.is_null() {
        errors.push(Error::required(path, ""));
        return;
    }
    errors.extend(selector::validate_label_selector(selector, path));
    not_empty(errors, path, selector, kind);
}

/// Refuses a selector that would select every pod.
pub fn not_empty(errors: &mut Errors, path: &Path, selector: &Value, kind: &str) {
    let is_empty = walk::entries(selector, "matchLabels").next().is_none()
        && walk::list(selector, "matchExpressions").is_empty();
    if is_empty && !selector.is_null() {
        let detail = format!("empty selector is invalid for {kind}");
        let shown = internal::show("LabelSelector", selector);
        checks::invalid_shown(errors, path, &shown, &detail);
    }
}

/// Selector and template of Deployments and ReplicaSets.
pub fn selector_and_template(errors: &mut Errors, path: &Path, spec: &Value) {
    let selector = walk::at(spec, "selector");
    let path_selector = path.child("selector");
    required_selector(errors, &path_selector, selector, "deployment");
    match selector::from_label_selector(selector) {
        Err(_) => {
            let shown = internal::show("*LabelSelector", selector);
            checks::invalid_shown(errors, &path_selector, &shown, "invalid label selector");
        }
        Ok(selector) => {
            let path = path.child("template");
            let template = walk::at(spec, "template");
            if !selector.is_everything() {
                template::matches(errors, &path, template, &selector);
            }
            template::validate(errors, &path, template);
            template::always_restarts(errors, &path, template, "ReplicaSet");
        }
    }
}

/// An error where a selector was changed.
pub fn selector_is_immutable(errors: &mut Errors, new: &Value, old: &Value) {
    let path = Path::new("spec").child("selector");
    let (new, old) = (
        walk::at(new, "spec.selector"),
        walk::at(old, "spec.selector"),
    );
    checks::immutable_shaped(errors, &path, "*LabelSelector", new, old);
}

/// A count or a share of the replicas.
pub fn int_or_percent(errors: &mut Errors, path: &Path, value: &Value) {
    match value {
        Value::String(text) => {
            checks::complain(errors, path, text.as_str(), names::percent(text));
        }
        other => checks::non_negative(errors, path, other.as_i64().unwrap_or_default()),
    }
}

/// Shares end at 100%.
pub fn at_most_all(errors: &mut Errors, path: &Path, value: &Value) {
    if value
        .as_str()
        .and_then(percent)
        .is_some_and(|percent| percent > 100)
    {
        errors.push(Error::invalid(
            path,
            value.clone(),
            "must not be greater than 100%",
        ));
    }
}

/// The number in `25%` or `3`, zero in anything else.
pub fn amount(value: &Value) -> i64 {
    match value {
        Value::String(text) => percent(text)
            .or_else(|| text.parse().ok())
            .unwrap_or_default(),
        other => other.as_i64().unwrap_or_default(),
    }
}

fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%')?;
    let is_plain = digits.bytes().all(|c| c.is_ascii_digit());
    digits.parse().ok().filter(|_| is_plain)
}

/// Counts of `status` that are not negative.
pub fn status_counts(errors: &mut Errors, object: &Value, fields: &[&str]) {
    let path = Path::new("status");
    checks::counts(errors, &path, walk::at(object, "status"), fields);
}

/// The counts of `status`: none is negative, `parts` are at most all replicas, and available ones are at most the ready ones.
pub fn replica_counts(new: &Value, counts: &[&str], parts: &[&str], shown_ready: &str) -> Errors {
    let mut errors = Errors::new();
    status_counts(&mut errors, new, counts);
    let all = ("replicas", "status.replicas");
    let within = parts.iter().map(|part| (*part, all));
    let available = ("availableReplicas", ("readyReplicas", shown_ready));
    let status = walk::at(new, "status");
    for (field, (other, shown)) in within.chain([available]) {
        let count = walk::count(status, field);
        if count > walk::count(status, other) {
            let path = Path::new("status").child(field);
            errors.push(Error::invalid(
                &path,
                count,
                &format!("cannot be greater than {shown}"),
            ));
        }
    }
    errors
}

/// A count of name collisions only grows.
pub fn collisions_only_grow(errors: &mut Errors, new: &Value, old: &Value) {
    let field = "status.collisionCount";
    let (now, before) = (walk::integer(new, field), walk::integer(old, field));
    if before.is_some() && (now.is_none() || now < before) {
        let path = Path::new("status").child("collisionCount");
        errors.push(Error::invalid(
            &path,
            now.unwrap_or_default(),
            "cannot be decremented",
        ));
    }
}
