//! StatefulSet: pods with stable names, made and removed in order.

use serde_json::{Value, json};

use super::{
    checks::{self, Errors},
    internal, pod, rollout, template,
};
use crate::{
    field::{Error, Path},
    kind::{Column, Generation, Kind, Strategy, Subresource},
    names, selector,
    walk::{self, fill, fill_zero},
};

pub static STATEFUL_SET: Kind = Kind {
    group: "apps",
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short_names: &["sts"],
    categories: &["all"],
    subresources: &[rollout::SCALE, Subresource::STATUS],
    strategy: Strategy {
        validate_name: names::dns1123_label,
        default,
        prepare_create: |set| {
            rollout::reset_status(set, json!({"replicas": 0, "availableReplicas": 0}));
        },
        validate_create,
        prepare_update: rollout::keep_status,
        validate_update,
        prepare_status,
        validate_status,
        warnings,
        generation: Generation::Spec,
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string("Ready", "Replicas that are ready, of all that are wanted."),
        Column::AGE,
        rollout::CONTAINERS,
        rollout::IMAGES,
    ],
    cells,
    ..Kind::BASE
};

/// What of the spec may change; messages name the fields in this order.
const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];
const UNCHANGEABLE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

fn default(set: &mut Value) {
    let spec = walk::object_mut(set, "spec");
    fill_zero(spec, "podManagementPolicy", "OrderedReady");
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    // Part of every spec since the field stopped being required; empty means pods without a governing Service.
    fill(spec, "serviceName", "");
    let strategy = walk::object_mut(set, "spec.updateStrategy");
    if walk::text(&json!(strategy), "type").is_empty() {
        fill_zero(strategy, "type", "RollingUpdate");
        fill(strategy, "rollingUpdate", json!({}));
    }
    if let Some(update) = walk::at_mut(set, "spec.updateStrategy.rollingUpdate")
        && update.is_object()
    {
        fill(walk::object_mut(update, ""), "partition", 0);
    }
    let retention = walk::object_mut(set, "spec.persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        fill_zero(retention, field, "Retain");
    }
    for claim in walk::list_mut(set, "spec.volumeClaimTemplates") {
        let map = walk::object_mut(claim, "");
        fill(map, "apiVersion", "v1");
        fill(map, "kind", "PersistentVolumeClaim");
        walk::object_mut(claim, "metadata");
        pod::defaults::volumes::default_claim(claim);
        fill(walk::object_mut(claim, "status"), "phase", "Pending");
    }
    walk::object_mut(set, "spec.template");
    template::default(&mut set["spec"]["template"]);
    fill_status(set);
}

fn fill_status(set: &mut Value) {
    let status = walk::object_mut(set, "status");
    fill(status, "replicas", 0);
    fill(status, "availableReplicas", 0);
}

/// Whether the parts that can never change are judged: objects stored before a rule keep what they have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Write {
    Create,
    Update,
}

fn validate_create(set: &Value) -> Errors {
    validate(set, Write::Create)
}

fn validate(set: &Value, write: Write) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), walk::at(set, "spec"));
    let management = walk::text(spec, "podManagementPolicy");
    if !["OrderedReady", "Parallel"].contains(&management) {
        let path = path.child("podManagementPolicy");
        let detail = "must be 'OrderedReady' or 'Parallel'";
        errors.push(Error::invalid(&path, management, detail));
    }
    strategy(&mut errors, &path.child("updateStrategy"), spec);
    let path_retention = path.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let policy = walk::at(&spec["persistentVolumeClaimRetentionPolicy"], field);
        let path = path_retention.child(field);
        checks::one_of_if_set(&mut errors, &path, policy, &["Retain", "Delete"]);
    }
    if write == Write::Create {
        let path = path.child("volumeClaimTemplates");
        for (index, claim) in walk::list(spec, "volumeClaimTemplates").iter().enumerate() {
            let path = path.index(index).child("spec");
            pod::claims::spec(&mut errors, &path, walk::at(claim, "spec"));
        }
    }
    checks::counts(&mut errors, &path, spec, &["replicas", "minReadySeconds"]);
    checks::counts(&mut errors, &path, spec, &["ordinals.start"]);
    let service = walk::text(spec, "serviceName");
    if write == Write::Create && !service.is_empty() {
        checks::dns_label(&mut errors, &path.child("serviceName"), service);
    }
    selector_and_template(&mut errors, &path, spec);
    template::always_restarts(
        &mut errors,
        &path.child("template"),
        walk::at(spec, "template"),
        "StatefulSet",
    );
    errors
}

fn strategy(errors: &mut Errors, path: &Path, spec: &Value) {
    let strategy = walk::at(spec, "updateStrategy");
    let update = walk::at(strategy, "rollingUpdate");
    let path_update = path.child("rollingUpdate");
    match walk::text(strategy, "type") {
        "OnDelete" if !update.is_null() => {
            let shown = internal::show("RollingUpdateStatefulSetStrategy", update);
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            checks::invalid_shown(errors, &path_update, &shown, detail);
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            checks::counts(errors, &path_update, update, &["partition"]);
            max_unavailable(errors, &path_update.child("maxUnavailable"), update);
        }
        _ => {
            let shown = internal::show("StatefulSetUpdateStrategy", strategy);
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            checks::invalid_shown(errors, path, &shown, detail);
        }
    }
}

fn max_unavailable(errors: &mut Errors, path: &Path, update: &Value) {
    let value = walk::at(update, "maxUnavailable");
    if value.is_null() {
        return;
    }
    rollout::int_or_percent(errors, path, value);
    if rollout::amount(value) == 0 {
        errors.push(Error::invalid(path, value.clone(), "cannot be 0"));
    }
    rollout::at_most_all(errors, path, value);
}

fn selector_and_template(errors: &mut Errors, path: &Path, spec: &Value) {
    let selector = walk::at(spec, "selector");
    let path_selector = path.child("selector");
    rollout::required_selector(errors, &path_selector, selector, "statefulset");
    match selector::from_label_selector(selector) {
        Err(_) => {
            let shown = internal::show("*LabelSelector", selector);
            errors.push(Error::invalid_shown(&path_selector, &shown, ""));
        }
        Ok(selector) => {
            let path = path.child("template");
            let template = walk::at(spec, "template");
            if !selector.is_everything() {
                template::matches(errors, &path, template, &selector);
            }
            template::validate(errors, &path, &as_the_controller_makes_it(spec));
            let meta = walk::at(template, "metadata");
            checks::labels(errors, &path.child("labels"), walk::at(meta, "labels"));
            let annotations = walk::at(meta, "annotations");
            checks::annotations(errors, &path.child("annotations"), annotations);
        }
    }
}

/// Host names come from the controller, and every claim template becomes a volume.
fn as_the_controller_makes_it(spec: &Value) -> Value {
    let mut template = walk::at(spec, "template").clone();
    let pod_spec = walk::object_mut(&mut template, "spec");
    pod_spec.remove("hostname");
    pod_spec.remove("subdomain");
    let claims = walk::list(spec, "volumeClaimTemplates");
    if claims.is_empty() {
        return template;
    }
    let names: Vec<&str> = claims
        .iter()
        .map(|claim| walk::text(claim, "metadata.name"))
        .collect();
    let mut volumes: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
        .collect();
    let own = walk::list(spec, "template.spec.volumes").iter();
    volumes.extend(
        own.filter(|volume| !names.contains(&walk::text(volume, "name")))
            .cloned(),
    );
    pod_spec.insert("volumes".into(), Value::from(volumes));
    template
}

fn validate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = validate(new, Write::Update);
    let mut rest = walk::at(new, "spec").clone();
    for field in CHANGEABLE {
        walk::carry(&mut rest, walk::at(old, "spec"), field);
    }
    if !walk::same(&rest, walk::at(old, "spec")) {
        errors.push(Error::forbidden(&Path::new("spec"), UNCHANGEABLE));
    }
    errors
}

fn prepare_status(new: &mut Value, old: &Value) {
    rollout::keep_spec(new, old);
    fill_status(new);
}

fn validate_status(new: &Value, old: &Value) -> Errors {
    let mut errors = rollout::replica_counts(
        new,
        &[
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ],
        &[
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
        ],
        "status.readyReplicas",
    );
    rollout::collisions_only_grow(&mut errors, new, old);
    errors
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = rollout::template_warnings(new, old);
    if walk::count(new, "spec.revisionHistoryLimit") < 0 {
        warnings.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".into());
    }
    warnings
}

fn cells(set: &Value, now_seconds: i64) -> Vec<Value> {
    let mut cells = rollout::row(set, &[rollout::ready_cell(set)], now_seconds);
    cells.extend(template::cells(walk::at(set, "spec.template")));
    cells
}
