//! Deployment: replicas of a pod template, replaced step by step when the template changes.

use serde_json::{Value, json};

use super::{
    checks::{self, Errors},
    internal, rollout, scale, template,
};
use crate::{
    field::{Error, Path},
    kind::{Column, Generation, Kind, Strategy, Subresource},
    selector,
    walk::{self, fill, fill_zero},
};

pub static DEPLOYMENT: Kind = Kind {
    group: "apps",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    subresources: &[rollout::SCALE, Subresource::STATUS],
    strategy: Strategy {
        default,
        prepare_create: |deployment| rollout::reset_status(deployment, json!({})),
        validate_create,
        prepare_update: rollout::keep_status,
        validate_update,
        prepare_status,
        validate_status,
        status_resets: &[&["spec"], &["metadata", "labels"]],
        warnings: rollout::warnings,
        generation: Generation::SpecAndAnnotations,
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string("Ready", "Replicas that are ready, of all that are wanted."),
        Column::string(
            "Up-to-date",
            "status.updatedReplicas: replicas of the present template.",
        ),
        Column::string(
            "Available",
            "status.availableReplicas: replicas ready for long enough.",
        ),
        Column::AGE,
        rollout::CONTAINERS,
        rollout::IMAGES,
        rollout::SELECTOR,
    ],
    cells,
    ..Kind::BASE
};

fn default(deployment: &mut Value) {
    let spec = walk::object_mut(deployment, "spec");
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
    let strategy = walk::object_mut(deployment, "spec.strategy");
    fill_zero(strategy, "type", "RollingUpdate");
    if strategy.get("type") == Some(&json!("RollingUpdate")) {
        let update = walk::object_mut(deployment, "spec.strategy.rollingUpdate");
        fill(update, "maxUnavailable", "25%");
        fill(update, "maxSurge", "25%");
    }
    walk::object_mut(deployment, "spec.template");
    template::default(&mut deployment["spec"]["template"]);
    walk::object_mut(deployment, "status");
}

fn validate_create(deployment: &Value) -> Errors {
    let mut errors = Errors::new();
    let spec = walk::at(deployment, "spec");
    let path = Path::new("spec");
    checks::counts(&mut errors, &path, spec, &["replicas"]);
    rollout::selector_and_template(&mut errors, &path, spec);
    strategy(
        &mut errors,
        &path.child("strategy"),
        walk::at(spec, "strategy"),
    );
    checks::counts(
        &mut errors,
        &path,
        spec,
        &[
            "minReadySeconds",
            "revisionHistoryLimit",
            "progressDeadlineSeconds",
        ],
    );
    if let Some(deadline) = walk::integer(spec, "progressDeadlineSeconds")
        && deadline <= walk::count(spec, "minReadySeconds")
    {
        let path = path.child("progressDeadlineSeconds");
        errors.push(Error::invalid(
            &path,
            deadline,
            "must be greater than minReadySeconds",
        ));
    }
    errors
}

fn strategy(errors: &mut Errors, path: &Path, strategy: &Value) {
    let path_update = path.child("rollingUpdate");
    let update = walk::at(strategy, "rollingUpdate");
    match walk::text(strategy, "type") {
        "Recreate" if !update.is_null() => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(Error::forbidden(&path_update, detail));
        }
        "Recreate" => {}
        "RollingUpdate" => rolling_update(errors, &path_update, update),
        _ => {
            let shown = internal::show("DeploymentStrategy", strategy);
            checks::not_supported_shown(errors, path, &shown, &["Recreate", "RollingUpdate"]);
        }
    }
}

fn rolling_update(errors: &mut Errors, path: &Path, update: &Value) {
    let (unavailable, surge) = (
        walk::at(update, "maxUnavailable"),
        walk::at(update, "maxSurge"),
    );
    let path_unavailable = path.child("maxUnavailable");
    rollout::int_or_percent(errors, &path_unavailable, unavailable);
    rollout::int_or_percent(errors, &path.child("maxSurge"), surge);
    if rollout::amount(unavailable) == 0 && rollout::amount(surge) == 0 {
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.push(Error::invalid(
            &path_unavailable,
            unavailable.clone(),
            detail,
        ));
    }
    rollout::at_most_all(errors, &path_unavailable, unavailable);
}

fn validate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = validate_create(new);
    rollout::selector_is_immutable(&mut errors, new, old);
    errors
}

fn prepare_status(new: &mut Value, old: &Value) {
    rollout::keep_spec(new, old);
    if let Some(meta) = new.get_mut("metadata") {
        walk::carry(meta, walk::at(old, "metadata"), "labels");
    }
    for condition in walk::list_mut(new, "status.conditions") {
        let map = walk::object_mut(condition, "");
        map.entry("lastUpdateTime").or_insert(Value::Null);
    }
}

fn validate_status(new: &Value, old: &Value) -> Errors {
    let mut errors = rollout::replica_counts(
        new,
        &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ],
        &["updatedReplicas", "readyReplicas", "availableReplicas"],
        "readyReplicas",
    );
    rollout::collisions_only_grow(&mut errors, new, old);
    errors
}

fn cells(deployment: &Value, now_seconds: i64) -> Vec<Value> {
    let middle = [
        rollout::ready_cell(deployment),
        json!(walk::count(deployment, "status.updatedReplicas")),
        json!(walk::count(deployment, "status.availableReplicas")),
    ];
    let mut cells = rollout::row(deployment, &middle, now_seconds);
    let selector = walk::at(deployment, "spec.selector");
    let [containers, images, _] = rollout::wide_cells(deployment);
    let selector = match selector::from_label_selector(selector) {
        Ok(_) => json!(scale::selector_text(selector)),
        Err(_) => json!("<invalid>"),
    };
    cells.extend([containers, images, selector]);
    cells
}
