//! Endpoints, EndpointSlices, IPAddresses and ServiceCIDRs.

use super::*;

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
    let of = |endpoint: Value| {
        object(
            kind,
            json!({"addressType": "IPv4", "endpoints": [endpoint]}),
        )
    };
    let mut old = of(json!({"addresses": ["192.0.2.1"]}));
    kind.prepare_create(&mut old);
    let mut placed = of(json!({"addresses": ["192.0.2.1"], "deprecatedTopology": {"a": "b"}}));
    kind.prepare_update(&mut placed, &old);
    assert_eq!(meta::generation(&placed), 2);
    assert_eq!(placed["endpoints"], old["endpoints"]);
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
        held.clone(),
        moved,
        &[
            "spec.parentRef: Invalid value: {\"Group\":\"\",\"Resource\":\"services\",\"Namespace\":\"n\",\"Name\":\"shop\"}: field is immutable",
        ],
    );
    let mut freed = held.clone();
    freed["spec"] = json!({});
    check_update(
        kind,
        held.clone(),
        freed,
        &[
            "spec.parentRef: Required value",
            "spec.parentRef: Invalid value: null: field is immutable",
        ],
    );
    let mut nameless = held.clone();
    nameless["spec"]["parentRef"] = json!({"resource": "a/b"});
    check_update(
        kind,
        held,
        nameless,
        &[
            "spec.parentRef.resource: Invalid value: \"a/b\": may not contain '/'",
            "spec.parentRef.name: Required value",
            "spec.parentRef: Invalid value: {\"Group\":\"\",\"Resource\":\"a/b\",\"Namespace\":\"\",\"Name\":\"\"}: field is immutable",
        ],
    );
}

#[test]
fn an_address_asked_for_as_a_generated_name_is_that_address() {
    let named = |kind: &Kind, base| (kind.strategy.generate_name)(base, [0; 5]);
    assert_eq!(named(&networking::IP_ADDRESS, "10.0.128.5"), "10.0.128.5");
    assert_ne!(named(&networking::SERVICE_CIDR, "more-"), "more-");
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
