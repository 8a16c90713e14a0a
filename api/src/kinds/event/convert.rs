//! Renames the fields that the two versions of Event call differently; `v1` alone shows empty reporters.

use serde_json::Value;

use crate::value::of_object;

/// Core name, `events.k8s.io/v1` name.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// The fields, by their core names, that `v1` always shows.
const REPORTERS: [&str; 2] = ["reportingComponent", "reportingInstance"];

pub(super) fn to_core(event: &mut Value) {
    for (core, other) in RENAMED {
        rename(event, other, core);
    }
    let fields = of_object(event);
    for reporter in REPORTERS {
        fields.entry(reporter).or_insert_with(|| "".into());
    }
    fields.insert("apiVersion".into(), "v1".into());
}

pub(super) fn from_core(event: &mut Value) {
    of_object(event).retain(|field, value| value != "" || !REPORTERS.contains(&field.as_str()));
    for (core, other) in RENAMED {
        rename(event, core, other);
    }
    // The core version prints these empty, this one leaves them out.
    if let Some(fields) = event.as_object_mut() {
        for field in ["reportingController", "reportingInstance"] {
            if fields.get(field).and_then(Value::as_str) == Some("") {
                fields.remove(field);
            }
        }
    }
    of_object(event).insert("apiVersion".into(), "events.k8s.io/v1".into());
}

fn rename(event: &mut Value, from: &str, to: &str) {
    let Some(fields) = event.as_object_mut() else {
        return;
    };
    if let Some(value) = fields.remove(from) {
        fields.insert(to.to_owned(), value);
    }
}
