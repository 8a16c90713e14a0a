//! ReplicaSet: a number of pods of one template.

use serde_json::{Value, json};

use super::{
    checks::{self, Errors},
    rollout, template,
};
use crate::{
    field::Path,
    kind::{Column, Generation, Kind, Strategy, Subresource},
    walk::{self, fill},
};

pub static REPLICA_SET: Kind = Kind {
    group: "apps",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    subresources: &[rollout::SCALE, Subresource::STATUS],
    strategy: Strategy {
        default,
        prepare_create: |set| rollout::reset_status(set, json!({"replicas": 0})),
        validate_create,
        prepare_update: rollout::keep_status,
        validate_update,
        prepare_status,
        validate_status,
        warnings: rollout::warnings,
        generation: Generation::Spec,
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::integer("Desired", "spec.replicas: pods that are wanted."),
        Column::integer("Current", "status.replicas: pods there are."),
        Column::integer("Ready", "status.readyReplicas: pods that are ready."),
        Column::AGE,
        rollout::CONTAINERS,
        rollout::IMAGES,
        rollout::SELECTOR,
    ],
    cells,
    ..Kind::BASE
};

fn default(set: &mut Value) {
    fill(walk::object_mut(set, "spec"), "replicas", 1);
    walk::object_mut(set, "spec.template");
    template::default(&mut set["spec"]["template"]);
    fill(walk::object_mut(set, "status"), "replicas", 0);
}

fn validate_create(set: &Value) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), walk::at(set, "spec"));
    checks::counts(&mut errors, &path, spec, &["replicas", "minReadySeconds"]);
    rollout::selector_and_template(&mut errors, &path, spec);
    errors
}

fn validate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = validate_create(new);
    rollout::selector_is_immutable(&mut errors, new, old);
    errors
}

fn prepare_status(new: &mut Value, old: &Value) {
    rollout::keep_spec(new, old);
    fill(walk::object_mut(new, "status"), "replicas", 0);
}

fn validate_status(new: &Value, _old: &Value) -> Errors {
    rollout::replica_counts(
        new,
        &[
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
            "terminatingReplicas",
        ],
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        "readyReplicas",
    )
}

fn cells(set: &Value, now_seconds: i64) -> Vec<Value> {
    let middle = ["spec.replicas", "status.replicas", "status.readyReplicas"]
        .map(|field| json!(walk::count(set, field)));
    let mut cells = rollout::row(set, &middle, now_seconds);
    cells.extend(rollout::wide_cells(set));
    cells
}
