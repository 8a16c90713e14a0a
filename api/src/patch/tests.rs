use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{kind::Kind, kinds};

fn service() -> &'static Kind {
    kinds::by_kind("", "v1", "Service").unwrap()
}

fn strategic_of(mut object: Value, patch: Value) -> Result<Value, Status> {
    strategic(service(), &mut object, &patch)?;
    Ok(object)
}

#[test]
fn json_patches_that_do_not_apply_are_422() {
    let object = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"ports": [{"port": 80}]}});
    for operation in [
        json!({"op": "test", "path": "/metadata/labels/a", "value": "9"}),
        json!({"op": "remove", "path": "/metadata/labels/none"}),
        json!({"op": "replace", "path": "/spec/ports/7/port", "value": 1}),
        json!({"op": "explode", "path": "/metadata/labels"}),
        json!({"op": "replace", "path": "", "value": {}}),
        json!({"op": "copy", "from": "/spec/ports/7", "path": "/metadata/x"}),
        json!({"op": "move", "from": "/metadata/none", "path": "/metadata/x"}),
        json!({"path": "/metadata/labels"}),
    ] {
        let error = json_patch(&mut object.clone(), &json!([operation])).unwrap_err();
        assert_eq!(
            (error.code, error.reason.as_str()),
            (422, "Invalid"),
            "{operation}"
        );
    }
}

#[test]
fn json_patches_apply_in_order() {
    let mut object = json!({"metadata": {}, "spec": {"ports": [{"port": 80}]}});
    let patch = json!([
        {"op": "test", "path": "/metadata/labels", "value": null},
        {"op": "add", "path": "/metadata/labels", "value": {"a": "1"}},
        {"op": "add", "path": "/spec/ports/-", "value": {"port": 81}},
        {"op": "move", "from": "/spec/ports/0", "path": "/spec/ports/1"},
    ]);
    json_patch(&mut object, &patch).unwrap();
    assert_eq!(
        object,
        json!({"metadata": {"labels": {"a": "1"}}, "spec": {"ports": [{"port": 81}, {"port": 80}]}})
    );
}

#[test]
fn a_missing_key_counts_as_null_for_replace_and_copy() {
    let mut object = json!({"metadata": {}});
    let patch = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": []},
        {"op": "copy", "from": "/metadata/none", "path": "/metadata/x"},
    ]);
    json_patch(&mut object, &patch).unwrap();
    assert_eq!(
        object,
        json!({"metadata": {"managedFields": [], "x": null}})
    );
}

#[test]
fn indices_count_from_the_end_too() {
    let check = |operation: Value, expected: Option<Value>| {
        let mut object = json!({"a": ["x", {"y": 1}, "z"]});
        let outcome = json_patch(&mut object, &json!([operation]));
        let found = outcome.ok().map(|()| object["a"].clone());
        assert_eq!(found, expected, "{operation}");
    };
    let remove = |path: &str| json!({"op": "remove", "path": path});
    check(remove("/a/-1"), Some(json!(["x", {"y": 1}])));
    check(remove("/a/00"), Some(json!([{"y": 1}, "z"])));
    check(remove("/a/-4"), None);
    check(remove("a"), None);
    let add = |path: &str| json!({"op": "add", "path": path, "value": 2});
    check(add("/a/-1"), Some(json!(["x", {"y": 1}, "z", 2])));
    check(add("/a/-4"), Some(json!([2, "x", {"y": 1}, "z"])));
    check(add("/a/-2/y"), Some(json!(["x", {"y": 2}, "z"])));
    check(add("/a/4"), None);
    check(
        json!({"op": "move", "from": "/a/-1", "path": "/a/-2"}),
        Some(json!(["x", "z", {"y": 1}])),
    );
    check(json!({"op": "copy", "from": "", "path": "/a/0"}), None);
    check(json!({"op": "move", "from": "/a/9", "path": "/b"}), None);
}

#[test]
fn json_patches_are_bounded() {
    let many = vec![json!({"op": "add", "path": "/a", "value": 1}); 10_001];
    let error = json_patch(&mut json!({}), &Value::Array(many)).unwrap_err();
    assert_eq!(error.code, 413);
    let doubling = vec![json!({"op": "copy", "from": "/a", "path": "/a/-"}); 64];
    let error = json_patch(&mut json!({"a": ["x"]}), &Value::Array(doubling)).unwrap_err();
    assert_eq!(error.code, 422);
}

#[test]
fn bodies_of_the_wrong_shape_are_400() {
    let check = |format: Format, body: &str, expected: &str| {
        let error = parse(format, body.as_bytes()).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (400, expected));
    };
    check(
        Format::Json,
        "{}",
        "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
    );
    check(
        Format::Json,
        r#"[{"op": 1}]"#,
        "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string",
    );
    check(
        Format::Json,
        "[{",
        "error decoding patch: unexpected end of JSON input",
    );
    check(
        Format::Merge,
        "[]",
        "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
    );
    check(
        Format::Apply,
        "- a",
        "error decoding YAML: error unmarshaling JSON: while decoding JSON: \
         json: cannot unmarshal array into Go value of type map[string]interface {}",
    );
    check(
        Format::Strategic,
        "{a}",
        "invalid character 'a' looking for beginning of object key string",
    );
}

#[test]
fn strict_readers_hear_of_duplicates_and_unknown_operation_fields() {
    let problems = |format, body: &str| parse(format, body.as_bytes()).unwrap().problems;
    assert_eq!(
        problems(Format::Json, r#"[{"op": "add", "path": "/a", "valu": 1}]"#),
        [r#"json patch unknown field "[0].valu""#]
    );
    assert_eq!(
        problems(Format::Merge, r#"{"metadata": {"name": "a", "name": "b"}}"#),
        [r#"duplicate field "metadata.name""#]
    );
}

#[test]
fn lists_merge_by_their_key_and_keep_their_order() {
    let check = |original: Value, patch: Value, expected: Value| {
        let merged = strategic_of(json!({"spec": {"ports": original}}), json!({"spec": patch}));
        assert_eq!(merged.unwrap()["spec"]["ports"], expected);
    };
    let two = json!([{"name": "a", "port": 1}, {"name": "b", "port": 2}]);
    check(
        two.clone(),
        json!({"ports": [{"port": 2, "targetPort": 9}]}),
        json!([{"name": "a", "port": 1}, {"name": "b", "port": 2, "targetPort": 9}]),
    );
    check(
        two.clone(),
        json!({"ports": [{"port": 3}]}),
        json!([{"port": 3}, {"name": "a", "port": 1}, {"name": "b", "port": 2}]),
    );
    check(
        two.clone(),
        json!({"ports": [{"$patch": "delete", "port": 1}]}),
        json!([{"name": "b", "port": 2}]),
    );
    check(
        two.clone(),
        json!({"ports": [{"$patch": "replace"}, {"port": 7}]}),
        json!([{"port": 7}]),
    );
    check(
        two,
        json!({"$setElementOrder/ports": [{"port": 2}, {"port": 3}, {"port": 1}], "ports": [{"port": 3}]}),
        json!([{"name": "b", "port": 2}, {"port": 3}, {"name": "a", "port": 1}]),
    );
}

#[test]
fn one_merge_key_for_two_protocols_patches_the_first() {
    let dns = json!({"spec": {"ports": [
        {"name": "tcp", "port": 53, "protocol": "TCP"},
        {"name": "udp", "port": 53, "protocol": "UDP"},
    ]}});
    let patch = json!({"spec": {"ports": [{"port": 53, "targetPort": 5353}]}});
    assert_eq!(
        strategic_of(dns, patch).unwrap()["spec"]["ports"],
        json!([
            {"name": "tcp", "port": 53, "protocol": "TCP", "targetPort": 5353},
            {"name": "udp", "port": 53, "protocol": "UDP"},
        ])
    );
    let solo = json!({"spec": {"ports": [{"name": "udp", "port": 53, "protocol": "UDP", "targetPort": 53}]}});
    let patch = json!({"spec": {
        "$setElementOrder/ports": [{"port": 53}, {"port": 53}],
        "ports": [{"name": "tcp", "port": 53, "protocol": "TCP"}, {"name": "udp", "port": 53, "protocol": "UDP"}],
    }});
    assert_eq!(strategic_of(solo.clone(), patch).unwrap(), solo);
}

#[test]
fn directives_work_on_maps_and_scalars_too() {
    let check = |original: Value, patch: Value, expected: Value| {
        assert_eq!(strategic_of(original, patch).unwrap(), expected);
    };
    let finalizers = json!({"metadata": {"finalizers": ["a", "b"]}});
    check(
        finalizers.clone(),
        json!({"metadata": {"finalizers": ["c", "a"]}}),
        json!({"metadata": {"finalizers": ["c", "a", "b"]}}),
    );
    check(
        finalizers,
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "x"]}}),
        json!({"metadata": {"finalizers": ["b"]}}),
    );
    let spec =
        json!({"spec": {"type": "NodePort", "externalName": "x", "sessionAffinity": "None"}});
    check(
        spec.clone(),
        json!({"spec": {"$retainKeys": ["type"], "type": "ClusterIP"}}),
        json!({"spec": {"type": "ClusterIP"}}),
    );
    check(
        spec.clone(),
        json!({"spec": {"$patch": "replace", "type": "ClusterIP"}}),
        json!({"spec": {"type": "ClusterIP"}}),
    );
    check(
        spec.clone(),
        json!({"spec": {"$patch": "delete"}}),
        json!({"spec": {}}),
    );
    check(
        spec,
        json!({"spec": {"externalName": null, "clusterIP": null, "externalIPs": ["1.2.3.4"]}}),
        json!({"spec": {"type": "NodePort", "sessionAffinity": "None", "externalIPs": ["1.2.3.4"]}}),
    );
}

#[test]
fn malformed_directives_are_refused_in_the_library_s_words() {
    let check = |patch: Value, code: u16, expected: &str| {
        let original = json!({"spec": {"ports": [{"port": 1}], "externalIPs": ["1.2.3.4"]}});
        let error = strategic_of(original, json!({"spec": patch})).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (code, expected));
    };
    check(
        json!({"$retainKeys": "x"}),
        400,
        "invalid patch format of retainKeys",
    );
    check(
        json!({"$retainKeys": ["type"], "clusterIP": "x"}),
        400,
        "invalid patch format of retainKeys",
    );
    check(
        json!({"$deleteFromPrimitiveList": []}),
        400,
        "invalid patch format of primitive list",
    );
    check(
        json!({"ports": [{"name": "x"}]}),
        500,
        "map: map[name:x] does not contain declared merge key: port",
    );
    check(
        json!({"$patch": "explode"}),
        500,
        "unknown patch type: explode in map: map[$patch:explode]",
    );
    check(
        json!({"$setElementOrder/ports": [{"port": 1}], "ports": [{"port": 2}]}),
        500,
        "The order in patch list:\n[map[port:2]]\n doesn't match $setElementOrder list:\n[map[port:1]]\n",
    );
    check(
        json!({"ports": [1]}),
        500,
        "list element types are not identical: [[map[port:1]] [1]]",
    );
}

fn ports() -> impl Strategy<Value = std::collections::BTreeMap<u16, u16>> {
    prop::collection::btree_map(80_u16..86, 1_u16..4, 0..5)
}

fn list(ports: &std::collections::BTreeMap<u16, u16>) -> Value {
    ports
        .iter()
        .map(|(port, target)| json!({"port": port, "targetPort": target}))
        .collect()
}

proptest! {
    /// The model: a list merged by key is a map overlaid with a map.
    #[test]
    fn merged_lists_hold_the_union_of_their_keys(own in ports(), new in ports()) {
        let object = json!({"spec": {"ports": list(&own)}});
        let merged = strategic_of(object, json!({"spec": {"ports": list(&new)}})).unwrap();
        let merged = merged["spec"]["ports"].as_array().unwrap().clone();
        let as_map: std::collections::BTreeMap<u16, u16> = merged
            .iter()
            .map(|p| (p["port"].as_u64().unwrap() as u16, p["targetPort"].as_u64().unwrap() as u16))
            .collect();
        let mut expected = own;
        expected.extend(new.iter());
        prop_assert_eq!(merged.len(), expected.len());
        prop_assert_eq!(as_map, expected);
    }

    /// kubectl's way: the order directive and the changed items give exactly the wanted list.
    #[test]
    fn an_order_directive_gives_exactly_that_order(own in ports(), new in ports()) {
        prop_assume!(!new.is_empty());
        let gone: Vec<Value> = own
            .keys()
            .filter(|port| !new.contains_key(port))
            .map(|port| json!({"$patch": "delete", "port": port}))
            .collect();
        let reversed: Vec<Value> = list(&new).as_array().unwrap().iter().rev().cloned().collect();
        let order: Vec<Value> = reversed.iter().map(|p| json!({"port": p["port"]})).collect();
        let items: Vec<Value> = reversed.iter().cloned().chain(gone).collect();
        let patch = json!({"spec": {"$setElementOrder/ports": order, "ports": items}});
        let merged = strategic_of(json!({"spec": {"ports": list(&own)}}), patch).unwrap();
        prop_assert_eq!(&merged["spec"]["ports"], &Value::Array(reversed));
    }

    #[test]
    fn patching_twice_is_patching_once(own in ports(), new in ports()) {
        let object = json!({"spec": {"ports": list(&own)}});
        let patch = json!({"spec": {"ports": list(&new)}});
        let once = strategic_of(object, patch.clone()).unwrap();
        prop_assert_eq!(strategic_of(once.clone(), patch).unwrap(), once);
    }

    #[test]
    fn arbitrary_bodies_never_panic(body in "[\\[\\]{}\":,a-e0-9 $pathrelc/.]{0,60}") {
        let object = json!({"a": [1, {"b": "c"}], "metadata": {"finalizers": ["x"]}});
        let _ = parse(Format::Apply, body.as_bytes());
        if let Ok(parsed) = parse(Format::Json, body.as_bytes()) {
            let _ = json_patch(&mut object.clone(), &parsed.patch);
        }
        if let Ok(parsed) = parse(Format::Strategic, body.as_bytes()) {
            let _ = strategic_of(object, parsed.patch);
        }
    }
}
