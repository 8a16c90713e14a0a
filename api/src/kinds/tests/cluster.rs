//! Namespaces, Nodes, Events, Leases and roles.

use super::*;

#[test]
fn namespaces_carry_their_name_and_finalizer() {
    let kind = &namespace::NAMESPACE;
    let mut found = object(
        kind,
        json!({"metadata": {"name": "shop"}, "status": {"phase": "Odd"}}),
    );
    kind.prepare_create(&mut found);
    assert_eq!(
        found["metadata"]["labels"],
        json!({"kubernetes.io/metadata.name": "shop"})
    );
    assert_eq!(found["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(found["status"], json!({"phase": "Active"}));
    check(
        kind,
        json!({"metadata": {"name": "a.b"}}),
        &["metadata.name: Invalid value: \"a.b\": must not contain dots"],
    );
    check(
        kind,
        json!({"spec": {"finalizers": ["odd"]}}),
        &[
            "spec.finalizers: Invalid value: \"odd\": name is neither a standard finalizer name nor is it fully qualified",
        ],
    );
}

#[test]
fn finalizers_of_namespaces_change_only_through_finalize() {
    let kind = &namespace::NAMESPACE;
    let old = object(kind, json!({"spec": {"finalizers": ["kubernetes"]}}));
    let mut new = object(kind, json!({}));
    kind.prepare_update(&mut new, &old);
    assert_eq!(new["spec"], old["spec"]);
    let mut new = object(kind, json!({}));
    namespace::prepare_finalize(&mut new, &old);
    assert_eq!(new["spec"], json!({}));
    assert_eq!(namespace::validate_finalize(&new, &old), []);
}

#[test]
fn nodes_keep_their_ranges_and_provider() {
    let kind = &node::NODE;
    check(
        kind,
        json!({"spec": {"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"], "taints": [{"key": "a b", "effect": "Odd"}]}}),
        &[
            "metadata.taints[0].key: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "metadata.taints[0].effect: Unsupported value: \"Odd\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one CIDR for each IP family",
        ],
    );
    let spec =
        |range: &str, provider: &str| json!({"spec": {"podCIDR": range, "providerID": provider}});
    check_update(kind, json!({}), spec("10.0.0.0/24", "a://1"), &[]);
    check_update(
        kind,
        spec("10.0.0.0/24", "a://1"),
        spec("10.0.1.0/24", "a://2"),
        &[
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
            "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
        ],
    );
}

#[test]
fn nodes_give_all_they_have_unless_said() {
    let found = object(&node::NODE, json!({"status": {"capacity": {"cpu": "2"}}}));
    assert_eq!(found["status"]["allocatable"], json!({"cpu": "2"}));
}

#[test]
fn events_belong_to_the_namespace_of_their_object() {
    let kind = &event::EVENT;
    check(kind, json!({"involvedObject": {"namespace": "n"}}), &[]);
    check(
        kind,
        json!({"involvedObject": {"namespace": "other"}}),
        &["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"],
    );
}

#[test]
fn new_style_events_say_everything_once() {
    let kind = &event::EVENTS_V1;
    let sound = json!({
        "regarding": {"namespace": "n"}, "eventTime": "2026-01-02T03:04:05.000000Z",
        "reportingController": "example.com/c", "reportingInstance": "c-1",
        "action": "Do", "reason": "Why", "type": "Normal", "note": "x",
    });
    check(kind, sound.clone(), &[]);
    let mut old_fields = sound.clone();
    old_fields["deprecatedCount"] = json!(2);
    old_fields["deprecatedSource"] = json!({"component": "c"});
    check(
        kind,
        old_fields,
        &[
            "count: Invalid value: \"\": needs to be unset",
            "source: Invalid value: \"\": needs to be unset",
        ],
    );
    let mut rewritten = sound.clone();
    rewritten["note"] = json!("y");
    check_update(
        kind,
        sound.clone(),
        rewritten,
        &["message: Invalid value: \"y\": field is immutable"],
    );
    let mut series = sound.clone();
    series["series"] = json!({"count": 1, "lastObservedTime": "2026-01-02T03:04:05.000000Z"});
    check_update(
        kind,
        sound,
        series,
        &["series.count: Invalid value: \"\": should be at least 2"],
    );
}

#[test]
fn both_event_versions_show_one_event() {
    let core = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "n"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "n"}, "message": "m", "count": 2,
        "source": {"component": "c"}, "reportingComponent": "r", "reportingInstance": "", "eventTime": null,
    });
    let view = event::EVENTS_V1.view.as_ref().expect("is a view");
    let mut shown = core.clone();
    (view.from_stored)(&mut shown);
    assert_eq!(shown["apiVersion"], "events.k8s.io/v1");
    assert_eq!(
        (&shown["reportingController"], &shown["reportingInstance"]),
        (&json!("r"), &Value::Null)
    );
    assert_eq!(
        (&shown["note"], &shown["deprecatedCount"]),
        (&json!("m"), &json!(2))
    );
    let cells = |kind: &Kind, event: &Value| (kind.cells)(event, 0);
    assert_eq!(
        cells(&event::EVENTS_V1, &shown),
        cells(&event::EVENT, &core)
    );
    (view.to_stored)(&mut shown);
    assert_eq!(shown, core);
}

#[test]
fn leases_last() {
    let kind = &lease::LEASE;
    check(
        kind,
        json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 40}}),
        &[],
    );
    check(
        kind,
        json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1, "preferredHolder": "b", "strategy": "none"}}),
        &[
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
}

#[test]
fn bindings_point_at_one_role_for_good() {
    let kind = &rbac::CLUSTER_ROLE_BINDING;
    let binding = |role: &str| json!({"roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "name": "u"}]});
    check(kind, binding("view"), &[]);
    check(
        kind,
        json!({"roleRef": {"kind": "Role", "name": ""}, "subjects": [{"kind": "ServiceAccount", "name": "s"}, {"kind": "Robot", "name": "r"}]}),
        &[
            "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
            "roleRef.name: Required value",
            "subjects[0].namespace: Required value",
            "subjects[1].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
        ],
    );
    check_update(
        kind,
        binding("view"),
        binding("admin"),
        &[
            "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"ClusterRole\",\"Name\":\"admin\"}: cannot change roleRef",
        ],
    );
}

#[test]
fn rules_of_roles_name_verbs_and_resources() {
    check(
        &rbac::ROLE,
        json!({"rules": [{"verbs": []}, {"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]}),
        &[
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
            "rules[1].nonResourceURLs: Invalid value: [\"/healthz\"]: namespaced rules cannot apply to non-resource URLs",
        ],
    );
}

#[test]
fn errors_name_events_by_the_version_that_is_stored() {
    let error = field::Error::required(&field::Path::new("eventTime"), "");
    let status = crate::status::Status::invalid(&event::EVENTS_V1, "e", &[error]);
    assert_eq!(
        status.message,
        "Event \"e\" is invalid: eventTime: Required value"
    );
}
