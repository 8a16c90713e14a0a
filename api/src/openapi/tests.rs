use super::*;

fn core() -> Value {
    v3_document("", "v1").unwrap()
}

fn at<'v>(document: &'v Value, path: &[&str]) -> &'v Value {
    path.iter().fold(document, |value, key| {
        value.get(key).unwrap_or(&Value::Null)
    })
}

fn schema<'v>(document: &'v Value, name: &str) -> &'v Value {
    at(document, &["components", "schemas", name])
}

#[test]
fn the_patch_of_a_service_is_what_kubectl_looks_for() {
    let document = core();
    let path = at(
        &document,
        &["paths", "/api/v1/namespaces/{namespace}/services/{name}"],
    );
    let keys: Vec<&String> = path.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["delete", "get", "parameters", "patch", "put"]);
    let patch = &path["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "", "kind": "Service", "version": "v1"})
    );
    let content = patch["requestBody"]["content"].as_object().unwrap();
    assert!(content.contains_key("application/strategic-merge-patch+json"));
    assert!(content.contains_key("application/apply-patch+yaml"));
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|p| p["name"].as_str())
        .collect();
    assert!(names.contains(&"fieldValidation"), "{names:?}");
    let post = at(
        &document,
        &["paths", "/api/v1/namespaces/{namespace}/services", "post"],
    );
    assert_eq!(post["x-kubernetes-group-version-kind"]["kind"], "Service");
}

#[test]
fn lists_and_maps_say_how_they_merge() {
    let document = core();
    let check = |definition: &str, field: &str, expected: Value| {
        let name = format!("io.k8s.{definition}");
        let property = &schema(&document, &name)["properties"][field];
        let extensions: Map<String, Value> = property
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| key.starts_with("x-"))
            .map(|(key, value)| (key["x-kubernetes-".len()..].to_owned(), value.clone()))
            .collect();
        assert_eq!(Value::Object(extensions), expected, "{definition}.{field}");
    };
    check(
        "api.core.v1.ServiceSpec",
        "ports",
        json!({"list-type": "map", "list-map-keys": ["port", "protocol"], "patch-merge-key": "port", "patch-strategy": "merge"}),
    );
    check(
        "api.core.v1.ServiceSpec",
        "selector",
        json!({"map-type": "atomic"}),
    );
    check(
        "api.core.v1.ServiceSpec",
        "externalIPs",
        json!({"list-type": "atomic"}),
    );
    check(
        "apimachinery.pkg.apis.meta.v1.ObjectMeta",
        "finalizers",
        json!({"list-type": "set", "patch-strategy": "merge"}),
    );
    check(
        "apimachinery.pkg.apis.meta.v1.ObjectMeta",
        "ownerReferences",
        json!({"list-type": "map", "list-map-keys": ["uid"], "patch-merge-key": "uid", "patch-strategy": "merge"}),
    );
}

#[test]
fn every_reference_resolves_and_every_type_is_described() {
    fn references<'v>(value: &'v Value, out: &mut Vec<&'v str>) {
        match value {
            Value::Object(fields) => {
                out.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|inner| references(inner, out));
            }
            Value::Array(items) => items.iter().for_each(|inner| references(inner, out)),
            _ => {}
        }
    }
    for (group, version) in group_versions() {
        let document = v3_document(group, version).unwrap();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in found {
            let name = reference.strip_prefix("#/components/schemas/").unwrap();
            assert!(schemas.contains_key(name), "{group}/{version}: {name}");
        }
        for (name, schema) in schemas {
            assert!(
                schema["description"].is_string(),
                "{group}/{version}: {name}"
            );
        }
    }
}

#[test]
fn the_index_names_every_document() {
    let index = v3_index();
    let core = &index["paths"]["api/v1"]["serverRelativeURL"];
    assert_eq!(core, "/openapi/v3/api/v1");
    assert_eq!(v3_document("nowhere", "v1"), None);
}

#[test]
fn reviews_can_be_posted() {
    let document = v3_document("authorization.k8s.io", "v1").unwrap();
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let paths = document["paths"][path].as_object().unwrap();
    let keys: Vec<&String> = paths.keys().collect();
    assert_eq!(keys, ["parameters", "post"]);
}

#[test]
fn version_2_holds_every_group_version() {
    let document = v2_document();
    let definitions = document["definitions"].as_object().unwrap();
    for kind in kinds::ALL {
        let name = crate::schema::of(kind).unwrap().published_name();
        assert!(definitions.contains_key(&name), "{name}");
        assert!(
            definitions.contains_key(&format!("{name}List")),
            "{name}List"
        );
    }
}

#[test]
fn documents_read_like_kubernetes_own() {
    let document = v3_document("coordination.k8s.io", "v1").unwrap();
    let path = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}";
    insta::assert_snapshot!("lease-patch", pretty(&document["paths"][path]["patch"]));
    let mut lease = schema(&document, "io.k8s.api.coordination.v1.LeaseSpec").clone();
    for property in lease["properties"].as_object_mut().unwrap().values_mut() {
        // The words are k8s-openapi's.
        property["description"] = property["description"].is_string().into();
    }
    lease["description"] = lease["description"].is_string().into();
    insta::assert_snapshot!("lease-schema", pretty(&lease));
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}
