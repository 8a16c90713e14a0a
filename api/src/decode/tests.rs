use serde_json::json;

use super::*;

const SERVICE: Target<'static> = Target {
    group: "",
    version: "v1",
    kind: "Service",
};

fn decode(body: Value) -> Result<Decoded, Status> {
    json_as(SERVICE, body.to_string().as_bytes())
}

#[test]
fn wrong_types_are_refused_in_go_s_words() {
    let check = |spec: Value, expected: &str| {
        let error = decode(json!({"spec": spec})).unwrap_err();
        let message =
            format!("Service in version \"v1\" cannot be handled as a Service: {expected}");
        assert_eq!((error.code, error.message), (400, message));
    };
    check(
        json!({"ports": [{"port": "80"}]}),
        "json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32",
    );
    check(
        json!({"ports": {"port": 80}}),
        "json: cannot unmarshal object into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort",
    );
    check(
        json!({"ports": [{"port": 80.5}]}),
        "json: cannot unmarshal number 80.5 into Go struct field ServicePort.spec.ports.port of type int32",
    );
    check(
        json!({"ports": [{"port": 99_999_999_999_i64}]}),
        "json: cannot unmarshal number 99999999999 into Go struct field ServicePort.spec.ports.port of type int32",
    );
    check(
        json!({"ports": [{"port": 80, "targetPort": true}]}),
        "json: cannot unmarshal bool into Go struct field ServicePort.spec.ports.targetPort of type int32",
    );
    check(
        json!({"publishNotReadyAddresses": "yes"}),
        "json: cannot unmarshal string into Go struct field ServiceSpec.spec.publishNotReadyAddresses of type bool",
    );
    check(
        json!({"type": 1}),
        "json: cannot unmarshal number into Go struct field ServiceSpec.spec.type of type v1.ServiceType",
    );
    check(
        json!({"selector": {"a": 1}}),
        "json: cannot unmarshal number into Go struct field ServiceSpec.spec.selector of type string",
    );
}

#[test]
fn the_first_type_error_is_told_but_a_broken_quantity_or_time_outranks_it() {
    let error = decode(json!({
        "metadata": {"labels": {"a": 1}, "creationTimestamp": "yesterday"},
        "spec": {"type": 1},
    }))
    .unwrap_err();
    assert_eq!(
        error.message,
        "Service in version \"v1\" cannot be handled as a Service: parsing time \"yesterday\" as \
         \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\""
    );
}

#[test]
fn unknown_and_duplicate_fields_are_problems_in_document_order() {
    let body =
        br#"{"spec":{"foo":1,"type":"ClusterIP","type":"NodePort","ports":[{"Port":1,"port":2}]},
        "metadata":{"labels":{"a":"1","a":"2"}},"extra":{}}"#;
    let decoded = json_as(SERVICE, body).unwrap();
    assert_eq!(
        decoded.problems,
        [
            r#"unknown field "spec.foo""#,
            r#"duplicate field "spec.type""#,
            r#"unknown field "spec.ports[0].Port""#,
            r#"duplicate field "metadata.labels.a""#,
            r#"unknown field "extra""#,
        ]
    );
    assert_eq!(decoded.object["spec"]["type"], "NodePort");
    assert_eq!(decoded.object["metadata"]["labels"], json!({"a": "2"}));
}

#[test]
fn a_struct_given_twice_is_filled_twice() {
    let body = br#"{"metadata":{"name":"a","labels":{"a":"1"}},"metadata":{"labels":{"b":"2"}}}"#;
    let decoded = json_as(SERVICE, body).unwrap();
    assert_eq!(decoded.problems, [r#"duplicate field "metadata""#]);
    assert_eq!(
        decoded.object["metadata"],
        json!({"name": "a", "labels": {"a": "1", "b": "2"}})
    );
}

#[test]
fn nulls_and_zero_values_are_printed_as_go_prints_them() {
    let decoded = decode(json!({
        "metadata": {"name": "nul", "labels": {}, "annotations": null, "creationTimestamp": null, "generation": 7, "uid": ""},
        "spec": {"type": "", "clusterIPs": [], "selector": {}, "ipFamilies": null, "ipFamilyPolicy": "",
                 "ports": [{"port": 80, "name": "", "nodePort": 0}, null]},
        "status": {},
    }))
    .unwrap();
    assert_eq!(decoded.problems, [""; 0]);
    assert_eq!(
        decoded.object,
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "nul", "generation": 7},
            "spec": {"ipFamilyPolicy": "", "ports": [{"port": 80}, {"port": 0}]},
            "status": {"loadBalancer": {}},
        })
    );
}

#[test]
fn lists_without_omitempty_are_null_when_left_out() {
    let slice = Target {
        group: "discovery.k8s.io",
        version: "v1",
        kind: "EndpointSlice",
    };
    let decoded = json_as(slice, br#"{"addressType":"IPv4"}"#).unwrap();
    assert_eq!(
        decoded.object,
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {},
               "addressType": "IPv4", "endpoints": null, "ports": null})
    );
}

#[test]
fn bytes_times_and_quantities_are_printed_canonically() {
    let secret = Target {
        group: "",
        version: "v1",
        kind: "Secret",
    };
    let check = |data: &str, expected: &str| {
        let body = json!({"data": {"k": data}}).to_string();
        let text = match json_as(secret, body.as_bytes()) {
            Ok(decoded) => decoded.object["data"]["k"].as_str().unwrap().to_owned(),
            Err(status) => status.message,
        };
        assert_eq!(text, expected);
    };
    let refused = "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data at input byte ";
    check("aGVs\nbG8=", "aGVsbG8=");
    check("YWJ", &format!("{refused}0"));
    check("abcde", &format!("{refused}4"));
    check("not base64!", &format!("{refused}3"));

    let pod = Target {
        group: "",
        version: "v1",
        kind: "Pod",
    };
    let body = json!({
        "metadata": {"deletionTimestamp": "2026-01-02T03:04:05.678+01:00"},
        "spec": {"containers": [{"resources": {"limits": {"cpu": "1000m", "memory": 1024}}}]},
    });
    let object = json_as(pod, body.to_string().as_bytes()).unwrap().object;
    assert_eq!(
        object["metadata"]["deletionTimestamp"],
        "2026-01-02T02:04:05Z"
    );
    assert_eq!(
        object["spec"]["containers"][0],
        json!({"name": "", "resources": {"limits": {"cpu": "1", "memory": "1024"}}})
    );
}

#[test]
fn text_that_is_not_utf_8_is_read_with_replacements() {
    let body = b"{\"metadata\":{\"annotations\":{\"a\":\"\xff!\"}}}";
    let object = json_as(SERVICE, body).unwrap().object;
    assert_eq!(object["metadata"]["annotations"]["a"], "\u{fffd}!");
}

#[test]
fn bodies_that_are_no_objects_are_unrecognized() {
    let check = |body: &[u8], expected: &str| {
        let message = json_as(SERVICE, body).unwrap_err().message;
        let prefix = "the object provided is unrecognized (must be of type Service): couldn't get version/kind; json parse error: ";
        assert_eq!(message.strip_prefix(prefix).unwrap(), expected);
    };
    check(b"", "unexpected end of JSON input (<empty>)");
    check(
        b"{\"a\" 1}",
        "invalid character '1' after object key ({\"a\" 1})",
    );
    check(
        b"{a}",
        "invalid character 'a' looking for beginning of object key string ({a})",
    );
    check(
        b"[1,]",
        "invalid character ']' looking for beginning of value (5b312c5d)",
    );
    check(
        b"{\"k\": tru}",
        "invalid character '}' in literal true (expecting 'e') ({\"k\": tru})",
    );
    check(
        b"{} x",
        "invalid character 'x' after top-level value ({} x)",
    );
    check(
        b"{\"kind\": 1}",
        "json: cannot unmarshal number into Go struct field .kind of type string ({\"kind\": 1})",
    );
}

#[test]
fn bodies_of_another_type_are_refused() {
    let check = |body: Value, expected: &str| {
        assert_eq!(decode(body).unwrap_err().message, expected);
    };
    check(
        json!({"kind": "Pod", "apiVersion": "v1"}),
        "Pod in version \"v1\" cannot be handled as a Service: converting (v1.Pod) to (core.Service): unknown conversion",
    );
    check(
        json!({"kind": "Foo", "apiVersion": "v1"}),
        "Foo in version \"v1\" cannot be handled as a Service: no kind \"Foo\" is registered for version \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
    );
    check(
        json!({"kind": "Service", "apiVersion": "apps/v1"}),
        "Service in version \"v1\" cannot be handled as a Service: no kind \"Service\" is registered for version \"apps/v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
    );
}

#[test]
fn checking_a_checked_object_changes_nothing() {
    let body = json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}});
    let once = decode(body).unwrap().object;
    let twice = over(SERVICE, &once).unwrap();
    assert_eq!((twice.object, twice.problems), (once, Vec::new()));
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body: Vec<u8>) {
        let _ = json_as(SERVICE, &body);
        let _ = yaml_as(SERVICE, &body);
    }

    #[test]
    fn arbitrary_json_like_text_never_panics(body in "[\\[\\]{}\":,a-e0-9 .tfn-]{0,40}") {
        let _ = json_as(SERVICE, body.as_bytes());
        let _ = yaml_as(SERVICE, body.as_bytes());
    }
}

#[test]
fn a_null_is_no_value_of_a_pointer_either() {
    let pod = Target {
        group: "",
        version: "v1",
        kind: "Pod",
    };
    let body =
        br#"{"spec":{"affinity":null,"securityContext":{"seccompProfile":null},"containers":[]}}"#;
    let spec = json_as(pod, body).unwrap().object["spec"].take();
    assert_eq!(spec, json!({"securityContext": {}, "containers": []}));
}

#[test]
fn microseconds_are_six_digits() {
    let lease = Target {
        group: "coordination.k8s.io",
        version: "v1",
        kind: "Lease",
    };
    let check = |time: &str, expected: &str| {
        let body = json!({"spec": {"renewTime": time}}).to_string();
        let outcome = json_as(lease, body.as_bytes());
        let message = outcome.err().map(|status| status.message);
        let expected = (!expected.is_empty()).then(|| {
            format!("Lease in version \"v1\" cannot be handled as a Lease: parsing time {time:?} as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse {expected}")
        });
        assert_eq!(message, expected);
    };
    check("2026-01-02T03:04:05.000000Z", "");
    check("2026-01-02T03:04:05Z", "\"Z\" as \".000000\"");
    check("2026-01-02T03:04:05.123456789Z", "\"789Z\" as \"Z07:00\"");
}

#[test]
fn embedded_structs_are_part_of_where_an_error_is() {
    let pod = Target {
        group: "",
        version: "v1",
        kind: "Pod",
    };
    let check = |container: Value, expected: &str| {
        let body = json!({"spec": {"containers": [container]}}).to_string();
        let message = json_as(pod, body.as_bytes()).unwrap_err().message;
        let place = message.split("struct field ").nth(1).unwrap_or_default();
        assert_eq!(place, format!("{expected} of type string"), "{message}");
    };
    check(
        json!({"env": [{"valueFrom": {"configMapKeyRef": {"name": 7}}}]}),
        "ConfigMapKeySelector.spec.containers.env.valueFrom.configMapKeyRef.LocalObjectReference.name",
    );
    check(
        json!({"livenessProbe": {"httpGet": {"path": 7}}}),
        "HTTPGetAction.spec.containers.livenessProbe.ProbeHandler.httpGet.path",
    );
}
