//! What the server itself writes into metadata: times, uids, generated names.

use jiff::Timestamp;
use knarr_api::meta;
use serde_json::Value;

/// The current time as Kubernetes writes it: `2026-01-02T03:04:05Z`.
pub(crate) fn now() -> String {
    timestamp(Timestamp::now())
}

pub(crate) fn timestamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Gives a new object its identity.
pub(super) fn stamp(object: &mut Value) {
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
    ] {
        meta::set(object, field, Value::Null);
    }
    meta::set(object, "uid", uuid::Uuid::new_v4().to_string());
    meta::set(object, "creationTimestamp", now());
}

/// A name made from `generateName`.
pub(super) fn generated_name(base: &str) -> String {
    meta::generated_name(base, rand::random())
}
