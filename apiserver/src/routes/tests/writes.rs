use super::*;

#[tokio::test]
async fn a_body_decides_between_created_and_refused() {
    let world = World::new().await;
    let elsewhere = "/api/v1/namespaces/nowhere/configmaps";
    let strict = format!("{CONFIG_MAPS}?fieldValidation=Strict");
    let dry = format!("{CONFIG_MAPS}?dryRun=All");
    let unknown = json!({"metadata": {"name": "u"}, "foo": 1});
    let cases = [
        (CONFIG_MAPS, config_map("a"), 201, ""),
        (
            CONFIG_MAPS,
            config_map("a"),
            409,
            "configmaps \"a\" already exists",
        ),
        (
            elsewhere,
            config_map("a"),
            404,
            "namespaces \"nowhere\" not found",
        ),
        (dry.as_str(), config_map("d"), 201, ""),
        (
            strict.as_str(),
            unknown,
            400,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: \
             strict decoding error: unknown field \"foo\"",
        ),
        (
            CONFIG_MAPS,
            json!({"metadata": {"name": "n", "namespace": "other"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            CONFIG_MAPS,
            json!({"metadata": {"name": "v", "resourceVersion": "5"}}),
            500,
            "resourceVersion should not be set on objects to be created",
        ),
        (
            CONFIG_MAPS,
            json!({"metadata": {"name": "a", "generateName": "a-"}}),
            409,
            "configmaps \"a\" already exists, the server was not able to generate a unique name for the object",
        ),
    ];
    for (path, body, code, message) in cases {
        let answer = world.post(path, body).await;
        assert_eq!((answer.code.as_u16(), answer.message()), (code, message));
    }
    let dry_one = world.get(&format!("{CONFIG_MAPS}/d")).await;
    assert_eq!(dry_one.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn nobody_owns_what_only_the_server_says() {
    let world = World::new().await;
    let metadata = json!({
        "name": "m",
        "labels": {"a": "b"},
        "deletionGracePeriodSeconds": 5,
        "deletionTimestamp": "2026-01-02T03:04:05Z",
    });
    let answer = world.post(CONFIG_MAPS, json!({"metadata": metadata})).await;
    let fields = &answer.body["metadata"]["managedFields"][0]["fieldsV1"];
    let labels = json!({".": {}, "f:a": {}});
    assert_eq!(fields["f:metadata"], json!({"f:labels": labels}));
}

#[tokio::test]
async fn a_traffic_policy_without_use_is_kept_and_not_shown() {
    let world = World::new().await;
    let services = "/api/v1/namespaces/shop/services";
    let path = &format!("{services}/web");
    let spec = json!({"type": "ExternalName", "externalName": "a.example", "internalTrafficPolicy": "Local"});
    let check = |what: &str, answer: &Answer, pointer: &str, expected: Value| {
        assert!(answer.code.is_success(), "{what}: {}", answer.message());
        let found = &answer.at(pointer)["internalTrafficPolicy"];
        assert_eq!(*found, expected, "{what}");
    };
    let service = json!({"metadata": {"name": "web"}, "spec": spec});
    let dry = format!("{services}?dryRun=All");
    check(
        "dry",
        &world.post(&dry, service.clone()).await,
        "/spec",
        Value::Null,
    );
    check(
        "created",
        &world.post(services, service).await,
        "/spec",
        Value::Null,
    );
    check("read", &world.get(path).await, "/spec", Value::Null);
    check(
        "listed",
        &world.get(services).await,
        "/items/0/spec",
        Value::Null,
    );
    let port = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}});
    check(
        "shown",
        &world.merge(path, port.clone()).await,
        "/spec",
        "Local".into(),
    );
    let named = json!({"spec": {"type": "ExternalName"}});
    check(
        "hidden",
        &world.merge(path, named.clone()).await,
        "/spec",
        Value::Null,
    );
    check(
        "again",
        &world.merge(path, port).await,
        "/spec",
        "Local".into(),
    );
    check(
        "deleted",
        &{
            world.merge(path, named).await;
            world.delete(path, Value::Null).await
        },
        "/spec",
        Value::Null,
    );
}

#[tokio::test]
async fn unknown_fields_are_warned_of_and_left_out() {
    let world = World::new().await;
    let body = json!({"metadata": {"name": "w"}, "foo": 1});
    let answer = world.post(CONFIG_MAPS, body).await;
    assert_eq!(answer.code, StatusCode::CREATED);
    assert_eq!(
        answer.headers[header::WARNING],
        r#"299 - "unknown field \"foo\"""#
    );
    assert_eq!(answer.at("/foo"), &Value::Null);
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_revision() {
    let world = World::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    let made = world.post(CONFIG_MAPS, config_map("a")).await;
    let revision = made.at("/metadata/resourceVersion");
    for same in [
        world.put(&path, config_map("a")).await,
        world.merge(&path, json!({"data": {"a": "1"}})).await,
        world.merge(&path, json!({})).await,
    ] {
        assert_eq!(same.code, StatusCode::OK);
        assert_eq!(same.at("/metadata/resourceVersion"), revision);
    }
    let changed = world.merge(&path, json!({"data": {"a": "2"}})).await;
    assert_ne!(changed.at("/metadata/resourceVersion"), revision);
}

#[tokio::test]
async fn a_stale_resource_version_is_a_conflict() {
    let world = World::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    let made = world.post(CONFIG_MAPS, config_map("a")).await;
    world.merge(&path, json!({"data": {"a": "2"}})).await;
    let stale = json!({"metadata": {
        "name": "a",
        "resourceVersion": made.at("/metadata/resourceVersion"),
    }});
    assert_eq!(world.put(&path, stale.clone()).await.code, 409);
    assert_eq!(world.merge(&path, stale).await.code, 409);
}

#[tokio::test]
async fn concurrent_patches_all_take_effect() {
    let world = World::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    world.post(CONFIG_MAPS, config_map("a")).await;
    let patches = (0..20).map(|i| world.merge(&path, json!({"data": {format!("k{i}"): "v"}})));
    for answer in futures_util::future::join_all(patches).await {
        assert_eq!(answer.code, StatusCode::OK);
    }
    let data = world.get(&path).await;
    assert_eq!(
        data.at("/data").as_object().map(serde_json::Map::len),
        Some(21)
    );
}

#[tokio::test]
async fn a_generated_name_has_five_characters_more() {
    let world = World::new().await;
    let body = json!({"metadata": {"generateName": "web-"}});
    let answer = world.post(CONFIG_MAPS, body).await;
    let name = answer.at("/metadata/name").as_str().unwrap_or_default();
    assert_eq!(name.len(), "web-".len() + 5);
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let world = World::new().await;
    let services = "/api/v1/namespaces/shop/services";
    let body = json!({
        "metadata": {"name": "s"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    });
    let made = world.post(services, body).await;
    assert_eq!(made.at("/status"), &json!({"loadBalancer": {}}));
    let patch = json!({
        "spec": {"sessionAffinity": "ClientIP"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}]}},
    });
    let answer = world.merge(&format!("{services}/s/status"), patch).await;
    assert_eq!(answer.at("/spec/sessionAffinity"), "None");
    assert_eq!(answer.at("/status/loadBalancer/ingress/0/ip"), "192.0.2.2");
}

#[tokio::test]
async fn a_scale_changes_replicas_and_nothing_else() {
    let world = World::new().await;
    let deployments = "/apis/apps/v1/namespaces/shop/deployments";
    let body = json!({
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    assert_eq!(world.post(deployments, body).await.code, 201);
    let scale = format!("{deployments}/web/scale");
    assert_eq!(world.get(&scale).await.at("/status/selector"), "app=web");
    let scaled = world.merge(&scale, json!({"spec": {"replicas": 4}})).await;
    assert_eq!(scaled.at("/kind"), "Scale");
    let web = world.get(&format!("{deployments}/web")).await;
    assert_eq!(web.at("/spec/replicas"), 4);
    assert_eq!(web.at("/metadata/generation"), 2);
    let negative = world.merge(&scale, json!({"spec": {"replicas": -1}})).await;
    assert_eq!(
        negative.message(),
        "Scale.autoscaling \"web\" is invalid: spec.replicas: Invalid value: -1: \
         must be greater than or equal to 0"
    );
}

#[tokio::test]
async fn a_uid_in_the_body_is_met_by_no_other_object_and_by_no_missing_one() {
    let world = World::new().await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "s", "namespace": "shop", "uid": "other"},
        "spec": {"ports": [{"port": 80}]}
    });
    let services = "/api/v1/namespaces/shop/services";
    let one = format!("{services}/s");
    let refused = |uid: &str| {
        format!(
            "Operation cannot be fulfilled on services \"s\": StorageError: invalid object, Code: 4, \
             Key: /registry/services/specs/shop/s, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: other, UID in object meta: {uid}"
        )
    };
    let missing = world.put(&one, service.clone()).await;
    assert_eq!(
        (missing.code.as_u16(), missing.message()),
        (409, refused("").as_str())
    );

    let apply = format!("{one}?fieldManager=m");
    let applied = world
        .call(
            "PATCH",
            &apply,
            "application/apply-patch+yaml",
            service.clone(),
        )
        .await;
    assert_eq!(
        (applied.code.as_u16(), applied.message()),
        (
            409,
            "Operation cannot be fulfilled on services \"s\": uid mismatch: the provided object \
             specified uid other, and no existing object was found"
        )
    );

    let mut fresh = service.clone();
    fresh["metadata"]["uid"] = Value::Null;
    let created = world.post(services, fresh).await;
    let uid = created.at("/metadata/uid").as_str().unwrap_or_default();
    let other = world.put(&one, service).await;
    assert_eq!(
        (other.code.as_u16(), other.message()),
        (409, refused(uid).as_str())
    );
}

#[tokio::test]
async fn what_a_body_says_it_is_must_be_what_is_asked_for() {
    let world = World::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    world.post(CONFIG_MAPS, config_map("a")).await;
    let unknown = "no kind \"Foo\" is registered for version \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"";
    let converting = "converting (v1.Secret) to (core.ConfigMap): unknown conversion";
    for (kind, version, reason) in [("Foo", "v1", unknown), ("Secret", "v1", converting)] {
        let typed = json!({"kind": kind, "apiVersion": version, "metadata": {"name": "a"}});
        let put = world.put(&path, typed.clone()).await;
        assert_eq!(
            (put.code.as_u16(), put.at("/reason")),
            (400, &json!("BadRequest"))
        );
        let expected =
            format!("{kind} in version \"v1\" cannot be handled as a ConfigMap: {reason}");
        assert_eq!(put.message(), expected);
        let merged = world.merge(&path, typed).await;
        assert_eq!(
            (merged.code.as_u16(), merged.at("/reason")),
            (422, &json!("Invalid"))
        );
        let message = merged.message();
        assert!(
            message.starts_with(" \"\" is invalid: patch: Invalid value: "),
            "{message}"
        );
        assert!(message.ends_with(reason), "{message}");
    }
    let strategic = "application/strategic-merge-patch+json";
    let body = json!({"kind": "Foo", "data": {"a": "2"}});
    let answer = world.call("PATCH", &path, strategic, body).await;
    assert_eq!(
        (answer.code.as_u16(), answer.at("/kind")),
        (200, &json!("ConfigMap"))
    );
}

#[tokio::test]
async fn a_scale_prints_as_a_table() {
    let world = World::new().await;
    let labels = json!({"app": "web"});
    let pod = json!({"containers": [{"name": "c", "image": "host"}]});
    let body = json!({"metadata": {"name": "web"}, "spec": {
        "replicas": 3, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }});
    let collection = "/apis/apps/v1/namespaces/shop/replicasets";
    world.post(collection, body).await;
    let request = Request::builder()
        .uri(format!("{collection}/web/scale"))
        .header(
            header::ACCEPT,
            "application/json;as=Table;v=v1;g=meta.k8s.io",
        );
    let table = world.send(request, Body::empty()).await;
    let columns: Vec<&Value> = table
        .at("/columnDefinitions")
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let names: Vec<&Value> = columns.iter().map(|column| &column["name"]).collect();
    assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
    let cells = table.at("/rows/0/cells").as_array().expect("cells");
    assert_eq!(cells[..3], [json!("web"), json!(3), json!(0)]);
}

#[tokio::test]
async fn duplicate_keys_of_an_applied_configuration_are_told() {
    let world = World::new().await;
    let apply = async |validation: &str, body: &str| {
        let request = Request::builder()
            .method("PATCH")
            .uri(format!(
                "{CONFIG_MAPS}/a?fieldManager=me&fieldValidation={validation}"
            ))
            .header(header::CONTENT_TYPE, "application/apply-patch+yaml");
        world.send(request, body.to_owned()).await
    };
    let twice =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  k: \"1\"\n  k: \"2\"\n";
    let strict = apply("Strict", twice).await;
    assert_eq!(strict.code.as_u16(), 400);
    let message = strict.message();
    let prefix =
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:";
    assert!(message.starts_with(prefix), "{message}");
    let warned = apply("Warn", twice).await;
    assert_eq!(warned.code.as_u16(), 201);
    assert!(warned.headers.contains_key(header::WARNING));
    assert_eq!(warned.at("/data/k"), "2");
    let broken = apply("Warn", "a: [").await;
    let message = broken.message();
    assert!(
        message.starts_with("error decoding YAML: error converting YAML to JSON: yaml: "),
        "{message}"
    );
}
