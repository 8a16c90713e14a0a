mod sources;

use serde_json::{Value, json};

use super::POD;
use crate::{field::Error, kinds::pod::update, walk};

/// A pod as it is stored, from its spec alone.
fn stored(spec: Value) -> Value {
    let mut pod = json!({
        "metadata": {
            "name": "p",
            "namespace": "n",
            "uid": "u",
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-02T03:04:05Z",
        },
        "spec": spec,
    });
    (POD.strategy.default)(&mut pod);
    POD.prepare_create(&mut pod);
    pod
}

fn texts(errors: &[Error]) -> Vec<String> {
    errors.iter().map(Error::to_string).collect()
}

fn refuses(spec: Value, expected: &[&str]) {
    let pod = stored(spec);
    assert_eq!(texts(&POD.validate_create(&pod)), expected, "{pod}");
}

/// A spec with one container, and these fields in it.
fn with_container(fields: Value) -> Value {
    let mut container = json!({"name": "c", "image": "a"});
    for (name, value) in walk::entries(&json!({"fields": fields}), "fields") {
        container[name] = value.clone();
    }
    json!({"containers": [container]})
}

fn with_spec(fields: Value) -> Value {
    let mut spec = with_container(json!({}));
    for (name, value) in walk::entries(&json!({"fields": fields}), "fields") {
        spec[name] = value.clone();
    }
    spec
}

#[test]
fn a_small_pod_gets_its_defaults() {
    let pod = stored(
        json!({"containers": [{"name": "c", "image": "a:1", "ports": [{"containerPort": 1}]}]}),
    );
    assert_eq!(
        pod["spec"],
        json!({
            "containers": [{
                "name": "c",
                "image": "a:1",
                "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": 1, "protocol": "TCP"}],
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": true,
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
        })
    );
    assert_eq!(
        pod["status"],
        json!({"phase": "Pending", "qosClass": "BestEffort"})
    );
    assert_eq!(pod["metadata"]["generation"], 1);
}

#[test]
fn defaults_reach_into_probes_volumes_and_variables() {
    let pod = stored(json!({
        "hostNetwork": true,
        "containers": [{
            "name": "c", "image": "a",
            "ports": [{"containerPort": 80}],
            "env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "readinessProbe": {"httpGet": {"port": 80}},
        }],
        "volumes": [{"name": "e"}, {"name": "s", "secret": {"secretName": "x"}}],
    }));
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["ports"][0]["hostPort"], 80);
    assert_eq!(
        container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"],
        "v1"
    );
    assert_eq!(
        container["readinessProbe"],
        json!({
            "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
            "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
        })
    );
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "e", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}])
    );
}

#[test]
fn amounts_are_canonical_and_limits_stand_in_for_requests() {
    let limits = json!({"cpu": "1000m", "memory": "1024Mi"});
    let pod = stored(with_container(json!({"resources": {"limits": limits}})));
    let canonical = json!({"cpu": "1", "memory": "1Gi"});
    assert_eq!(
        pod["spec"]["containers"][0]["resources"],
        json!({"limits": canonical, "requests": canonical})
    );
    assert_eq!(pod["status"]["qosClass"], "Guaranteed");
    let some = json!({"resources": {"requests": {"cpu": 1}}});
    assert_eq!(
        stored(with_container(some))["status"]["qosClass"],
        "Burstable"
    );
}

#[test]
fn a_command_needs_no_image_but_something_has_to_run() {
    refuses(
        json!({"containers": [{"name": "c", "command": ["sh"]}]}),
        &[],
    );
    refuses(json!({"containers": [{"name": "c", "image": "host"}]}), &[]);
    refuses(
        json!({"containers": [{"name": "c", "args": ["x"]}]}),
        &["spec.containers[0].image: Required value"],
    );
    refuses(json!({}), &["spec.containers: Required value"]);
}

#[test]
fn ports_are_numbers_with_names_of_their_own() {
    let port = |fields: Value| {
        with_container(
            json!({"ports": [{"containerPort": 80, "hostPort": 1, "name": "a"}, fields]}),
        )
    };
    refuses(port(json!({"containerPort": 80, "hostPort": 2})), &[]);
    refuses(
        port(json!({"containerPort": 80, "hostPort": 1, "name": "a"})),
        &[
            "spec.containers[0].ports[1].name: Duplicate value: \"a\"",
            "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//1\"",
        ],
    );
    refuses(
        port(json!({"containerPort": 65536, "protocol": "ICMP"})),
        &[
            "spec.containers[0].ports[1].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[1].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ],
    );
}

#[test]
fn variables_have_one_source() {
    let variable = |fields: Value| with_container(json!({"env": [fields]}));
    refuses(
        variable(json!({"name": "A", "valueFrom": {}})),
        &[
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ],
    );
    let key = json!({"name": "m", "key": "k"});
    refuses(
        variable(json!({"name": "A", "value": "x", "valueFrom": {"secretKeyRef": key}})),
        &[
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ],
    );
    refuses(
        variable(json!({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}})),
        &[
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
        ],
    );
    refuses(
        variable(
            json!({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a b']"}}}),
        ),
        &[
            "spec.containers[0].env[0].valueFrom.fieldRef: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ],
    );
}

#[test]
fn volumes_have_one_source_and_mounts_a_volume() {
    let volume = |fields: Value| with_spec(json!({"volumes": [fields]}));
    refuses(
        volume(json!({"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}})),
        &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
    );
    refuses(
        volume(json!({"name": "V", "configMap": {"items": [{"key": "a", "path": "../b"}]}})),
        &[
            "spec.volumes[0].configMap.name: Required value",
            "spec.volumes[0].configMap.items[0].path: Invalid value: \"../b\": must not contain '..'",
            "spec.volumes[0].name: Invalid value: \"V\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
    let mounts = json!([{"name": "v", "mountPath": "/x"}, {"name": "v", "mountPath": "/x"}]);
    let mut spec = with_container(json!({"volumeMounts": mounts}));
    spec["volumes"] = json!([{"name": "v"}]);
    refuses(
        spec,
        &["spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique"],
    );
}

#[test]
fn init_containers_may_not_probe_unless_they_stay() {
    let init = |policy: Value| {
        let container = json!({"name": "i", "image": "a", "restartPolicy": policy, "livenessProbe": {"exec": {"command": ["x"]}}});
        with_spec(json!({"initContainers": [container]}))
    };
    refuses(init(json!("Always")), &[]);
    refuses(
        init(json!(null)),
        &[
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ],
    );
}

#[test]
fn affinity_and_tolerations_speak_of_labels_and_taints() {
    let term = json!({"matchExpressions": [{"key": "a", "operator": "In"}]});
    refuses(
        with_spec(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}),
        ),
        &[
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ],
    );
    refuses(
        with_spec(json!({"tolerations": [{"value": "x", "tolerationSeconds": 1}]})),
        &[
            "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            "spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
        ],
    );
    refuses(
        with_spec(
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "Never"}]}),
        ),
        &[
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Never\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
        ],
    );
}

#[test]
fn resource_names_are_standard_or_belong_to_a_domain() {
    let limits = |amounts: Value| with_container(json!({"resources": {"limits": amounts}}));
    refuses(limits(json!({"example.com/gpu": "2", "cpu": "1"})), &[]);
    refuses(
        limits(json!({"gpu": "1"})),
        &[
            "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
            "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
        ],
    );
    refuses(
        with_container(json!({"resources": {"requests": {"hugepages-2Mi": "3Mi"}}})),
        &[
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
            "spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
            "spec.containers[0].resources: Forbidden: HugePages require cpu or memory",
        ],
    );
}

fn updated(old: &Value, change: impl FnOnce(&mut Value)) -> Result<Value, Vec<String>> {
    let mut new = old.clone();
    change(&mut new);
    (POD.strategy.default)(&mut new);
    POD.prepare_update(&mut new, old);
    match texts(&POD.validate_update(&new, old)) {
        errors if errors.is_empty() => Ok(new),
        errors => Err(errors),
    }
}

#[test]
fn images_deadlines_and_tolerations_may_change() {
    let old = stored(with_container(json!({})));
    let new = updated(&old, |pod| {
        pod["spec"]["containers"][0]["image"] = json!("b");
        pod["spec"]["activeDeadlineSeconds"] = json!(5);
        pod["spec"]["tolerations"] = json!([{"key": "a", "operator": "Exists"}]);
    });
    assert_eq!(
        new.map(|pod| pod["metadata"]["generation"].clone()),
        Ok(json!(2))
    );
    let labelled = updated(&old, |pod| pod["metadata"]["labels"] = json!({"a": "b"}));
    assert_eq!(
        labelled.map(|pod| pod["metadata"]["generation"].clone()),
        Ok(json!(1))
    );
}

#[test]
fn anything_else_is_shown_as_a_difference() {
    let old = stored(with_container(json!({})));
    let errors =
        updated(&old, |pod| pod["spec"]["hostname"] = json!("other")).expect_err("refused");
    let [error] = &errors[..] else {
        panic!("one error, not {errors:?}");
    };
    assert!(error.starts_with(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    ));
    let (_, diff) = error.split_once('\n').expect("a diff");
    let changed: Vec<&str> = diff
        .lines()
        .filter(|line| line.starts_with(['-', '+']))
        .collect();
    assert_eq!(
        changed,
        ["- \"Hostname\": \"\",", "+ \"Hostname\": \"other\","],
        "{diff}"
    );
    assert!(diff.contains("\n  \"ImagePullSecrets\": null,\n"), "{diff}");
}

#[test]
fn containers_may_not_come_or_go() {
    let old = stored(with_container(json!({})));
    let errors = updated(&old, |pod| {
        pod["spec"]["containers"] =
            json!([{"name": "c", "image": "a"}, {"name": "d", "image": "a"}]);
    });
    assert_eq!(
        errors,
        Err(vec![
            "spec.containers: Forbidden: pod updates may not add or remove containers".into()
        ])
    );
}

#[test]
fn gates_only_go_and_selectors_only_narrow_while_they_last() {
    let old = stored(with_spec(
        json!({"schedulingGates": [{"name": "a"}], "nodeSelector": {"x": "y"}}),
    ));
    assert_eq!(old["status"]["conditions"][0]["reason"], "SchedulingGated");
    assert!(updated(&old, |pod| pod["spec"]["nodeSelector"]["z"] = json!("1")).is_ok());
    assert!(updated(&old, |pod| pod["spec"]["schedulingGates"] = json!([])).is_ok());
    assert_eq!(
        updated(&old, |pod| pod["spec"]["schedulingGates"] = json!([{"name": "a"}, {"name": "b"}])),
        Err(vec!["spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'b'".into()])
    );
    assert_eq!(
        updated(&old, |pod| pod["spec"]["nodeSelector"] = json!({"x": "z"})),
        Err(vec!["spec.nodeSelector: Invalid value: {\"x\":\"z\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)".into()])
    );
}

#[test]
fn resizing_changes_amounts_of_cpu_and_memory_only() {
    let amounts = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
    let old = stored(with_container(amounts("1")));
    let resized = |resources: Value| {
        let mut new = old.clone();
        new["spec"]["containers"][0]["resources"] = resources;
        new["spec"]["containers"][0]["image"] = json!("dropped");
        update::prepare_resize(&mut new, &old);
        assert_eq!(new["spec"]["containers"][0]["image"], "a");
        texts(&update::validate_resize(&new, &old))
    };
    assert_eq!(resized(amounts("2")["resources"].clone()), [""; 0]);
    assert_eq!(
        resized(json!({"requests": {"memory": "1Mi"}})),
        ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]
    );
    assert_eq!(
        resized(json!({})),
        [
            "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
        ]
    );
}

fn status_written(old: &Value, status: Value) -> (Value, Vec<String>) {
    let mut new = old.clone();
    new["status"] = status;
    new["spec"]["hostname"] = json!("dropped");
    POD.prepare_status(&mut new, old);
    let errors = texts(&POD.validate_status(&new, old));
    (new, errors)
}

#[test]
fn status_keeps_the_spec_and_fills_in_addresses() {
    let old = stored(with_container(json!({})));
    let (new, errors) = status_written(&old, json!({"phase": "Running", "podIP": "10.0.0.1"}));
    assert_eq!(errors, [""; 0]);
    assert!(new["spec"]["hostname"].is_null());
    assert_eq!(new["status"]["podIPs"], json!([{"ip": "10.0.0.1"}]));
    assert_eq!(new["status"]["qosClass"], "BestEffort");
    let (_, errors) = status_written(
        &old,
        json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}),
    );
    assert_eq!(
        errors,
        [
            "status.podIPs: Invalid value: [{\"IP\":\"10.0.0.1\"},{\"IP\":\"10.0.0.2\"}]: may specify no more than one IP for each IP family"
        ]
    );
}

#[test]
fn what_has_ended_for_good_stays_ended() {
    let check = |policy: &str, exit_code: i64, expected: &[&str]| {
        let mut old = stored(with_spec(json!({"restartPolicy": policy})));
        old["status"]["containerStatuses"] =
            json!([{"name": "c", "state": {"terminated": {"exitCode": exit_code}}}]);
        let revived = json!({"containerStatuses": [{"name": "c", "state": {"running": {}}}]});
        assert_eq!(
            status_written(&old, revived).1,
            expected,
            "{policy} {exit_code}"
        );
    };
    let refused = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state";
    check("Always", 0, &[]);
    check("OnFailure", 1, &[]);
    check("OnFailure", 0, &[refused]);
    check("Never", 1, &[refused]);
}

#[test]
fn pods_without_a_node_need_no_grace() {
    let grace = |fields: Value| {
        let pod = stored(with_spec(fields));
        POD.strategy.grace_seconds.map(|seconds| seconds(&pod))
    };
    assert_eq!(grace(json!({})), Some(0));
    assert_eq!(grace(json!({"nodeName": "n"})), Some(30));
    assert_eq!(
        grace(json!({"nodeName": "n", "terminationGracePeriodSeconds": -1})),
        Some(1)
    );
}

#[test]
fn odd_but_legal_pods_are_warned_of() {
    let check = |spec: Value, expected: &[&str]| {
        assert_eq!((POD.strategy.warnings)(&stored(spec), None), expected);
    };
    check(with_container(json!({})), &[]);
    check(
        with_container(json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]})),
        &[
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
        ],
    );
    check(
        with_container(json!({"ports": [{"containerPort": 1}, {"containerPort": 1}]})),
        &[
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        ],
    );
    check(
        with_container(json!({"resources": {"limits": {"memory": "1500m"}}})),
        &[
            "spec.containers[0].resources.limits[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
            "spec.containers[0].resources.requests[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
        ],
    );
    check(
        with_spec(json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}})),
        &[
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
        ],
    );
}

#[test]
fn hostile_shapes_do_not_panic() {
    for spec in [
        json!(null),
        json!([]),
        json!("spec"),
        json!({"containers": {}, "volumes": 3, "securityContext": [], "affinity": "x"}),
        json!({"containers": [null, 1, {"ports": [null], "env": {}, "resources": {"limits": []}}]}),
        json!({"containers": [{"livenessProbe": 1, "lifecycle": {"preStop": []}}], "volumes": [null, {"projected": {"sources": [1]}}]}),
    ] {
        let pod = stored(spec);
        POD.validate_create(&pod);
        POD.validate_update(&pod, &pod);
        POD.validate_status(&pod, &pod);
        (POD.cells)(&pod, 0);
        (POD.strategy.warnings)(&pod, None);
    }
}
