//! Renames the fields that the two versions of Event call differently. Changes no values.

use serde_json::{Value, json};

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

pub(super) fn to_core(event: &mut Value) {
    for (core, other) in RENAMED {
        rename(event, other, core);
    }
    event["apiVersion"] = json!("v1");
}

pub(super) fn from_core(event: &mut Value) {
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
    event["apiVersion"] = json!("events.k8s.io/v1");
}

fn rename(event: &mut Value, from: &str, to: &str) {
    let Some(fields) = event.as_object_mut() else {
        return;
    };
    if let Some(value) = fields.remove(from) {
        fields.insert(to.to_owned(), value);
    }
}
