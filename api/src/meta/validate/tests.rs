use serde_json::json;

use super::*;
use crate::{
    kind::Kind,
    kinds,
    value::{fields_mut, put},
};

fn config_maps() -> &'static Kind {
    kinds::by_resource("", "v1", "configmaps").expect("is served")
}

fn with_metadata(metadata: Value) -> Value {
    let mut object = json!({"metadata": {"name": "a", "namespace": "n", "resourceVersion": "1"}});
    let fields = fields_mut(&mut object, "metadata");
    for (field, value) in metadata.as_object().into_iter().flatten() {
        put(fields, field, value.clone());
    }
    object
}

fn texts_of(errors: Vec<Error>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn new_objects_need_sound_metadata() {
    let check = |metadata: Value, expected: &[&str]| {
        let object = with_metadata(metadata.clone());
        let found = texts_of(config_maps().validate_metadata(&object));
        assert_eq!(found.len(), expected.len(), "{metadata}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{metadata}: {found}");
        }
    };
    check(json!({}), &[]);
    check(
        json!({"name": null}),
        &["metadata.name: Required value: name or generateName is required"],
    );
    check(
        json!({"generateName": "Up-", "name": "Up-x"}),
        &[
            "metadata.generateName: Invalid value: \"Up-\": a lowercase RFC 1123 subdomain",
            "metadata.name: Invalid value: \"Up-x\": a lowercase RFC 1123 subdomain",
        ],
    );
    check(json!({"generateName": "a-"}), &[]);
    check(
        json!({"namespace": null}),
        &["metadata.namespace: Required value"],
    );
    check(
        json!({"namespace": "a.b"}),
        &["metadata.namespace: Invalid value: \"a.b\": must not contain dots"],
    );
    check(
        json!({"labels": {"a b": "c d"}}),
        &[
            "metadata.labels: Invalid value: \"a b\": name part must consist of",
            "metadata.labels: Invalid value: \"c d\": a valid label must be",
        ],
    );
    check(json!({"annotations": {"Example.COM/x": "any thing"}}), &[]);
    check(
        json!({"annotations": {"a b": ""}}),
        &["metadata.annotations: Invalid value: \"a b\": name part"],
    );
    check(
        json!({"annotations": {"a": "x".repeat(256 * 1024)}}),
        &["metadata.annotations: Too long: may not be more than 262144 bytes"],
    );
    check(
        json!({"finalizers": ["bad one", "orphan", "foregroundDeletion"]}),
        &[
            "metadata.finalizers: Invalid value: \"bad one\": name part",
            "metadata.finalizers: Invalid value: [\"bad one\",\"orphan\",\"foregroundDeletion\"]: finalizer orphan and foregroundDeletion cannot be both set",
            "metadata.finalizers[0]: Invalid value: \"bad one\": name is neither a standard finalizer name nor is it fully qualified",
        ],
    );
    check(json!({"finalizers": ["kubernetes", "example.com/x"]}), &[]);
}

#[test]
fn cluster_scoped_objects_have_no_namespace() {
    let nodes = kinds::by_resource("", "v1", "nodes").expect("is served");
    let found = texts_of(nodes.validate_metadata(&with_metadata(json!({}))));
    assert_eq!(
        found,
        ["metadata.namespace: Forbidden: not allowed on this type"]
    );
}

#[test]
fn owners_are_named_in_full_and_only_one_controls() {
    let check = |owners: Value, expected: &[&str]| {
        let object = with_metadata(json!({"ownerReferences": owners}));
        let found = texts_of(config_maps().validate_metadata(&object));
        assert_eq!(found, expected);
    };
    let owner = |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u", "controller": true});
    check(json!([owner("a")]), &[]);
    check(
        json!([{"apiVersion": "a/b/c", "kind": "", "name": "x", "uid": ""}]),
        &[
            "metadata.ownerReferences.apiVersion: Invalid value: \"a/b/c\": version must not be empty",
            "metadata.ownerReferences.kind: Invalid value: \"\": must not be empty",
            "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
        ],
    );
    check(
        json!([owner("a"), owner("b")]),
        &[
            "metadata.ownerReferences: Invalid value: [{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":\"a\",\"uid\":\"u\",\"controller\":true},{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":\"b\",\"uid\":\"u\",\"controller\":true}]: Only one reference can have Controller set to true. Found \"true\" in references for Pod/a and Pod/b",
        ],
    );
    check(
        json!([{"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u"}]),
        &[
            "metadata.ownerReferences: Invalid value: {\"apiVersion\":\"v1\",\"kind\":\"Event\",\"name\":\"e\",\"uid\":\"u\"}: /v1, Kind=Event is disallowed from being an owner",
        ],
    );
}

#[test]
fn updates_keep_identity_and_time() {
    let check = |new: Value, old: Value, expected: &[&str]| {
        let found = validate_update(&with_metadata(new), &with_metadata(old));
        assert_eq!(texts_of(found), expected);
    };
    check(json!({}), json!({}), &[]);
    check(
        json!({"name": "b", "uid": "2"}),
        json!({"uid": "1"}),
        &[
            "metadata.name: Invalid value: \"b\": field is immutable",
            "metadata.uid: Invalid value: \"2\": field is immutable",
        ],
    );
    check(
        json!({"resourceVersion": null}),
        json!({}),
        &["metadata.resourceVersion: Invalid value: \"\": must be specified for an update"],
    );
    check(
        json!({"deletionTimestamp": "2026-01-02T03:04:05Z", "deletionGracePeriodSeconds": 5}),
        json!({}),
        &[
            "metadata.deletionTimestamp: Invalid value: \"2026-01-02T03:04:05Z\": field is immutable",
            "metadata.deletionGracePeriodSeconds: Invalid value: 5: field is immutable",
        ],
    );
    check(
        json!({"generation": 1}),
        json!({"generation": 2}),
        &["metadata.generation: Invalid value: 1: must not be decremented"],
    );
    let dying = "2026-01-02T03:04:05Z";
    check(
        json!({"deletionTimestamp": dying, "finalizers": ["x.y/b", "x.y/a", "x.y/c"]}),
        json!({"deletionTimestamp": dying, "finalizers": ["x.y/c"]}),
        &[
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x.y/a\", \"x.y/b\"}",
        ],
    );
}

#[test]
fn a_prefix_may_end_in_a_dash() {
    assert_eq!(mask_trailing_dash("web-"), "wea");
    assert_eq!(mask_trailing_dash("-"), "-");
    assert_eq!(mask_trailing_dash("web"), "web");
}
