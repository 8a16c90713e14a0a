//! Tests of the kinds of `apps/v1`, which share most of their rules.

use serde_json::{Value, json};

use crate::{
    field::Error,
    kind::Kind,
    kinds::{
        controllerrevision::CONTROLLER_REVISION, daemonset::DAEMON_SET, deployment::DEPLOYMENT,
        replicaset::REPLICA_SET, scale, statefulset::STATEFUL_SET,
    },
    walk,
};

const ALL: [&Kind; 4] = [&DEPLOYMENT, &REPLICA_SET, &STATEFUL_SET, &DAEMON_SET];

/// An object as it is stored, from what its spec has beyond a selector and a template that fits it.
fn stored(kind: &Kind, fields: Value) -> Value {
    let mut spec = json!({
        "selector": {"matchLabels": {"app": "a"}},
        "template": {
            "metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        },
    });
    for (name, value) in walk::entries(&json!({"fields": fields}), "fields") {
        spec[name] = value.clone();
    }
    let metadata = json!({"name": "w", "namespace": "n", "uid": "u", "resourceVersion": "1"});
    let mut object = json!({"metadata": metadata, "spec": spec});
    (kind.strategy.default)(&mut object);
    kind.prepare_create(&mut object);
    object
}

fn texts(errors: &[Error]) -> Vec<String> {
    errors.iter().map(Error::to_string).collect()
}

fn refuses(kind: &Kind, fields: Value, expected: &[&str]) {
    let object = stored(kind, fields);
    let errors = (kind.strategy.validate_create)(&object);
    assert_eq!(texts(&errors), expected, "{}: {object}", kind.kind);
}

fn updated(
    kind: &Kind,
    old: &Value,
    change: impl FnOnce(&mut Value),
) -> Result<Value, Vec<String>> {
    let mut new = old.clone();
    change(&mut new);
    (kind.strategy.default)(&mut new);
    kind.prepare_update(&mut new, old);
    match texts(&kind.validate_update(&new, old)) {
        errors if errors.is_empty() => Ok(new),
        errors => Err(errors),
    }
}

fn generation(updated: Result<Value, Vec<String>>) -> Value {
    updated.expect("an allowed update")["metadata"]["generation"].clone()
}

#[test]
fn a_selector_has_to_pick_the_template() {
    for kind in ALL {
        refuses(kind, json!({}), &[]);
        refuses(
            kind,
            json!({"selector": {"matchLabels": {"app": "b"}}}),
            &[
                "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
            ],
        );
    }
    for (kind, name) in [
        (&DEPLOYMENT, "deployment"),
        (&REPLICA_SET, "deployment"),
        (&STATEFUL_SET, "statefulset"),
        (&DAEMON_SET, "daemonset"),
    ] {
        let expected =
            format!("spec.selector: Invalid value: {{}}: empty selector is invalid for {name}");
        refuses(kind, json!({"selector": {}}), &[&expected]);
    }
}

#[test]
fn pods_that_are_replaced_always_restart() {
    let template = json!({
        "metadata": {"labels": {"app": "a"}},
        "spec": {"restartPolicy": "Never", "activeDeadlineSeconds": 1, "containers": [{"name": "c", "image": "i"}]},
    });
    for (kind, name) in [
        (&DEPLOYMENT, "ReplicaSet"),
        (&STATEFUL_SET, "StatefulSet"),
        (&DAEMON_SET, "DaemonSet"),
    ] {
        let deadline = format!(
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in {name} is not Supported"
        );
        refuses(
            kind,
            json!({"template": template}),
            &[
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                &deadline,
            ],
        );
    }
}

#[test]
fn selectors_never_change() {
    for kind in [&DEPLOYMENT, &REPLICA_SET, &DAEMON_SET] {
        let old = stored(kind, json!({}));
        let changed = updated(kind, &old, |object| {
            object["spec"]["selector"]["matchExpressions"] =
                json!([{"key": "app", "operator": "Exists"}]);
        });
        let expected = "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"a\"},\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Exists\"}]}: field is immutable";
        assert_eq!(changed, Err(vec![expected.into()]), "{}", kind.kind);
    }
}

#[test]
fn rolling_updates_have_to_move() {
    let strategy = |update: Value| json!({"strategy": {"rollingUpdate": update}});
    refuses(
        &DEPLOYMENT,
        strategy(json!({"maxSurge": "0%", "maxUnavailable": 0})),
        &[
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ],
    );
    refuses(
        &DEPLOYMENT,
        strategy(json!({"maxSurge": -1, "maxUnavailable": "101%"})),
        &[
            "spec.strategy.rollingUpdate.maxSurge: Invalid value: -1: must be greater than or equal to 0",
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ],
    );
    let strategy = |update: Value| json!({"updateStrategy": update});
    refuses(
        &DAEMON_SET,
        strategy(json!({"rollingUpdate": {"maxSurge": 1}})),
        &[
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
        ],
    );
    refuses(
        &DAEMON_SET,
        strategy(json!({"rollingUpdate": {"maxUnavailable": 0}})),
        &[
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
        ],
    );
    refuses(
        &DAEMON_SET,
        strategy(json!({"rollingUpdate": {"maxUnavailable": "-1%"}})),
        &[
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"-1%\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
        ],
    );
    refuses(
        &DAEMON_SET,
        strategy(json!({"type": "Sometimes"})),
        &[
            "spec.updateStrategy: Unsupported value: {\"Type\":\"Sometimes\",\"RollingUpdate\":null}: supported values: \"RollingUpdate\", \"OnDelete\"",
        ],
    );
    refuses(
        &STATEFUL_SET,
        strategy(json!({"type": "OnDelete", "rollingUpdate": {"partition": 2}})),
        &[
            "spec.updateStrategy.rollingUpdate: Invalid value: {\"Partition\":2,\"MaxUnavailable\":null}: only allowed for updateStrategy 'RollingUpdate'",
        ],
    );
}

#[test]
fn generation_counts_changes_of_the_spec() {
    for kind in ALL {
        let old = stored(kind, json!({}));
        assert_eq!(old["metadata"]["generation"], 1);
        let same = updated(kind, &old, |object| {
            object["metadata"]["labels"] = json!({"x": "y"})
        });
        assert_eq!(generation(same), 1, "{}", kind.kind);
        let changed = updated(kind, &old, |object| {
            object["spec"]["minReadySeconds"] = json!(3)
        });
        assert_eq!(generation(changed), 2, "{}", kind.kind);
    }
    let old = stored(&DEPLOYMENT, json!({}));
    let annotated = updated(&DEPLOYMENT, &old, |object| {
        object["metadata"]["annotations"] = json!({"x": "y"})
    });
    assert_eq!(generation(annotated), 2);
}

#[test]
fn daemon_sets_count_their_templates() {
    let count = |object: &Value| {
        object["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone()
    };
    let old = stored(&DAEMON_SET, json!({}));
    assert_eq!(count(&old), "1");
    let new = updated(&DAEMON_SET, &old, |object| {
        object["metadata"]["annotations"] = json!({});
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("j");
    });
    assert_eq!(new.as_ref().map(count), Ok(json!("2")));
    let other = updated(&DAEMON_SET, &old, |object| {
        object["spec"]["minReadySeconds"] = json!(1)
    });
    assert_eq!(other.as_ref().map(count), Ok(json!("1")));
}

#[test]
fn stateful_sets_keep_what_names_their_pods() {
    let old = stored(&STATEFUL_SET, json!({"serviceName": "s"}));
    assert!(
        updated(&STATEFUL_SET, &old, |set| set["spec"]["replicas"] =
            json!(3))
        .is_ok()
    );
    assert_eq!(
        updated(&STATEFUL_SET, &old, |set| set["spec"]["serviceName"] = json!("t")),
        Err(vec!["spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden".into()])
    );
}

#[test]
fn claim_templates_are_volumes_of_their_pods() {
    let mounts = json!([{"name": "data", "mountPath": "/data"}]);
    let template = json!({
        "metadata": {"labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "i", "volumeMounts": mounts}]},
    });
    let wanted =
        json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let claim = json!({"metadata": {"name": "data"}, "spec": wanted});
    refuses(
        &STATEFUL_SET,
        json!({"template": template, "volumeClaimTemplates": [claim]}),
        &[],
    );
    refuses(
        &STATEFUL_SET,
        json!({"template": template}),
        &["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\""],
    );
    let empty = json!({"metadata": {"name": "data"}, "spec": {}});
    refuses(
        &STATEFUL_SET,
        json!({"template": template, "volumeClaimTemplates": [empty]}),
        &[
            "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
            "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
        ],
    );
}

#[test]
fn status_counts_fit_each_other() {
    let check = |kind: &Kind, status: Value, expected: &[&str]| {
        let old = stored(kind, json!({}));
        let mut new = old.clone();
        new["status"] = status;
        new["spec"]["minReadySeconds"] = json!(7);
        kind.prepare_status(&mut new, &old);
        assert!(new["spec"]["minReadySeconds"].is_null());
        assert_eq!(texts(&kind.validate_status(&new, &old)), expected);
    };
    check(
        &DEPLOYMENT,
        json!({"replicas": 2, "readyReplicas": 2, "availableReplicas": 1}),
        &[],
    );
    check(
        &DEPLOYMENT,
        json!({"replicas": 1, "readyReplicas": 0, "availableReplicas": 2, "updatedReplicas": -1}),
        &[
            "status.updatedReplicas: Invalid value: -1: must be greater than or equal to 0",
            "status.availableReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas",
        ],
    );
    check(
        &STATEFUL_SET,
        json!({"replicas": 1, "availableReplicas": 1}),
        &[
            "status.availableReplicas: Invalid value: 1: cannot be greater than status.readyReplicas",
        ],
    );
}

#[test]
fn revisions_hold_data_that_never_changes() {
    let check = |data: Value, expected: &[&str]| {
        let mut revision = json!({"metadata": {"name": "r"}, "data": data, "revision": 1});
        (CONTROLLER_REVISION.strategy.default)(&mut revision);
        let errors = (CONTROLLER_REVISION.strategy.validate_create)(&revision);
        assert_eq!(texts(&errors), expected);
    };
    check(json!({"a": 1}), &[]);
    check(json!(null), &["data: Required value: data is mandatory"]);
    check(
        json!([1]),
        &["data: Required value: data must be a valid JSON object"],
    );
    let (old, new) = (
        json!({"data": {"a": 1}}),
        json!({"data": {"a": 2}, "revision": 2}),
    );
    let errors = (CONTROLLER_REVISION.strategy.validate_update)(&new, &old);
    assert_eq!(
        texts(&errors),
        ["data: Invalid value: {\"a\":2}: field is immutable"]
    );
}

#[test]
fn rows_count_replicas() {
    let mut deployment = stored(&DEPLOYMENT, json!({"replicas": 3}));
    deployment["status"] =
        json!({"readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2});
    let cells = (DEPLOYMENT.cells)(&deployment, 0);
    assert_eq!(cells[..4], [json!("w"), json!("2/3"), json!(1), json!(2)]);
    assert_eq!(cells[5..], [json!("c"), json!("i"), json!("app=a")]);
    for kind in ALL {
        let object = stored(kind, json!({}));
        assert_eq!(
            (kind.cells)(&object, 0).len(),
            kind.columns.len(),
            "{}",
            kind.kind
        );
    }
}

#[test]
fn scales_show_and_set_replicas() {
    let mut deployment = stored(&DEPLOYMENT, json!({"replicas": 3}));
    scale::set(&DEPLOYMENT, &mut deployment, 5);
    let scale = scale::of(&DEPLOYMENT, &deployment).expect("a scale");
    assert_eq!(scale["spec"]["replicas"], 5);
    assert_eq!(scale["status"], json!({"replicas": 0, "selector": "app=a"}));
    assert_eq!(
        scale::of(&DAEMON_SET, &stored(&DAEMON_SET, json!({}))),
        None
    );
}
