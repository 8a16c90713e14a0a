use serde_json::json;

use super::*;
use crate::kinds;

fn matching(selector: &str) -> Vec<&'static str> {
    let objects = [
        ("web-1", json!({"app": "web", "tier": "front"})),
        ("web-2", json!({"app": "web", "tier": "back", "shard": "7"})),
        ("db-1", json!({"app": "db"})),
        ("bare", Value::Null),
    ];
    let parsed = labels(selector).unwrap_or_else(|e| panic!("{selector}: {}", e.message));
    objects
        .iter()
        .filter(|(_, labels)| parsed.matches(labels.as_object()))
        .map(|(name, _)| *name)
        .collect()
}

#[test]
fn every_operator_selects() {
    let check = |selector: &str, expected: &[&str]| {
        assert_eq!(matching(selector), expected, "{selector}");
    };
    check("", &["web-1", "web-2", "db-1", "bare"]);
    check("app=web", &["web-1", "web-2"]);
    check("app==web,tier!=front", &["web-2"]);
    check("tier!=front", &["web-2", "db-1", "bare"]);
    check("app in (web, db)", &["web-1", "web-2", "db-1"]);
    check("app notin (web)", &["db-1", "bare"]);
    check("app", &["web-1", "web-2", "db-1"]);
    check("!app", &["bare"]);
    check("! app", &["bare"]);
    check(" app , ! tier ", &["db-1"]);
    check("shard>6", &["web-2"]);
    check("shard<7", &[]);
    check("app=", &[]);
    check("app in ()", &[]);
    check("tier in (,front)", &["web-1"]);
    check("app in (in,notin,web)", &["web-1", "web-2"]);
}

#[test]
fn selectors_that_cannot_be_read_say_where() {
    let check = |selector: &str, expected: &str| match labels(selector) {
        Err(status) => assert_eq!((status.code, status.message.as_str()), (400, expected)),
        Ok(parsed) => panic!("{selector} was read as {parsed:?}"),
    };
    check(
        "=x",
        "found '=', expected: !, identifier, or 'end of string'",
    );
    check(
        ",",
        "found ',', expected: !, identifier, or 'end of string'",
    );
    check("a,", "found '', expected: identifier after ','");
    check("!a=b", "found '=', expected: ',' or 'end of string'");
    check("a=b c", "found 'c', expected: ',' or 'end of string'");
    for (selector, expected) in [
        ("a b", "found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("!", "found '', expected: identifier"),
        ("a in b", "found 'b' expected: '('"),
        ("a in (b", "found '', expected: ',' or ')'"),
        ("a in (b!", "found '!', expected: ',' or ')'"),
        ("a in (=", "found '=', expected: ',', ')' or identifier"),
        ("a in (b,=", "found '=', expected: ',', or identifier"),
        ("a==(", "found '(', expected: identifier"),
        (
            "a>x",
            "values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
        (
            "/a=b",
            "<nil>: Invalid value: \"/a\": prefix part must be non-empty",
        ),
    ] {
        check(
            selector,
            &format!("unable to parse requirement: {expected}"),
        );
    }
    let long = format!("a={}", "x".repeat(64));
    check(
        &long,
        &format!(
            "unable to parse requirement: values[0][a]: Invalid value: \"{}\": must be no more than 63 bytes",
            "x".repeat(64)
        ),
    );
}

#[test]
fn label_selector_objects_read_as_texts_do() {
    let both = json!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["front"]}],
    });
    let parsed = from_label_selector(&both).expect("is valid");
    assert!(parsed.matches(json!({"app": "web", "tier": "back"}).as_object()));
    assert!(!parsed.matches(json!({"app": "web", "tier": "front"}).as_object()));
    assert_eq!(from_label_selector(&json!({})), Ok(Labels::EVERYTHING));
    assert_eq!(from_label_selector(&Value::Null), Ok(Labels::Nothing));
    let odd = json!({"matchExpressions": [{"key": "a", "operator": "Near"}]});
    assert_eq!(
        from_label_selector(&odd),
        Err("\"Near\" is not a valid label selector operator".into())
    );
}

#[test]
fn a_service_without_selector_selects_nothing() {
    assert!(!from_map(&json!({})).matches(json!({"a": "b"}).as_object()));
    assert!(from_map(&json!({"a": "b"})).matches(json!({"a": "b", "c": "d"}).as_object()));
}

#[test]
fn label_selector_objects_are_judged_field_by_field() {
    let selector = json!({
        "matchLabels": {"a b": "c"},
        "matchExpressions": [
            {"key": "k", "operator": "In"},
            {"key": "k", "operator": "Exists", "values": ["v"]},
            {"key": "k", "operator": "Near"},
        ],
    });
    let errors = validate_label_selector(&selector, &Path::new("s"));
    let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "s.matchLabels",
            "s.matchExpressions[0].values",
            "s.matchExpressions[1].values",
            "s.matchExpressions[2].operator"
        ]
    );
}

fn kind(plural: &str) -> &'static Kind {
    kinds::by_resource("", "v1", plural).expect("is served")
}

#[test]
fn fields_select_by_value() {
    let service = json!({
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.0.128.9"},
    });
    let check = |selector: &str, expected: bool| {
        let services = kind("services");
        let parsed = fields(services, selector).expect(selector);
        assert_eq!(parsed.matches(services, &service), expected, "{selector}");
    };
    check("", true);
    check("metadata.name=a", true);
    check("metadata.name==a,metadata.namespace!=n", false);
    check("spec.clusterIP=10.0.128.9,spec.type!=NodePort", true);
    check("metadata.name=", false);
    check("metadata.name!=a\\,b", true);
    check(",metadata.name=a,", true);
    let one = fields(kind("services"), "metadata.name=a").expect("is valid");
    assert_eq!(one.required("metadata.name"), Some("a"));
    assert_eq!(one.required("spec.type"), None);
}

#[test]
fn unknown_fields_are_refused_in_the_words_of_the_kind() {
    let check = |plural: &str, selector: &str, expected: &str| {
        let status = fields(kind(plural), selector).expect_err(selector);
        assert_eq!((status.code, status.message.as_str()), (400, expected));
    };
    check(
        "services",
        "spec.ports=80",
        "field label not supported: spec.ports",
    );
    check(
        "configmaps",
        "data.a=b",
        "\"data.a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
    );
    check(
        "namespaces",
        "metadata.namespace=a",
        "field label not supported: metadata.namespace",
    );
    check(
        "services",
        "metadata.name",
        "invalid selector: 'metadata.name'; can't understand 'metadata.name'",
    );
    check(
        "services",
        "metadata.name=a=b",
        "invalid field selector: unescaped character in value: 61",
    );
    check(
        "services",
        "metadata.name=a\\b",
        "invalid field selector: invalid escape sequence: \\b",
    );
}
