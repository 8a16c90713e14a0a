use super::*;

fn with_port(fields: Value) -> Value {
    let mut spec = json!({"ports": [{"port": 80}]});
    let map = crate::value::of_object(&mut spec);
    for (field, value) in fields.as_object().into_iter().flatten() {
        map.insert(field.clone(), value.clone());
    }
    spec
}

#[track_caller]
fn refused(spec: Value, expected: &[&str]) {
    check_refused(created(spec, &IPV4_ONLY), expected);
}

#[test]
fn defaults_fill_in_what_is_not_said() {
    check_stored(
        created(
            json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 53, "protocol": "UDP", "targetPort": "dns"}]}),
            &IPV4_ONLY,
        ),
        json!({
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "clusterIP": "10.0.128.9", "clusterIPs": ["10.0.128.9"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [
                {"name": "a", "port": 80, "protocol": "TCP", "targetPort": 80},
                {"name": "b", "port": 53, "protocol": "UDP", "targetPort": "dns"},
            ],
        }),
    );
}

#[test]
fn what_type_adds_follows_the_type() {
    let check = |spec: Value, field: &str, expected: Value| {
        let found = service(spec);
        assert_eq!(found["spec"][field], expected, "{field}");
    };
    check(
        with_port(json!({"type": "NodePort"})),
        "externalTrafficPolicy",
        json!("Cluster"),
    );
    check(
        with_port(json!({"externalIPs": ["192.0.2.1"]})),
        "externalTrafficPolicy",
        json!("Cluster"),
    );
    check(with_port(json!({})), "externalTrafficPolicy", Value::Null);
    check(
        with_port(json!({"type": "LoadBalancer"})),
        "allocateLoadBalancerNodePorts",
        json!(true),
    );
    check(
        with_port(json!({"type": "NodePort"})),
        "allocateLoadBalancerNodePorts",
        Value::Null,
    );
    check(
        json!({"type": "ExternalName"}),
        "internalTrafficPolicy",
        Value::Null,
    );
}

#[test]
fn affinity_settings_exist_only_with_affinity() {
    let config = |spec: Value| service(with_port(spec))["spec"]["sessionAffinityConfig"].clone();
    let three_hours = json!({"clientIP": {"timeoutSeconds": 10_800}});
    assert_eq!(config(json!({"sessionAffinity": "ClientIP"})), three_hours);
    assert_eq!(
        config(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {}}})),
        three_hours
    );
    assert_eq!(
        config(json!({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}})),
        Value::Null
    );
    for seconds in [0, 86_401] {
        refused(
            with_port(
                json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}}),
            ),
            &[&format!(
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: {seconds}: must be greater than 0 and less than 86400"
            )],
        );
    }
    refused(
        with_port(json!({"sessionAffinity": "Sticky"})),
        &[
            "spec.sessionAffinity: Unsupported value: \"Sticky\": supported values: \"ClientIP\", \"None\"",
        ],
    );
}

#[test]
fn ports_are_needed_unless_there_is_no_address() {
    refused(json!({}), &["spec.ports: Required value"]);
    assert!(created(json!({"clusterIP": "None"}), &IPV4_ONLY).is_ok());
    assert!(
        created(
            json!({"type": "ExternalName", "externalName": "a.example"}),
            &IPV4_ONLY
        )
        .is_ok()
    );
}

#[test]
fn ports_are_judged_one_by_one_and_then_together() {
    refused(
        json!({"ports": [
            {"port": 0, "targetPort": "Bad_Name"},
            {"name": "a", "port": 70_000, "protocol": "ICMP", "targetPort": 1},
            {"name": "a", "port": 5, "nodePort": 30_001},
            {"name": "c", "port": 5, "nodePort": 30_001},
        ]}),
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].targetPort: Invalid value: \"Bad_Name\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            "spec.ports[1].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.ports[1].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            "spec.ports[2].name: Duplicate value: \"a\"",
            "spec.ports[2].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            "spec.ports[3].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            "spec.ports[3].nodePort: Duplicate value: 30001",
            "spec.ports[3]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":5,\"TargetPort\":0,\"NodePort\":0}",
        ],
    );
}

#[test]
fn one_port_may_serve_two_protocols() {
    let spec = json!({"ports": [
        {"name": "a", "port": 53, "protocol": "UDP"},
        {"name": "b", "port": 53, "protocol": "TCP"},
    ]});
    assert!(created(spec, &IPV4_ONLY).is_ok());
}

#[test]
fn types_have_fields_of_their_own() {
    refused(
        with_port(json!({"type": "Cluster"})),
        &[
            "spec.type: Unsupported value: \"Cluster\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ],
    );
    refused(
        with_port(json!({"type": "NodePort", "clusterIP": "None"})),
        &[
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
        ],
    );
    refused(
        json!({"type": "ExternalName", "externalName": "a_b", "clusterIP": "10.0.128.1", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}),
        &[
            "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
            "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
            "spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services",
            "spec.externalName: Invalid value: \"a_b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ],
    );
    refused(
        with_port(
            json!({"loadBalancerClass": "x", "allocateLoadBalancerNodePorts": true, "loadBalancerSourceRanges": ["10.0.0.0/8"], "externalTrafficPolicy": "Local", "healthCheckNodePort": 30_002}),
        ),
        &[
            "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
            "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
            "spec.healthCheckNodePort: Invalid value: 30002: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ],
    );
}

#[test]
fn policies_are_from_short_lists() {
    refused(
        with_port(
            json!({"type": "NodePort", "externalTrafficPolicy": "Near", "internalTrafficPolicy": "", "trafficDistribution": "PreferFar"}),
        ),
        &[
            "spec.externalTrafficPolicy: Unsupported value: \"Near\": supported values: \"Cluster\", \"Local\"",
            "spec.internalTrafficPolicy: Unsupported value: \"\": supported values: \"Cluster\", \"Local\"",
            "spec.trafficDistribution: Unsupported value: \"PreferFar\": supported values: \"PreferClose\", \"PreferSameZone\", \"PreferSameNode\"",
        ],
    );
}

#[test]
fn source_ranges_may_stand_in_an_annotation() {
    let mut spec = with_port(
        json!({"type": "LoadBalancer", "loadBalancerSourceRanges": [" 10.0.0.0/8 ", "10.0.0.1/8"]}),
    );
    refused(
        spec.clone(),
        &[
            "spec.LoadBalancerSourceRanges[1]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
        ],
    );
    crate::value::of_object(&mut spec).remove("loadBalancerSourceRanges");
    let mut annotated = created(spec, &IPV4_ONLY).expect("is valid");
    let key = "service.beta.kubernetes.io/load-balancer-source-ranges";
    meta::set(
        &mut annotated,
        "annotations",
        json!({key: "10.0.0.0/8, nowhere"}),
    );
    assert_eq!(
        texts_of(&SERVICE.validate_create(&annotated)),
        [format!(
            "metadata.annotations[{key}]: Invalid value: \"nowhere\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        )],
    );
}

#[test]
fn requested_addresses_must_agree() {
    for (fields, expected) in [
        (
            json!({"clusterIPs": ["10.0.128.7"]}),
            "spec.clusterIPs: Invalid value: [\"10.0.128.7\"]: must be empty when `clusterIP` is not specified",
        ),
        (
            json!({"clusterIP": "10.0.128.7", "clusterIPs": ["10.0.128.8"]}),
            "spec.clusterIPs: Invalid value: [\"10.0.128.8\"]: first value must match `clusterIP`",
        ),
        (
            json!({"clusterIP": "10.0.128.07"}),
            "spec.clusterIPs[0]: Invalid value: \"10.0.128.07\": must not have leading 0s",
        ),
        (
            json!({"clusterIP": "10.0.128.7", "ipFamilies": ["IPv6"]}),
            "spec.clusterIPs[0]: Invalid value: \"10.0.128.7\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv5"], "ipFamilyPolicy": "PreferDualStack"}),
            "spec.ipFamilies[1]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
        ),
        (
            json!({"ipFamilies": ["IPv6"]}),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv6"]}),
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
        ),
    ] {
        refused(with_port(fields), &[expected]);
    }
}

#[test]
fn families_follow_from_what_is_known() {
    let check = |fields: Value, families: &Families, expected: (Value, Value)| {
        let stored = created(with_port(fields), families).expect("is valid");
        let spec = &stored["spec"];
        assert_eq!(
            (spec["ipFamilies"].clone(), spec["clusterIPs"].clone()),
            expected
        );
    };
    let both = json!(["IPv4", "IPv6"]);
    check(
        json!({}),
        &DUAL_STACK,
        (json!(["IPv4"]), json!(["10.0.128.9"])),
    );
    check(
        json!({"ipFamilyPolicy": "PreferDualStack"}),
        &IPV4_ONLY,
        (json!(["IPv4"]), json!(["10.0.128.9"])),
    );
    check(
        json!({"ipFamilyPolicy": "PreferDualStack"}),
        &DUAL_STACK,
        (both.clone(), json!(["10.0.128.9", "fd00::9"])),
    );
    check(
        json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}),
        &DUAL_STACK,
        (json!(["IPv6", "IPv4"]), json!(["fd00::9", "10.0.128.9"])),
    );
    check(
        json!({"clusterIP": "fd00::7"}),
        &DUAL_STACK,
        (json!(["IPv6"]), json!(["fd00::7"])),
    );
    check(
        json!({"clusterIP": "None"}),
        &IPV4_ONLY,
        (both, json!(["None"])),
    );
    check(
        json!({"clusterIP": "None", "selector": {"a": "b"}}),
        &IPV4_ONLY,
        (json!(["IPv4"]), json!(["None"])),
    );
}

#[test]
fn external_addresses_lead_outside() {
    refused(
        with_port(json!({"externalIPs": ["127.0.0.1", "192.0.2.01", "host"]})),
        &[
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            "spec.externalIPs[1]: Invalid value: \"192.0.2.01\": must not have leading 0s",
            "spec.externalIPs[2]: Invalid value: \"host\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ],
    );
}

#[test]
fn an_unused_traffic_policy_is_kept() {
    let name = |policy: &str| {
        let spec = json!({"type": "ExternalName", "externalName": "a.example", "internalTrafficPolicy": policy});
        created(spec, &IPV4_ONLY)
    };
    check_stored(
        name("Local"),
        json!({
            "type": "ExternalName", "externalName": "a.example", "sessionAffinity": "None",
            "internalTrafficPolicy": "Local",
        }),
    );
    check_refused(
        name("Near"),
        &[
            "spec.internalTrafficPolicy: Unsupported value: \"Near\": supported values: \"Cluster\", \"Local\"",
        ],
    );
}

#[test]
fn accepted_oddities_are_warned_about() {
    let check = |fields: Value, expected: &[&str]| {
        let mut new = service(with_port(fields));
        normalise_cluster_ips(&mut new, None);
        assert_eq!((SERVICE.strategy.warnings)(&new, None), expected);
    };
    check(json!({}), &[]);
    check(
        json!({"clusterIP": "None", "loadBalancerIP": "192.0.2.9", "externalIPs": ["192.0.2.8"], "sessionAffinity": "ClientIP"}),
        &[
            "spec.loadBalancerIP is ignored for headless services",
            "spec.externalIPs is ignored for headless services",
            "spec.SessionAffinity is ignored for headless services",
        ],
    );
    check(
        json!({"clusterIP": "FD00::1", "externalIPs": ["FD00::2"], "externalName": "x"}),
        &[
            "spec.clusterIPs[0]: IPv6 address \"FD00::1\" should be in RFC 5952 canonical format (\"fd00::1\")",
            "spec.externalIPs[0]: IPv6 address \"FD00::2\" should be in RFC 5952 canonical format (\"fd00::2\")",
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
        ],
    );
    check(
        json!({"type": "ExternalName", "externalName": "x", "externalIPs": ["192.0.2.8"]}),
        &["spec.externalIPs is ignored when spec.type is \"ExternalName\""],
    );
    check(
        json!({"trafficDistribution": "PreferClose"}),
        &["spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\""],
    );
}
