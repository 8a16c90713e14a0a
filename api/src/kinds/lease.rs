//! Lease: who holds what until when; node heartbeats, so kept in memory.

use serde_json::Value;

use crate::{
    field::{Error, Path},
    kind::{Column, Durability, FinalizerNames, Kind, Strategy},
    meta::{self, complaints},
    names, table,
    value::str_of,
};

pub static LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    durability: Durability::Memory,
    strategy: Strategy {
        prepare_create: |lease| drop_election(lease, &Value::Null),
        validate_create: validate,
        prepare_update: drop_election,
        validate_update: |new, _| validate(new),
        finalizer_names: FinalizerNames::Any,
        create_on_update: true,
        unconditional_update: false,
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string("Holder", "Identity of the current holder."),
        Column::AGE,
    ],
    cells,
    ..Kind::BASE
};

/// Kubernetes keeps what coordinated elections need only where they are turned on, which is not its default.
fn drop_election(new: &mut Value, old: &Value) {
    for field in ["strategy", "preferredHolder"] {
        if old["spec"][field].is_null()
            && let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut)
        {
            spec.remove(field);
        }
    }
}

fn validate(lease: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let spec = &lease["spec"];
    let mut errors = Vec::new();
    if let Some(seconds) = spec["leaseDurationSeconds"].as_i64().filter(|s| *s <= 0) {
        let path = path.child("leaseDurationSeconds");
        errors.push(Error::invalid(&path, seconds, "must be greater than 0"));
    }
    if let Some(count) = spec["leaseTransitions"].as_i64().filter(|c| *c < 0) {
        let path = path.child("leaseTransitions");
        errors.push(Error::invalid(
            &path,
            count,
            "must be greater than or equal to 0",
        ));
    }
    let known = "OldestEmulationVersion";
    match &spec["strategy"] {
        Value::String(strategy) if strategy.contains('/') => {
            let details = names::qualified_name(strategy);
            errors.extend(complaints(&path.child("strategy"), strategy, details));
        }
        Value::String(strategy) if strategy != known => {
            let path = path.child("strategy");
            errors.push(Error::not_supported(&path, strategy.as_str(), &[known]));
        }
        _ => {}
    }
    if !str_of(&spec["preferredHolder"]).is_empty() && str_of(&spec["strategy"]).is_empty() {
        let detail = "may only be specified if `strategy` is defined";
        errors.push(Error::forbidden(&path.child("preferredHolder"), detail));
    }
    errors
}

fn cells(object: &Value, now_seconds: i64) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        str_of(&object["spec"]["holderIdentity"]).into(),
        table::age(object, now_seconds),
    ]
}
