//! What the server itself writes into metadata: times, uids, generated names.

use knarr_api::meta;
use serde_json::Value;

use crate::clock;

/// Forgets what only the server says of an object, so that no manager owns it.
pub(super) fn wipe(object: &mut Value) {
    for field in [
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "uid",
    ] {
        meta::set(object, field, Value::Null);
    }
}

/// Gives a new object its identity.
pub(super) fn stamp(object: &mut Value) {
    wipe(object);
    meta::set(object, "uid", uuid::Uuid::new_v4().to_string());
    meta::set(object, "creationTimestamp", clock::now());
}

/// A name made from `generateName`.
pub(super) fn generated_name(base: &str) -> String {
    meta::generated_name(base, rand::random())
}
