use serde_json::json;

use super::*;
use crate::schema;

/// A field whose value is bytes, text or another message.
fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(value);
    out
}

fn varint(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), bytes(1, &type_meta), bytes(2, raw)].concat()
}

fn check(target: (&str, &str, &str), raw: &[u8], expected: Value) {
    let (group, version, kind) = target;
    let target = Target {
        group,
        version,
        kind,
    };
    let api_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let body = envelope(&api_version, kind, raw);
    let decoded = decode(target, &body).expect("a readable body");
    assert_eq!(decoded.problems, Vec::<String>::new());
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&decoded.object[name], value, "{name}");
    }
}

#[test]
fn maps_times_and_metadata_are_read() {
    let created = [varint(1, 5), varint(2, 0)].concat();
    let metadata = [bytes(1, b"c"), bytes(8, &created)].concat();
    let entry = [bytes(1, b"a"), bytes(2, b"1")].concat();
    let raw = [bytes(1, &metadata), bytes(2, &entry)].concat();
    check(
        ("", "v1", "ConfigMap"),
        &raw,
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "data": {"a": "1"},
            "metadata": {"name": "c", "creationTimestamp": "1970-01-01T00:00:05Z"},
        }),
    );
}

#[test]
fn an_inlined_struct_is_a_message_of_its_own() {
    let host_path = bytes(1, b"/tmp");
    let source = bytes(1, &host_path);
    let volume = [bytes(1, b"v"), bytes(2, &source)].concat();
    let spec = bytes(1, &volume);
    check(
        ("", "v1", "Pod"),
        &bytes(2, &spec),
        json!({"spec": {"containers": null, "volumes": [{"name": "v", "hostPath": {"path": "/tmp"}}]}}),
    );
}

#[test]
fn ports_names_and_secrets_are_read() {
    let target_port = [varint(1, 1), bytes(3, b"http")].concat();
    let port = [varint(3, 80), bytes(4, &target_port)].concat();
    check(
        ("", "v1", "Service"),
        &bytes(2, &bytes(1, &port)),
        json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}]}}),
    );
    let entry = [bytes(1, b"k"), bytes(2, &[0xff, 0])].concat();
    check(
        ("", "v1", "Secret"),
        &bytes(2, &entry),
        json!({"data": {"k": "/wA="}}),
    );
}

#[test]
fn broken_bodies_are_refused() {
    let target = Target {
        group: "",
        version: "v1",
        kind: "ConfigMap",
    };
    let whole = envelope("v1", "ConfigMap", &bytes(1, &bytes(1, b"c")));
    assert!(decode(target, &whole).is_ok());
    for length in 0..whole.len() {
        let outcome = decode(target, &whole[..length]);
        // Cut between two fields a message is whole, only shorter.
        if let Err(status) = outcome {
            assert_eq!(status.code, 400);
        }
    }
    assert_eq!(decode(target, b"{}").unwrap_err().code, 400);
    let endless = [MAGIC, &[0xff; 12]].concat();
    assert_eq!(decode(target, &endless).unwrap_err().code, 400);
}

#[test]
fn every_field_of_the_schema_has_a_number() {
    for definition in schema::table().definitions() {
        let places = numbers::places(definition.name);
        let missing: Vec<&str> = definition
            .fields
            .iter()
            .map(|field| field.name)
            .filter(|name| !["apiVersion", "kind", "runningInUserNamespace"].contains(name))
            .filter(|name| !places.iter().any(|place| place.name == *name))
            .collect();
        assert_eq!(missing, Vec::<&str>::new(), "{}", definition.name);
    }
}
