use super::*;

#[tokio::test]
async fn a_list_comes_in_pieces_of_one_moment() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.post(CONFIG_MAPS, config_map(name)).await;
    }
    let first = world.get(&format!("{CONFIG_MAPS}?limit=2")).await;
    assert_eq!(first.at("/metadata/remainingItemCount"), 1);
    world.post(CONFIG_MAPS, config_map("d")).await;
    let token = first.at("/metadata/continue").as_str().unwrap_or_default();
    let rest = world
        .get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"))
        .await;
    let names: Vec<&Value> = rest.body["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| &item["metadata"]["name"])
        .collect();
    assert_eq!(names, ["c"]);
    assert_eq!(
        rest.at("/metadata/resourceVersion"),
        first.at("/metadata/resourceVersion")
    );
}

#[tokio::test]
async fn the_rest_of_a_forgotten_list_can_be_had_as_it_is_now() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.post(CONFIG_MAPS, config_map(name)).await;
    }
    let first = world.get(&format!("{CONFIG_MAPS}?limit=1")).await;
    let continued = async |list: &Answer| {
        let token = list.at("/metadata/continue").as_str().unwrap_or_default();
        world.get(&format!("{CONFIG_MAPS}?continue={token}")).await
    };
    let data = "x".repeat(1 << 19);
    for change in 0..20 {
        let large =
            json!({"metadata": {"name": "b"}, "data": {"a": data, "b": change.to_string()}});
        let answer = world.put(&format!("{CONFIG_MAPS}/b"), large).await;
        assert!(answer.code.is_success(), "{}", answer.message());
    }
    let gone = continued(&first).await;
    assert_eq!(gone.code.as_u16(), 410);
    assert_eq!(gone.at("/reason"), "Expired");
    let rest = continued(&gone).await;
    assert_eq!(rest.code, StatusCode::OK, "{}", rest.message());
    assert_eq!(rest.at("/items/0/metadata/name"), "b");
    assert_eq!(rest.at("/items/0/data/b"), "19");
    assert_eq!(rest.at("/items/1/metadata/name"), "c");
}

#[tokio::test]
async fn items_of_a_list_leave_out_their_type() {
    let world = World::new().await;
    world.post(CONFIG_MAPS, config_map("a")).await;
    let list = world.get(CONFIG_MAPS).await;
    assert_eq!(list.at("/kind"), "ConfigMapList");
    assert_eq!(list.at("/items/0/data/a"), "1");
    assert_eq!(list.at("/items/0/kind"), &Value::Null);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn reads_answer_in_kubernetes_words() {
    let world = World::new().await;
    let no_resource = "the server could not find the requested resource";
    let no_method = "the server does not allow this method on the requested resource";
    let cases = [
        ("GET", "/api/v1/namespaces/shop/gadgets", 404, no_resource),
        ("GET", "/apis/apps/v9/deployments", 404, no_resource),
        ("GET", "/apis/apps/v9/nothing", 404, no_resource),
        (
            "GET",
            "/api/v1/namespaces/shop/services/s/nothing",
            404,
            no_resource,
        ),
        ("GET", "/api/v1/namespaces/shop/nodes", 404, no_resource),
        ("POST", "/api/v1/configmaps", 405, no_method),
        ("PATCH", CONFIG_MAPS, 405, no_method),
        ("DELETE", "/api/v1/namespaces", 405, no_method),
        ("HEAD", CONFIG_MAPS, 405, ""),
        ("OPTIONS", CONFIG_MAPS, 405, no_method),
        ("POST", "/api/v1/watch/configmaps", 405, no_method),
        ("POST", "/version", 405, no_method),
        ("HEAD", "/api/v1", 405, ""),
        ("GET", "/version/more", 404, no_resource),
        ("GET", "/api//v1/pods", 404, no_resource),
        ("GET", "/api/v1//pods", 404, no_resource),
        (
            "GET",
            "/api/v1/namespaces/shop/configmaps?timeout=10",
            400,
            "invalid timeout specified in the request URL - time: missing unit in duration \"10\"",
        ),
        (
            "GET",
            "/api/v1/namespaces/shop/configmaps?resourceVersion=abc",
            400,
            "invalid resource version: resourceVersion: Invalid value: \"abc\": \
             strconv.ParseUint: parsing \"abc\": invalid syntax",
        ),
        (
            "GET",
            "/api/v1/watch/namespaces/shop/configmaps/a?fieldSelector=metadata.name=b",
            400,
            "fieldSelector metadata.name doesn't match requested name",
        ),
        (
            "GET",
            "/api/v1/namespaces/shop%2Fconfigmaps?timeout=1s",
            200,
            "",
        ),
        (
            "GET",
            "/api/v1/namespaces/shop/configmaps/a",
            404,
            "configmaps \"a\" not found",
        ),
        (
            "GET",
            "/api/v1/namespaces/shop/configmaps?resourceVersion=999999",
            504,
            "",
        ),
    ];
    for (method, path, code, message) in cases {
        let answer = world
            .call(method, path, "application/json", json!({}))
            .await;
        assert_eq!(answer.code.as_u16(), code, "{method} {path}");
        if !message.is_empty() {
            assert_eq!(answer.message(), message, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn paths_that_nothing_is_registered_under_get_a_plain_page() {
    let world = World::new().await;
    for (method, path) in [
        ("GET", "/nothing"),
        ("POST", "/nothing"),
        ("GET", "/livez/nothing"),
        ("GET", "/livez/"),
        ("GET", "/openapi/v2/"),
        ("GET", "//version"),
        ("GET", "//api/v1/pods"),
        ("GET", "/apis/none.example.com/v1"),
        ("GET", "/apis/none.example.com/v1/things"),
    ] {
        let answer = world
            .call(method, path, "application/json", json!({}))
            .await;
        assert_eq!(answer.code.as_u16(), 404, "{method} {path}");
        let content_type = &answer.headers[header::CONTENT_TYPE];
        assert_eq!(content_type, "text/plain; charset=utf-8", "{method} {path}");
    }
}

#[tokio::test]
async fn a_path_without_its_resource_is_refused_to_everybody() {
    let mut world = World::new().await;
    world.user = User::anonymous();
    for path in ["/api/v1/watch", "/apis/apps/v1/proxy/?a=1&b=<c"] {
        let answer = world.get(&path.replace('<', "%3C")).await;
        assert_eq!(answer.code, StatusCode::INTERNAL_SERVER_ERROR);
        let shown = path.replace('&', "&amp;").replace('<', "%3C");
        let expected = format!(
            "Internal Server Error: \"{shown}\": failed to create RequestInfo: \
             unable to determine kind and namespace from url, {shown}\n"
        );
        assert_eq!(answer.body, Value::from(expected));
    }
}

#[tokio::test]
async fn tables_and_yaml_are_served_when_asked_for() {
    let world = World::new().await;
    world.post(CONFIG_MAPS, config_map("a")).await;
    let accept = |text: &'static str| {
        Request::builder()
            .uri(CONFIG_MAPS)
            .header(header::ACCEPT, text)
    };
    let table = accept("application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
    let answer = world.send(table, Body::empty()).await;
    assert_eq!(answer.at("/kind"), "Table");
    assert_eq!(answer.at("/rows/0/cells/0"), "a");
    let answer = world.send(accept("application/yaml"), Body::empty()).await;
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/yaml");
    let metadata = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    for (text, message) in [
        (
            "application/xml",
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf, application/json;stream=watch, \
             application/vnd.kubernetes.protobuf;stream=watch",
        ),
        (
            metadata,
            "you requested PartialObjectMetadata, but the requested object is a list \
             (*core.ConfigMapList)",
        ),
    ] {
        let answer = world.send(accept(text), Body::empty()).await;
        assert_eq!(answer.code, StatusCode::NOT_ACCEPTABLE);
        assert_eq!(answer.message(), message);
    }
}

#[tokio::test]
async fn a_user_without_a_role_is_refused() {
    let mut world = World::new().await;
    world.user = User::new("eve", &[]);
    let answer = world.get(CONFIG_MAPS).await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN);
    assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(
        answer.message(),
        "configmaps is forbidden: User \"eve\" cannot list resource \"configmaps\" \
         in API group \"\" in the namespace \"shop\""
    );
    let metrics = world.get("/metrics").await;
    assert_eq!(
        metrics.message(),
        "forbidden: User \"eve\" cannot get path \"/metrics\""
    );
    let review = json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(world.post(path, review).await.at("/status/allowed"), false);
}
