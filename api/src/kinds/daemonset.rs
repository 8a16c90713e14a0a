//! DaemonSet: one pod on every node that fits.

use serde_json::{Value, json};

use super::{
    checks::{self, Errors},
    internal, rollout, template,
};
use crate::{
    field::{Error, Path},
    kind::{Column, Generation, Kind, Strategy, Subresource},
    meta, selector, table,
    walk::{self, fill, fill_zero},
};

pub static DAEMON_SET: Kind = Kind {
    group: "apps",
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    categories: &["all"],
    subresources: &[Subresource::STATUS],
    strategy: Strategy {
        default,
        prepare_create,
        validate_create,
        prepare_update,
        validate_update,
        prepare_status,
        validate_status,
        warnings: rollout::template_warnings,
        generation: Generation::Spec,
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::integer(
            "Desired",
            "status.desiredNumberScheduled: nodes that should run a pod.",
        ),
        Column::integer(
            "Current",
            "status.currentNumberScheduled: nodes that have one and should.",
        ),
        Column::integer("Ready", "status.numberReady: nodes whose pod is ready."),
        Column::integer(
            "Up-to-date",
            "status.updatedNumberScheduled: nodes with the present template.",
        ),
        Column::integer(
            "Available",
            "status.numberAvailable: nodes whose pod is ready for long enough.",
        ),
        Column::string("Node Selector", "Labels a node needs to get a pod."),
        Column::AGE,
        rollout::CONTAINERS,
        rollout::IMAGES,
        rollout::SELECTOR,
    ],
    cells,
    ..Kind::BASE
};

/// Counts the versions of the template, from the days before revisions.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const COUNTS_ALWAYS_SHOWN: [&str; 4] = [
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
];

fn default(set: &mut Value) {
    fill(walk::object_mut(set, "spec"), "revisionHistoryLimit", 10);
    let strategy = walk::object_mut(set, "spec.updateStrategy");
    fill_zero(strategy, "type", "RollingUpdate");
    if strategy.get("type") == Some(&json!("RollingUpdate")) {
        let update = walk::object_mut(set, "spec.updateStrategy.rollingUpdate");
        fill(update, "maxUnavailable", 1);
        fill(update, "maxSurge", 0);
    }
    walk::object_mut(set, "spec.template");
    template::default(&mut set["spec"]["template"]);
    fill_status(set);
}

fn fill_status(set: &mut Value) {
    let status = walk::object_mut(set, "status");
    for field in COUNTS_ALWAYS_SHOWN {
        fill(status, field, 0);
    }
}

fn prepare_create(set: &mut Value) {
    rollout::reset_status(set, json!({}));
    fill_status(set);
    let generation = template_generation(set).max(1);
    set_template_generation(set, generation);
}

fn template_generation(set: &Value) -> i64 {
    meta::annotation(set, TEMPLATE_GENERATION)
        .parse()
        .unwrap_or_default()
}

fn set_template_generation(set: &mut Value, generation: i64) {
    let annotations = walk::object_mut(set, "metadata.annotations");
    annotations.insert(TEMPLATE_GENERATION.into(), json!(generation.to_string()));
}

fn prepare_update(new: &mut Value, old: &Value) {
    rollout::keep_status(new, old);
    let changed = walk::at(new, "spec.template") != walk::at(old, "spec.template");
    set_template_generation(new, template_generation(old) + i64::from(changed));
}

fn validate_create(set: &Value) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), walk::at(set, "spec"));
    let selector = walk::at(spec, "selector");
    let path_selector = path.child("selector");
    let path_template = path.child("template");
    let template = walk::at(spec, "template");
    errors.extend(selector::validate_label_selector(selector, &path_selector));
    if let Ok(selector) = selector::from_label_selector(selector) {
        template::matches(&mut errors, &path_template, template, &selector);
    }
    rollout::not_empty(&mut errors, &path_selector, selector, "daemonset");
    template::validate(&mut errors, &path_template, template);
    template::always_restarts(&mut errors, &path_template, template, "DaemonSet");
    checks::counts(&mut errors, &path, spec, &["minReadySeconds"]);
    strategy(
        &mut errors,
        &path.child("updateStrategy"),
        walk::at(spec, "updateStrategy"),
    );
    checks::counts(&mut errors, &path, spec, &["revisionHistoryLimit"]);
    errors
}

fn strategy(errors: &mut Errors, path: &Path, strategy: &Value) {
    let update = walk::at(strategy, "rollingUpdate");
    match walk::text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => rolling_update(errors, &path.child("rollingUpdate"), update),
        _ => {
            let shown = internal::show("DaemonSetUpdateStrategy", strategy);
            checks::not_supported_shown(errors, path, &shown, &["RollingUpdate", "OnDelete"]);
        }
    }
}

fn rolling_update(errors: &mut Errors, path: &Path, update: &Value) {
    let fields = ["maxUnavailable", "maxSurge"];
    for field in fields {
        rollout::int_or_percent(errors, &path.child(field), walk::at(update, field));
    }
    for field in fields {
        rollout::at_most_all(errors, &path.child(field), walk::at(update, field));
    }
    let [unavailable, surge] = fields.map(|field| rollout::amount(walk::at(update, field)) != 0);
    if unavailable && surge {
        let detail = "may not be set when maxUnavailable is non-zero";
        let value = walk::at(update, "maxSurge").clone();
        errors.push(Error::invalid(&path.child("maxSurge"), value, detail));
    } else if !unavailable && !surge {
        let detail = "cannot be 0 when maxSurge is 0";
        errors.push(Error::required(&path.child("maxUnavailable"), detail));
    }
}

fn validate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    rollout::selector_is_immutable(&mut errors, new, old);
    errors.extend(validate_create(new));
    errors
}

fn prepare_status(new: &mut Value, old: &Value) {
    rollout::keep_spec(new, old);
    fill_status(new);
    set_template_generation(new, template_generation(old));
}

fn validate_status(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    rollout::status_counts(
        &mut errors,
        new,
        &[
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ],
    );
    rollout::collisions_only_grow(&mut errors, new, old);
    errors
}

fn cells(set: &Value, now_seconds: i64) -> Vec<Value> {
    let mut middle: Vec<Value> = [
        "status.desiredNumberScheduled",
        "status.currentNumberScheduled",
        "status.numberReady",
        "status.updatedNumberScheduled",
        "status.numberAvailable",
    ]
    .map(|field| json!(walk::count(set, field)))
    .into();
    middle.push(json!(table::show_labels(walk::at(
        set,
        "spec.template.spec.nodeSelector"
    ))));
    let mut cells = rollout::row(set, &middle, now_seconds);
    cells.extend(rollout::wide_cells(set));
    cells
}
