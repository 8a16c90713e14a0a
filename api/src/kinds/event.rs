//! Event: what happened to an object. Kept as `v1`, in memory, and shown as `events.k8s.io/v1` too.

mod convert;
mod validation;

use serde_json::Value;

use crate::{
    kind::{Column, Durability, FinalizerNames, Kind, Selectable, Strategy, View},
    meta, names,
    table::age,
    value::str_of,
};

pub static EVENT: Kind = Kind {
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    durability: Durability::Expiring { seconds: 3600 },
    strategy: Strategy {
        validate_name: names::path_segment,
        validate_create: validation::validate_core,
        validate_update: |new, _| validation::validate_core(new),
        metadata_checks: &[],
        finalizer_names: FinalizerNames::Any,
        create_on_update: true,
        ..Strategy::BASE
    },
    columns: COLUMNS,
    cells,
    selectable: CORE_FIELDS,
    ..Kind::BASE
};

pub static EVENTS_V1: Kind = Kind {
    group: "events.k8s.io",
    strategy: Strategy {
        validate_create: |event| validation::validate_new(&core(event)),
        validate_update: |new, old| validation::validate_change(&core(new), &core(old)),
        finalizer_names: FinalizerNames::Any,
        create_on_update: true,
        ..Strategy::BASE
    },
    columns: COLUMNS,
    cells: |object, now_seconds| cells(&core(object), now_seconds),
    selectable: EVENTS_V1_FIELDS,
    view: Some(View {
        of: &EVENT,
        to_stored: convert::to_core,
        from_stored: convert::from_core,
    }),
    ..EVENT
};

const COLUMNS: &[Column] = &[
    Column::string("Last Seen", "Time since it last happened."),
    Column::string("Type", "Normal or Warning."),
    Column::string("Reason", "One word for what happened."),
    Column::string("Object", "The object it happened to."),
    Column::string("Subobject", "The part of that object.").wide(),
    Column::string("Source", "Who reported it.").wide(),
    Column::string("Message", "What happened, for people."),
    Column::string("First Seen", "Time since it first happened.").wide(),
    Column::string("Count", "How often it happened.").wide(),
    Column::NAME.wide(),
];

/// The selectable fields of the object that an event is about.
macro_rules! reference_fields {
    ($reference:literal, [$($field:literal),*], $($row:expr),* $(,)?) => {
        &[
            $((concat!($reference, ".", $field), |e| str_of(&e[$reference][$field]).to_owned()),)*
            $($row,)*
        ]
    };
    ($reference:literal, $($row:expr),* $(,)?) => {
        reference_fields!(
            $reference,
            ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"],
            $($row,)*
        )
    };
}

const CORE_FIELDS: &[Selectable] = reference_fields!(
    "involvedObject",
    REASON,
    ("reportingComponent", |e| str_of(&e["reportingComponent"])
        .to_owned()),
    ("source", |e| first_of(
        &e["source"]["component"],
        &e["reportingComponent"]
    )),
    TYPE,
);

const EVENTS_V1_FIELDS: &[Selectable] = reference_fields!(
    "regarding",
    REASON,
    ("reportingController", |e| str_of(&e["reportingController"])
        .to_owned()),
    TYPE,
);

const REASON: Selectable = ("reason", |e| str_of(&e["reason"]).to_owned());
const TYPE: Selectable = ("type", |e| str_of(&e["type"]).to_owned());

fn core(event: &Value) -> Value {
    let mut core = event.clone();
    convert::to_core(&mut core);
    core
}

fn first_of(first: &Value, second: &Value) -> String {
    match str_of(first) {
        "" => str_of(second).to_owned(),
        text => text.to_owned(),
    }
}

fn cells(event: &Value, now_seconds: i64) -> Vec<Value> {
    let since = |time: &Value| age::since(str_of(time), now_seconds);
    let first_seen = match str_of(&event["firstTimestamp"]) {
        "" => since(&event["eventTime"]),
        _ => since(&event["firstTimestamp"]),
    };
    let series = &event["series"];
    let last_seen = match (series.is_null(), str_of(&event["lastTimestamp"])) {
        (false, _) => since(&series["lastObservedTime"]),
        (true, "") => first_seen.clone(),
        (true, _) => since(&event["lastTimestamp"]),
    };
    let count = if series.is_null() {
        event["count"].as_i64().filter(|c| *c != 0).unwrap_or(1)
    } else {
        series["count"].as_i64().unwrap_or(0)
    };
    vec![
        last_seen.into(),
        str_of(&event["type"]).into(),
        str_of(&event["reason"]).into(),
        target(&event["involvedObject"]).into(),
        str_of(&event["involvedObject"]["fieldPath"]).into(),
        source(event).into(),
        str_of(&event["message"]).trim().into(),
        first_seen.into(),
        count.into(),
        meta::name(event).into(),
    ]
}

fn target(reference: &Value) -> String {
    let kind = str_of(&reference["kind"]).to_lowercase();
    match str_of(&reference["name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Value) -> String {
    let component = first_of(&event["source"]["component"], &event["reportingComponent"]);
    match first_of(&event["source"]["host"], &event["reportingInstance"]).as_str() {
        "" => component,
        instance => format!("{component}, {instance}"),
    }
}
