//! What a DELETE does to an object: the first step towards its end. Pure but for the clock.

use jiff::{SignedDuration, Timestamp};
use knarr_api::{kind::Kind, meta};
use serde_json::{Value, json};

use super::finalizers;
use crate::{clock, request::options::DeleteOptions};

/// What is to be done about the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It goes now.
    Remove,
    /// It is written with its marks, and stays for a while.
    Mark,
    /// It is written with its marks, and goes.
    MarkAndRemove,
    /// Its deletion is under way already; nothing changes.
    Pending,
}

/// How a kind's grace period enters.
enum Grace {
    /// The kind knows none, or the period is over.
    None,
    /// It begins, or is cut short, to this many seconds.
    Set(i64),
    Pending,
}

/// Marks `object` as its deletion demands.
pub(super) fn step(kind: &Kind, object: &mut Value, options: &DeleteOptions) -> Step {
    if kind.has_subresource("finalize") {
        return finalized_by_controller(kind, object, options);
    }
    match grace(kind, object, options) {
        Grace::Pending => Step::Pending,
        Grace::Set(seconds) => {
            finalizers::adjust(kind, object, options);
            set_grace(object, seconds);
            if seconds > 0 || !meta::finalizers(object).is_empty() {
                Step::Mark
            } else {
                Step::MarkAndRemove
            }
        }
        Grace::None => {
            let before = object.clone();
            finalizers::adjust(kind, object, options);
            if meta::finalizers(object).is_empty() {
                return Step::Remove;
            }
            mark_now(object);
            if *object == before {
                Step::Pending
            } else {
                Step::Mark
            }
        }
    }
}

/// A namespace terminates until its controller has emptied it and taken the finalizers off its spec.
fn finalized_by_controller(kind: &Kind, object: &mut Value, options: &DeleteOptions) -> Step {
    if meta::deletion_timestamp(object).is_none() {
        finalizers::adjust(kind, object, options);
        object["metadata"]["deletionTimestamp"] = clock::now().into();
        object["status"]["phase"] = "Terminating".into();
        return Step::Mark;
    }
    let finalizers = object.pointer("/spec/finalizers").and_then(Value::as_array);
    if finalizers.is_some_and(|finalizers| !finalizers.is_empty()) {
        return Step::Pending;
    }
    if meta::finalizers(object).is_empty() {
        Step::Remove
    } else {
        Step::Pending
    }
}

fn grace(kind: &Kind, object: &Value, options: &DeleteOptions) -> Grace {
    let Some(default) = kind.strategy.grace_seconds else {
        return Grace::None;
    };
    if meta::deletion_timestamp(object).is_some() {
        let running = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
        return match (running.unwrap_or(0), options.grace_seconds) {
            (0, _) => Grace::None,
            // A running grace period can only be cut short.
            (running, Some(wanted)) if wanted < running => Grace::Set(wanted),
            _ => Grace::Pending,
        };
    }
    match (default(object), options.grace_seconds) {
        (0, _) => Grace::Set(0),
        (_, Some(wanted)) => Grace::Set(wanted),
        (default, None) => Grace::Set(default.max(0)),
    }
}

/// Sets or shortens the grace period; its start is when the deletion was first asked for.
fn set_grace(object: &mut Value, seconds: i64) {
    let running = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let ends: Option<Timestamp> =
        meta::deletion_timestamp(object).and_then(|text| text.parse().ok());
    let start = match (ends, running) {
        (Some(ends), Some(running)) => ends
            .checked_sub(SignedDuration::from_secs(running))
            .unwrap_or(ends),
        _ => {
            raise_generation(object);
            Timestamp::now()
        }
    };
    let end = start
        .checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX);
    object["metadata"]["deletionTimestamp"] = clock::timestamp(end).into();
    object["metadata"]["deletionGracePeriodSeconds"] = seconds.into();
}

/// Marks an object that only finalizers hold.
fn mark_now(object: &mut Value) {
    if meta::deletion_timestamp(object).is_none() {
        raise_generation(object);
        object["metadata"]["deletionTimestamp"] = clock::now().into();
    }
    object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
}

fn raise_generation(object: &mut Value) {
    let generation = meta::generation(object);
    if generation > 0 {
        object["metadata"]["generation"] = (generation + 1).into();
    }
}

#[cfg(test)]
mod tests {
    use knarr_api::kinds::{configmap::CONFIG_MAP, namespace::NAMESPACE};

    use super::*;
    use crate::request::options::Propagation;

    fn marked(object: Value, options: &DeleteOptions) -> (Step, Value) {
        let mut object = object;
        let step = step(&CONFIG_MAP, &mut object, options);
        (step, object)
    }

    #[test]
    fn an_object_without_finalizers_goes_at_once() {
        let (step, _) = marked(json!({"metadata": {}}), &DeleteOptions::default());
        assert_eq!(step, Step::Remove);
    }

    #[test]
    fn a_finalizer_keeps_the_object_and_is_marked_once() {
        let object = json!({"metadata": {"finalizers": ["a.b/c"], "generation": 3}});
        let (step, object) = marked(object, &DeleteOptions::default());
        assert_eq!(step, Step::Mark);
        assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 0);
        assert_eq!(object["metadata"]["generation"], 4);
        let (step, _) = marked(object, &DeleteOptions::default());
        assert_eq!(step, Step::Pending);
    }

    #[test]
    fn foreground_deletion_waits_for_the_garbage_collector() {
        let options = DeleteOptions {
            propagation: Some(Propagation::Foreground),
            ..DeleteOptions::default()
        };
        let (step, object) = marked(json!({"metadata": {}}), &options);
        assert_eq!(step, Step::Mark);
        assert_eq!(
            object["metadata"]["finalizers"],
            json!(["foregroundDeletion"])
        );
    }

    #[test]
    fn a_namespace_terminates_until_its_spec_has_no_finalizers() {
        let options = DeleteOptions::default();
        let mut object = json!({"metadata": {}, "spec": {"finalizers": ["kubernetes"]}});
        assert_eq!(step(&NAMESPACE, &mut object, &options), Step::Mark);
        assert_eq!(object["status"]["phase"], "Terminating");
        assert_eq!(step(&NAMESPACE, &mut object, &options), Step::Pending);
        object["spec"]["finalizers"] = json!([]);
        assert_eq!(step(&NAMESPACE, &mut object, &options), Step::Remove);
    }
}
