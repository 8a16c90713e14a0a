//! ConfigMaps and Secrets.

use super::*;

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
fn pairs_that_are_no_pairs_are_warned_about() {
    let warned = |certificate: &str, key: &str| {
        let body = json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": certificate, "tls.key": key}});
        let found = object(&secret::SECRET, body);
        (secret::SECRET.strategy.warnings)(&found, None)
    };
    let block = |kind: &str| format!("-----BEGIN {kind}-----\nAA==\n-----END {kind}-----\n");
    let (certificate, key) = (block("CERTIFICATE"), block("EC PRIVATE KEY"));
    assert_eq!(warned(&certificate, &key), [] as [&str; 0]);
    assert_eq!(
        warned("x", "y"),
        ["tls: failed to find any PEM data in certificate input"]
    );
    assert_eq!(
        warned(&certificate, ""),
        ["tls: failed to find any PEM data in key input"]
    );
    assert_eq!(
        warned(&key, &certificate),
        [
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched"
        ]
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
