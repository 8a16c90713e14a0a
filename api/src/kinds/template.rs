//! Pod templates, shared by every workload: defaults, validation, label matching and the columns that show containers.

use serde_json::{Value, json};

use super::{
    checks::{self, Errors},
    pod,
};
use crate::{
    field::{Error, Path},
    selector, walk,
};

/// Fills in what a client left out of `spec.template` (or of a template anywhere else).
pub fn default(template: &mut Value) {
    walk::object_mut(template, "metadata");
    walk::object_mut(template, "spec");
    if let Some(spec) = template.get_mut("spec") {
        pod::defaults::spec(spec);
    }
}

/// Validates a template's metadata and pod spec.
pub fn validate(errors: &mut Errors, path: &Path, template: &Value) {
    let meta = walk::at(template, "metadata");
    let spec = walk::at(template, "spec");
    checks::labels(errors, &path.child("labels"), walk::at(meta, "labels"));
    checks::annotations(
        errors,
        &path.child("annotations"),
        walk::at(meta, "annotations"),
    );
    pod::validate::annotations(errors, &path.child("annotations"), meta, spec);
    let owner = pod::validate::Owner::Template;
    pod::validate::spec(errors, &path.child("spec"), spec, &owner);
    if !walk::list(spec, "ephemeralContainers").is_empty() {
        let path = path.child("spec").child("ephemeralContainers");
        errors.push(Error::forbidden(
            &path,
            "ephemeral containers not allowed in pod template",
        ));
    }
}

/// A selector has to pick the pods its own template makes.
pub fn matches(errors: &mut Errors, path: &Path, template: &Value, selector: &selector::Labels) {
    let labels = walk::at(template, "metadata.labels");
    if !selector.matches(labels.as_object()) {
        let path = path.child("metadata").child("labels");
        errors.push(Error::invalid(
            &path,
            labels.clone(),
            "`selector` does not match template `labels`",
        ));
    }
}

/// Pods that are replaced when they end have to restart always and may not have a deadline.
pub fn always_restarts(errors: &mut Errors, path: &Path, template: &Value, kind: &str) {
    let spec = path.child("spec");
    let policy = walk::text(template, "spec.restartPolicy");
    if policy != "Always" {
        errors.push(Error::not_supported(
            &spec.child("restartPolicy"),
            policy,
            &["Always"],
        ));
    }
    if walk::has(template, "spec.activeDeadlineSeconds") {
        errors.push(Error::forbidden(
            &spec.child("activeDeadlineSeconds"),
            &format!("activeDeadlineSeconds in {kind} is not Supported"),
        ));
    }
}

/// `c1,c2` and `image1,image2`, as wide tables show a template.
pub fn cells(template: &Value) -> [Value; 2] {
    let join = |field: &str| {
        let values: Vec<&str> = walk::list(template, "spec.containers")
            .iter()
            .map(|container| walk::text(container, field))
            .collect();
        json!(values.join(","))
    };
    [join("name"), join("image")]
}
