//! Namespace: the user's grouping of objects; its deletion is finished by a controller through `finalize`.

mod policy;

use serde_json::Value;

use crate::{
    field::{Error, Path},
    kind::{Column, Kind, MetadataCheck, Scope, Strategy, Subresource},
    meta::{self, complaints},
    names, table,
    value::{default_to, fields_mut, items, put, restore, str_of, texts},
};

/// The finalizer that holds a namespace until its content is gone.
pub const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub static NAMESPACE: Kind = Kind {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    scope: Scope::Cluster,
    verbs: &[
        "create", "delete", "get", "list", "patch", "update", "watch",
    ],
    subresources: &[
        Subresource {
            name: "finalize",
            body: None,
            verbs: &["update"],
        },
        Subresource::STATUS,
    ],
    strategy: Strategy {
        validate_name: names::dns1123_label,
        default,
        prepare_create,
        validate_create: |namespace| validate(namespace, None),
        prepare_update,
        validate_update: |new, old| validate(new, Some(old)),
        metadata_checks: &[MetadataCheck::Create, MetadataCheck::Update],
        prepare_status: |new, old| restore(new, old, "spec"),
        validate_status: |new, _| validate_phase(new).into_iter().collect(),
        returns_deleted_object: true,
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string("Status", "Active, or Terminating once deleted."),
        Column::AGE,
    ],
    cells,
    selectable: &[("status.phase", |object| {
        str_of(&object["status"]["phase"]).to_owned()
    })],
    ..Kind::BASE
};

fn default(namespace: &mut Value) {
    default_to(fields_mut(namespace, "status"), "phase", "Active");
    label_with_name(namespace);
}

/// Every namespace carries its own name as a label, for selectors.
fn label_with_name(namespace: &mut Value) {
    let name = meta::name(namespace).to_owned();
    if !name.is_empty() {
        let metadata = &mut namespace["metadata"];
        fields_mut(metadata, "labels").insert(NAME_LABEL.into(), name.into());
    }
}

fn prepare_create(namespace: &mut Value) {
    label_with_name(namespace);
    let status = fields_mut(namespace, "status");
    status.clear();
    status.insert("phase".into(), "Active".into());
    let mut finalizers = items(&namespace["spec"]["finalizers"]).to_vec();
    if !finalizers.contains(&FINALIZER.into()) {
        finalizers.push(FINALIZER.into());
    }
    let spec = fields_mut(namespace, "spec");
    spec.insert("finalizers".into(), finalizers.into());
}

fn prepare_update(new: &mut Value, old: &Value) {
    label_with_name(new);
    let finalizers = old["spec"]["finalizers"].clone();
    put(fields_mut(new, "spec"), "finalizers", finalizers);
    restore(new, old, "status");
}

/// Readies a write through `/finalize`, which alone may change `spec.finalizers`.
pub fn prepare_finalize(new: &mut Value, old: &Value) {
    meta::keep_server_fields(new, old);
    label_with_name(new);
    restore(new, old, "status");
}

/// Everything that is wrong with a write through `/finalize`.
pub fn validate_finalize(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = NAMESPACE.validate_metadata_update(new, old);
    errors.extend(meta::validate_update(new, old));
    for (index, finalizer) in texts(&new["spec"]["finalizers"]).into_iter().enumerate() {
        errors.extend(validate_finalizer(
            finalizer,
            &finalizers_path().index(index),
        ));
    }
    errors
}

/// Labels of Pod Security are looked at only where nothing else is wrong, as Kubernetes' admission does.
fn validate(namespace: &Value, old: Option<&Value>) -> Vec<Error> {
    let errors = validate_finalizers(namespace);
    if !errors.is_empty() || !NAMESPACE.validate_metadata(namespace).is_empty() {
        return errors;
    }
    policy::validate(namespace, old)
}

fn validate_finalizers(namespace: &Value) -> Vec<Error> {
    texts(&namespace["spec"]["finalizers"])
        .into_iter()
        .flat_map(|finalizer| validate_finalizer(finalizer, &finalizers_path()))
        .collect()
}

fn validate_finalizer(finalizer: &str, path: &Path) -> Vec<Error> {
    let mut errors = complaints(path, finalizer, names::qualified_name(finalizer));
    errors.extend(meta::validate_finalizer_prefix(finalizer, path));
    errors
}

fn validate_phase(namespace: &Value) -> Option<Error> {
    // The capital P is Kubernetes'.
    let path = Path::new("status").child("Phase");
    let phase = str_of(&namespace["status"]["phase"]);
    let (expected, detail) = match meta::deletion_timestamp(namespace) {
        None => (
            "Active",
            "may only be 'Active' if `deletionTimestamp` is empty",
        ),
        Some(_) => (
            "Terminating",
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        ),
    };
    (phase != expected).then(|| Error::invalid(&path, phase, detail))
}

fn finalizers_path() -> Path {
    Path::new("spec").child("finalizers")
}

fn cells(object: &Value, now_seconds: i64) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        str_of(&object["status"]["phase"]).into(),
        table::age(object, now_seconds),
    ]
}
