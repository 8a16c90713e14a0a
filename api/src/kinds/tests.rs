//! The registry as a whole, and the kinds that are too small for tests of their own.

use serde_json::{Value, json};

use super::*;

/// An object of the kind as it is after decoding and defaulting, with a name and its namespace.
fn object(kind: &Kind, body: Value) -> Value {
    let decoded = crate::decode::json(kind, body.to_string().as_bytes());
    let mut object = decoded
        .map(|d| d.object)
        .unwrap_or_else(|e| panic!("{}", e.message));
    if meta::name(&object).is_empty() {
        meta::set(&mut object, "name", "a");
    }
    if kind.is_namespaced() {
        meta::set(&mut object, "namespace", "n");
    }
    meta::set(&mut object, "resourceVersion", "1");
    (kind.strategy.default)(&mut object);
    object
}

#[track_caller]
fn check(kind: &Kind, body: Value, expected: &[&str]) {
    let mut object = object(kind, body);
    kind.prepare_create(&mut object);
    let errors = kind.validate_create(&object);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, expected);
}

#[track_caller]
fn check_update(kind: &Kind, old: Value, new: Value, expected: &[&str]) {
    let (old, mut new) = (object(kind, old), object(kind, new));
    kind.prepare_update(&mut new, &old);
    let errors = kind.validate_update(&new, &old);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, expected);
}

#[test]
fn kinds_are_found_by_path_and_by_name() {
    for kind in ALL {
        let found = by_resource(kind.group, kind.version, kind.plural).expect("is served");
        assert!(std::ptr::eq(found, *kind));
        let found = by_kind(kind.group, kind.version, kind.kind).expect("is served");
        assert!(std::ptr::eq(found, *kind));
    }
    assert!(by_resource("", "v2", "services").is_none());
}

#[test]
fn groups_stand_together_and_their_kinds_in_order() {
    let mut groups: Vec<&str> = ALL.iter().map(|kind| kind.group).collect();
    groups.dedup();
    let together = groups.len();
    groups.sort_unstable();
    groups.dedup();
    assert_eq!(groups.len(), together);
    for pair in ALL.windows(2) {
        if let [before, after] = pair
            && before.group == after.group
        {
            assert!(
                before.plural < after.plural,
                "{} {}",
                before.plural,
                after.plural
            );
        }
    }
}

#[test]
fn short_names_mean_one_kind() {
    let mut seen = std::collections::BTreeMap::new();
    for kind in ALL {
        for name in kind.short_names {
            let other = seen.insert(name, kind.stored().kind);
            assert!(
                other.is_none_or(|other| other == kind.stored().kind),
                "{name}"
            );
        }
    }
}

#[test]
fn validation_survives_objects_of_any_shape() {
    let odd = [
        json!({}),
        json!({"spec": null, "status": 1, "metadata": {"labels": [], "annotations": "x"}}),
        json!({"spec": {"ports": {"a": 1}, "clusterIPs": 5, "podCIDRs": [1]}, "subsets": [null, {"ports": [3]}]}),
        json!({"endpoints": ["x"], "ports": 9, "data": [1], "rules": [7], "roleRef": "r", "subjects": [[]]}),
    ];
    for kind in ALL {
        for old in &odd {
            for new in &odd {
                let mut new = new.clone();
                (kind.strategy.default)(&mut new);
                kind.prepare_create(&mut new);
                kind.validate_create(&new);
                kind.prepare_update(&mut new, old);
                kind.validate_update(&new, old);
                kind.prepare_status(&mut new, old);
                kind.validate_status(&new, old);
                (kind.strategy.warnings)(&new, Some(old));
                (kind.strategy.status_warnings)(&new, old);
                (kind.cells)(&new, 0);
            }
        }
    }
}

#[test]
fn config_maps_hold_files() {
    let kind = &configmap::CONFIG_MAP;
    check(
        kind,
        json!({"data": {"a": "1"}, "binaryData": {"b": "AA=="}}),
        &[],
    );
    check(
        kind,
        json!({"data": {"..": "1", "b": "2"}, "binaryData": {"b": "AA=="}}),
        &[
            "data[..]: Invalid value: \"..\": must not be '..'",
            "data[b]: Invalid value: \"b\": duplicate of key present in binaryData",
        ],
    );
    check(
        kind,
        json!({"data": {"a": "x".repeat(1024 * 1024), "b": "y"}}),
        &["[]: Too long: may not be more than 1048576 bytes"],
    );
}

#[test]
fn what_is_immutable_stays() {
    let before = json!({"immutable": true, "data": {"a": "MQ=="}});
    let fixed =
        |field: &str| format!("{field}: Forbidden: field is immutable when `immutable` is set");
    for kind in [&configmap::CONFIG_MAP, &secret::SECRET] {
        check_update(kind, before.clone(), before.clone(), &[]);
        check_update(
            kind,
            before.clone(),
            json!({"data": {"a": "Mg=="}}),
            &[&fixed("immutable"), &fixed("data")],
        );
    }
}

#[test]
fn secrets_of_known_types_have_their_keys() {
    let kind = &secret::SECRET;
    let required = |key: &str| format!("data[{key}]: Required value");
    check(kind, json!({"type": "example.com/any"}), &[]);
    check(
        kind,
        json!({"type": "kubernetes.io/tls"}),
        &[&required("tls.crt"), &required("tls.key")],
    );
    check(
        kind,
        json!({"type": "kubernetes.io/basic-auth"}),
        &[&required("username"), &required("password")],
    );
    check(
        kind,
        json!({"type": "kubernetes.io/basic-auth", "stringData": {"username": "u"}}),
        &[],
    );
    check(
        kind,
        json!({"type": "kubernetes.io/ssh-auth"}),
        &[&required("ssh-privatekey")],
    );
    check(
        kind,
        json!({"type": "kubernetes.io/service-account-token"}),
        &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
    );
    check(
        kind,
        json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{"}}),
        &[
            "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": unexpected end of JSON input",
        ],
    );
    check_update(
        kind,
        json!({"type": "a"}),
        json!({"type": "b"}),
        &["type: Invalid value: \"b\": field is immutable"],
    );
}

#[test]
fn texts_of_secrets_become_data() {
    let found = object(
        &secret::SECRET,
        json!({"data": {"a": "MQ==", "b": "Mg=="}, "stringData": {"b": "two"}}),
    );
    assert_eq!(found["data"], json!({"a": "MQ==", "b": "dHdv"}));
    assert_eq!(found["stringData"], Value::Null);
    assert_eq!(found["type"], "Opaque");
}

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
fn endpoints_have_addresses_that_lead_somewhere() {
    let kind = &endpoints::ENDPOINTS;
    check(
        kind,
        json!({"subsets": [{"addresses": [{"ip": "192.0.2.1"}]}]}),
        &[],
    );
    check(
        kind,
        json!({"subsets": [
            {},
            {"notReadyAddresses": [{"ip": "::1"}], "ports": [{"port": 1}, {"name": "b", "port": 0, "protocol": "X"}]},
        ]}),
        &[
            "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
            "subsets[1].notReadyAddresses[0].ip: Invalid value: \"::1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            "subsets[1].ports[0].name: Required value",
            "subsets[1].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "subsets[1].ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ],
    );
}

#[test]
fn slices_hold_addresses_of_their_type() {
    let kind = &endpointslice::ENDPOINT_SLICE;
    let slice = |family: &str, address: &str| json!({"addressType": family, "endpoints": [{"addresses": [address]}]});
    check(kind, slice("IPv4", "192.0.2.1"), &[]);
    check(kind, slice("IPv6", "fd00::1"), &[]);
    check(kind, slice("FQDN", "a.example"), &[]);
    check(
        kind,
        slice("IPv4", "fd00::1"),
        &["endpoints[0].addresses: Invalid value: \"fd00::1\": must be an IPv4 address"],
    );
    check(
        kind,
        slice("IPv6", "FD00::1"),
        &[
            "endpoints[0].addresses[0]: Invalid value: \"FD00::1\": must be in canonical form (\"fd00::1\")",
        ],
    );
    check(
        kind,
        slice("Name", "anything"),
        &[
            "addressType: Unsupported value: \"Name\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
        ],
    );
    check(
        kind,
        json!({"addressType": "IPv4", "endpoints": [{"addresses": []}], "ports": [{"port": 1}, {"port": 2}]}),
        &[
            "ports[1].name: Duplicate value: \"\"",
            "endpoints[0].addresses: Required value: must contain at least 1 address",
        ],
    );
    let many = vec![json!({"addresses": ["192.0.2.1"]}); 1001];
    check(
        kind,
        json!({"addressType": "IPv4", "endpoints": many}),
        &["endpoints: Too many: 1001: must have at most 1000 items"],
    );
}

#[test]
fn slices_keep_their_type_and_count_their_changes() {
    let kind = &endpointslice::ENDPOINT_SLICE;
    let slice = |family: &str| json!({"addressType": family, "endpoints": []});
    check_update(
        kind,
        slice("IPv4"),
        slice("IPv6"),
        &["addressType: Invalid value: \"IPv6\": field is immutable"],
    );
    let mut old = object(kind, slice("IPv4"));
    kind.prepare_create(&mut old);
    assert_eq!(meta::generation(&old), 1);
    let mut labelled = old.clone();
    meta::set(&mut labelled, "labels", json!({"a": "b"}));
    kind.prepare_update(&mut labelled, &old);
    assert_eq!(meta::generation(&labelled), 2);
    let mut annotated = old.clone();
    meta::set(&mut annotated, "annotations", json!({"a": "b"}));
    kind.prepare_update(&mut annotated, &old);
    assert_eq!(meta::generation(&annotated), 1);
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
fn new_nodes_take_no_pods_yet() {
    let kind = &node::NODE;
    let mut found = object(kind, json!({"status": {"capacity": {"cpu": "2"}}}));
    kind.prepare_create(&mut found);
    let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    assert_eq!(found["spec"]["taints"], json!([taint]));
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
        "source": {"component": "c"}, "reportingComponent": "r", "eventTime": null,
    });
    let view = event::EVENTS_V1.view.as_ref().expect("is a view");
    let mut shown = core.clone();
    (view.from_stored)(&mut shown);
    assert_eq!(shown["apiVersion"], "events.k8s.io/v1");
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
        json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1, "preferredHolder": "b"}}),
        &[
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
        ],
    );
}

#[test]
fn addresses_are_named_by_themselves_and_held_by_someone() {
    let kind = &networking::IP_ADDRESS;
    let held = json!({"metadata": {"name": "10.0.128.5"}, "spec": {"parentRef": {"resource": "services", "name": "web", "namespace": "n"}}});
    check(kind, held.clone(), &[]);
    check(
        kind,
        json!({"metadata": {"name": "FD00::1"}, "spec": {}}),
        &[
            "metadata.name: Invalid value: \"FD00::1\": must be in canonical form (\"fd00::1\")",
            "spec.parentRef: Required value",
        ],
    );
    let mut moved = held.clone();
    moved["spec"]["parentRef"]["name"] = json!("shop");
    check_update(
        kind,
        held,
        moved,
        &[
            "spec.parentRef: Invalid value: {\"Group\":\"\",\"Resource\":\"services\",\"Namespace\":\"n\",\"Name\":\"shop\"}: field is immutable",
        ],
    );
}

#[test]
fn service_ranges_stay_and_may_gain_a_second_family() {
    let kind = &networking::SERVICE_CIDR;
    let ranges = |ranges: &[&str]| json!({"spec": {"cidrs": ranges}});
    check(kind, ranges(&["10.0.128.0/17", "fd00::/112"]), &[]);
    check(
        kind,
        ranges(&[]),
        &["spec.cidrs: Required value: at least one CIDR required"],
    );
    check(
        kind,
        ranges(&["10.0.0.1/24", "10.1.0.0/24"]),
        &[
            "spec.cidrs[0]: Invalid value: \"10.0.0.1/24\": must not have bits set beyond the prefix length",
            "spec.cidrs: Invalid value: [\"10.0.0.1/24\",\"10.1.0.0/24\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ],
    );
    check_update(
        kind,
        ranges(&["10.0.0.0/24"]),
        ranges(&["10.0.0.0/24", "fd00::/112"]),
        &[],
    );
    check_update(
        kind,
        ranges(&["10.0.0.0/24"]),
        ranges(&["10.1.0.0/24"]),
        &["spec.cidrs[0]: Invalid value: \"10.1.0.0/24\": field is immutable"],
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
fn updates_list_metadata_errors_as_often_as_they_are_checked() {
    let bad = json!({"metadata": {"labels": {"a b": "c"}}});
    let count = |kind: &Kind| {
        let (old, mut new) = (object(kind, json!({})), object(kind, bad.clone()));
        kind.prepare_update(&mut new, &old);
        kind.validate_update(&new, &old).len()
    };
    assert_eq!(count(&lease::LEASE), 3);
    assert_eq!(count(&configmap::CONFIG_MAP), 4);
}
