use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{kinds, patch};

const TIME: &str = "2026-01-02T03:04:05Z";
const LATER: &str = "2026-01-02T03:04:06Z";

fn service() -> &'static Kind {
    kinds::by_kind("", "v1", "Service").unwrap()
}

fn by(name: &str) -> Manager<'_> {
    Manager {
        name,
        subresource: "",
        time: TIME,
    }
}

fn config(mut fields: Value) -> Value {
    fields["apiVersion"] = "v1".into();
    fields["kind"] = "Service".into();
    fields
}

/// Applies as a server would that gives new objects an identity and has no defaults.
fn applied(live: Option<&Value>, name: &str, fields: Value, force: Force) -> Result<Value, Status> {
    let mut object = apply(service(), live, &config(fields), &by(name), force)?;
    object["metadata"]["uid"] = "1".into();
    Ok(object)
}

fn managers_of(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array().cloned();
    entries
        .unwrap_or_default()
        .into_iter()
        .map(|e| {
            let who = format!(
                "{} {}",
                e["manager"].as_str().unwrap(),
                e["operation"].as_str().unwrap()
            );
            (who, e["fieldsV1"].clone())
        })
        .collect()
}

fn port(target: i64) -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": target}]}})
}

#[test]
fn a_field_of_another_applier_conflicts_until_forced() {
    let one = applied(None, "one", port(8080), Force::No).unwrap();
    let error = applied(Some(&one), "two", port(9090), Force::No).unwrap_err();
    assert_eq!(error.code, 409);
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"one\": .spec.ports[port=80,protocol=\"TCP\"].targetPort"
    );
    let forced = applied(Some(&one), "two", port(9090), Force::Yes).unwrap();
    assert_eq!(forced["spec"]["ports"][0]["targetPort"], 9090);
    let ports = |fields: Value| json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": fields}}});
    assert_eq!(
        managers_of(&forced),
        [
            (
                "one Apply".to_owned(),
                ports(json!({".": {}, "f:port": {}, "f:protocol": {}}))
            ),
            (
                "two Apply".to_owned(),
                ports(json!({".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}})),
            ),
        ]
    );
}

#[test]
fn several_conflicts_are_listed_by_manager() {
    let body = |affinity: &str, target: i64| {
        let mut body = port(target);
        body["spec"]["sessionAffinity"] = affinity.into();
        body
    };
    let one = applied(None, "one", body("None", 8080), Force::No).unwrap();
    let error = applied(Some(&one), "two", body("ClientIP", 9090), Force::No).unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.sessionAffinity\n- .spec.ports[port=80,protocol=\"TCP\"].targetPort"
    );
    assert_eq!(error.details.unwrap().causes.len(), 2);
}

#[test]
fn what_is_no_longer_applied_goes_unless_another_manager_owns_it() {
    let first = json!({
        "metadata": {"name": "a", "labels": {"x": "1", "y": "2"}, "annotations": {"n": "one"}},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "https", "port": 443, "protocol": "TCP"}]},
    });
    let object = applied(None, "one", first, Force::No).unwrap();
    let label = json!({"metadata": {"name": "a", "labels": {"y": "2"}}});
    let object = applied(Some(&object), "two", label, Force::No).unwrap();
    let less = json!({"metadata": {"name": "a"}, "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}});
    let object = applied(Some(&object), "one", less, Force::No).unwrap();
    assert_eq!(object["metadata"]["labels"], json!({"y": "2"}));
    assert_eq!(object["metadata"].get("annotations"), None);
    assert_eq!(object["spec"]["ports"].as_array().unwrap().len(), 1);
    // Applying what is there already changes nothing, so that entry has no time.
    let two = &object["metadata"]["managedFields"][0];
    assert_eq!((&two["manager"], two.get("time")), (&json!("two"), None));
    let object = applied(
        Some(&object),
        "two",
        json!({"metadata": {"name": "a"}}),
        Force::No,
    )
    .unwrap();
    assert_eq!(object["metadata"].get("labels"), None);
    assert_eq!(managers_of(&object).len(), 1);
}

#[test]
fn updates_own_what_they_change_and_only_that() {
    let create = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "m", "labels": {"a": "1"}},
        "spec": {"type": "NodePort", "selector": {"x": "y"}, "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}]},
        "status": {"loadBalancer": {}},
    });
    let mut object = create.clone();
    track_update(service(), None, &mut object, &by("creator"));
    assert_eq!(
        managers_of(&object),
        [(
            "creator Update".to_owned(),
            json!({
                "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
                "f:spec": {
                    "f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}},
                    "f:selector": {}, "f:type": {},
                },
            })
        )]
    );
    let mut changed = object.clone();
    changed["metadata"]["labels"]["b"] = "2".into();
    changed["metadata"]["annotations"] = json!({"n": "1"});
    track_update(service(), Some(&object), &mut changed, &by("patcher"));
    assert_eq!(
        managers_of(&changed)[1],
        (
            "patcher Update".to_owned(),
            json!({"f:metadata": {"f:annotations": {".": {}, "f:n": {}}, "f:labels": {"f:b": {}}}})
        )
    );
    let mut replaced = create;
    replaced["metadata"]["labels"]["b"] = "3".into();
    track_update(service(), Some(&changed), &mut replaced, &by("putter"));
    assert_eq!(
        managers_of(&replaced)[1],
        (
            "putter Update".to_owned(),
            json!({"f:metadata": {"f:labels": {"f:b": {}}}})
        )
    );
}

#[test]
fn ownership_can_be_forgotten_and_is_adopted_by_the_next_apply() {
    let object = applied(None, "one", port(80), Force::No).unwrap();
    let mut cleared = object.clone();
    cleared["metadata"]["managedFields"] = json!([{}]);
    cleared["metadata"]["labels"] = json!({"a": "b"});
    track_update(service(), Some(&object), &mut cleared, &by("cleaner"));
    assert_eq!(cleared["metadata"].get("managedFields"), None);
    let mut body = port(80);
    body["metadata"]["labels"] = json!({"a": "c"});
    let error = applied(Some(&cleared), "one", body, Force::No).unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .metadata.labels.a"
    );
}

#[test]
fn status_is_owned_apart() {
    let status = Manager {
        subresource: "status",
        ..by("lb-controller")
    };
    let mut object = config(port(80));
    track_update(service(), None, &mut object, &by("creator"));
    let mut new = object.clone();
    new["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}});
    track_update(service(), Some(&object), &mut new, &status);
    let entry = &new["metadata"]["managedFields"][1];
    assert_eq!(entry["subresource"], "status");
    let applier = Manager {
        subresource: "status",
        ..by("cond-controller")
    };
    let body = config(
        json!({"metadata": {"name": "a"}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}}),
    );
    let error = apply(service(), Some(&new), &body, &applier, Force::No).unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"lb-controller\" with subresource \"status\" using v1: .status.loadBalancer.ingress"
    );
}

#[test]
fn a_write_through_status_owns_nothing_that_is_reset() {
    let check = |group: &str, name: &str, changes: Value, expected: Value| {
        let kind = kinds::by_kind(group, "v1", name).unwrap();
        let status = Manager {
            subresource: "status",
            ..by("controller")
        };
        let base = json!({"apiVersion": kind.api_version(), "kind": name, "metadata": {"name": "a"}, "spec": {}, "status": {}});
        let mut object = base;
        track_update(kind, None, &mut object, &by("creator"));
        object["metadata"]["managedFields"] = json!([{
            "manager": "creator", "operation": "Update", "apiVersion": kind.api_version(),
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}},
        }]);
        let mut new = object.clone();
        patch::merge(&mut new, &changes);
        track_update(kind, Some(&object), &mut new, &status);
        let owned = managers_of(&new)
            .into_iter()
            .find(|(who, _)| who == "controller Update");
        assert_eq!(
            owned.map(|(_, set)| set),
            serde_json::from_value(expected).unwrap()
        );
    };
    let labelled = json!({"metadata": {"labels": {"a": "b"}}, "status": {"replicas": 1}});
    let replicas = json!({"f:status": {"f:replicas": {}}});
    let both =
        json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:status": {"f:replicas": {}}});
    check("apps", "Deployment", labelled.clone(), replicas);
    check("apps", "ReplicaSet", labelled, both);
    let owners = json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]}});
    check("", "Pod", owners, json!(null));
    let range = json!({"metadata": {"annotations": {"a": "b"}}, "spec": {"cidrs": ["10.0.0.0/8"]}});
    check("networking.k8s.io", "ServiceCIDR", range, json!(null));
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let check = |spec: Value, expected: &str| {
        let body = config(json!({"metadata": {"name": "a"}, "spec": spec}));
        let error = apply(service(), None, &body, &by("one"), Force::No).unwrap_err();
        let prefix = "failed to create typed patch object (/a; /v1, Kind=Service): ";
        assert_eq!(
            (error.code, error.message),
            (500, format!("{prefix}{expected}"))
        );
    };
    check(
        json!({"bogus": 1}),
        ".spec.bogus: field not declared in schema",
    );
    check(
        json!({"ports": [{"port": "80"}]}),
        ".spec.ports[port=\"80\",protocol=\"TCP\"].port: expected numeric (int or float), got string",
    );
    check(
        json!({"ports": [{"port": 80}, {"port": 80, "protocol": "TCP"}]}),
        ".spec.ports: duplicate entries for key [port=80,protocol=\"TCP\"]",
    );
    check(
        json!({"ports": {"port": 80}}),
        ".spec.ports: expected list, got &{map[port:80]}",
    );
    check(
        json!({"externalIPs": "x"}),
        ".spec.externalIPs: expected list, got &{x}",
    );
    let error = apply(
        service(),
        None,
        &json!({"kind": "Pod", "apiVersion": "v1"}),
        &by("one"),
        Force::No,
    );
    assert_eq!(
        error.unwrap_err().message,
        "invalid object type: /v1, Kind=Pod"
    );
}

#[test]
fn kubectl_takes_over_what_client_side_apply_set() {
    let record = config(port(8080)).to_string();
    let mut object = config(port(8080));
    object["metadata"]["annotations"] = json!({LAST_APPLIED: record});
    track_update(
        service(),
        None,
        &mut object,
        &by("kubectl-client-side-apply"),
    );
    let new = applied(Some(&object), "kubectl", port(9090), Force::No).unwrap();
    assert_eq!(new["spec"]["ports"][0]["targetPort"], 9090);
    let record: Value = serde_json::from_str(
        new["metadata"]["annotations"][LAST_APPLIED]
            .as_str()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(record, config(port(9090)));
    assert_eq!(
        applied(Some(&object), "other", port(9090), Force::No)
            .unwrap_err()
            .code,
        409
    );
}

#[test]
fn old_update_managers_are_merged() {
    let mut object = config(port(80));
    track_update(service(), None, &mut object, &by("creator"));
    for at in 0..20 {
        let mut new = object.clone();
        new["metadata"]["labels"][format!("l{at:02}")] = "x".into();
        let name = format!("manager-{at:02}");
        let time = format!("2026-01-02T03:05:{at:02}Z");
        let manager = Manager {
            time: &time,
            ..by(&name)
        };
        track_update(service(), Some(&object), &mut new, &manager);
        object = new;
    }
    let managers = managers_of(&object);
    assert_eq!(managers.len(), 10);
    assert_eq!(managers[0].0, "ancient-changes Update");
}

#[test]
fn times_alone_are_no_change() {
    let object = applied(None, "one", port(80), Force::No).unwrap();
    let mut new = object.clone();
    new["metadata"]["managedFields"][0]["time"] = LATER.into();
    settle_times(&object, &mut new);
    assert_eq!(new, object);
    new["metadata"]["managedFields"][0]["time"] = LATER.into();
    new["spec"]["type"] = "NodePort".into();
    settle_times(&object, &mut new);
    assert_eq!(new["metadata"]["managedFields"][0]["time"], LATER);
}

fn labels() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    prop::collection::btree_map("[a-d]", "[xy]", 0..4)
}

fn ports() -> impl Strategy<Value = std::collections::BTreeMap<u16, u16>> {
    prop::collection::btree_map(80_u16..84, 1_u16..4, 0..4)
}

fn body(
    labels: &std::collections::BTreeMap<String, String>,
    ports: &std::collections::BTreeMap<u16, u16>,
) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|(port, target)| json!({"port": port, "protocol": "TCP", "targetPort": target}))
        .collect();
    json!({"metadata": {"name": "a", "labels": labels}, "spec": {"ports": ports}})
}

proptest! {
    /// The model: a forced apply holds exactly what each manager applied last, the later one winning.
    #[test]
    fn forced_applies_behave_like_layered_maps(
        layers in prop::collection::vec((0_u8..2, labels(), ports()), 1..6),
    ) {
        let mut object: Option<Value> = None;
        let mut owners: std::collections::BTreeMap<String, (std::collections::BTreeSet<u8>, String)> = Default::default();
        for (who, labels, ports) in &layers {
            let name = format!("m{who}");
            let new = applied(object.as_ref(), &name, body(labels, ports), Force::Yes).unwrap();
            owners.retain(|key, (holders, _)| {
                if !labels.contains_key(key) {
                    holders.remove(who);
                }
                !holders.is_empty()
            });
            for (key, value) in labels {
                let entry = owners.entry(key.clone()).or_insert_with(|| (Default::default(), value.clone()));
                if entry.1 != *value {
                    *entry = (Default::default(), value.clone());
                }
                entry.0.insert(*who);
            }
            object = Some(new);
        }
        let expected: Map<String, Value> =
            owners.into_iter().map(|(key, (_, value))| (key, value.into())).collect();
        let labels = object.unwrap()["metadata"].get("labels").cloned().unwrap_or(json!({}));
        prop_assert_eq!(labels, Value::Object(expected));
    }

    #[test]
    fn applying_twice_changes_nothing(labels in labels(), ports in ports(), others in labels()) {
        let base = applied(None, "other", body(&others, &Default::default()), Force::Yes).unwrap();
        let once = applied(Some(&base), "one", body(&labels, &ports), Force::Yes).unwrap();
        let later = Manager { time: LATER, ..by("one") };
        let mut twice = apply(service(), Some(&once), &config(body(&labels, &ports)), &later, Force::No).unwrap();
        twice["metadata"]["uid"] = "1".into();
        settle_times(&once, &mut twice);
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn tracking_an_unchanged_object_changes_nothing(labels in labels(), ports in ports()) {
        let mut object = config(body(&labels, &ports));
        track_update(service(), None, &mut object, &by("creator"));
        let mut again = object.clone();
        track_update(service(), Some(&object), &mut again, &Manager { time: LATER, ..by("other") });
        prop_assert_eq!(again, object);
    }
}
