use super::*;

#[tokio::test]
async fn a_finalizer_holds_an_object_until_it_is_taken_off() {
    let world = World::new().await;
    let path = format!("{CONFIG_MAPS}/held");
    let body = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    world.post(CONFIG_MAPS, body).await;
    let marked = world.delete(&path, Value::Null).await;
    assert_eq!(marked.at("/metadata/deletionGracePeriodSeconds"), 0);
    let again = json!({"metadata": {"name": "held"}});
    assert_eq!(
        world.post(CONFIG_MAPS, again).await.message(),
        "object is being deleted: configmaps \"held\" already exists"
    );
    let patch = json!({"metadata": {"finalizers": null}});
    assert_eq!(world.merge(&path, patch).await.code, StatusCode::OK);
    assert_eq!(world.get(&path).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn preconditions_are_checked_before_anything_goes() {
    let world = World::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    world.post(CONFIG_MAPS, config_map("a")).await;
    for preconditions in [json!({"uid": "other"}), json!({"resourceVersion": "1"})] {
        let options = json!({"preconditions": preconditions});
        let refused = world.delete(&path, options).await;
        assert_eq!(refused.code, StatusCode::CONFLICT);
    }
    let dry = world
        .delete(&format!("{path}?dryRun=All"), Value::Null)
        .await;
    assert_eq!(dry.at("/status"), "Success");
    assert_eq!(world.get(&path).await.code, StatusCode::OK);
}

#[tokio::test]
async fn a_collection_goes_by_selector() {
    let world = World::new().await;
    for (name, tier) in [("a", "front"), ("b", "front"), ("c", "back")] {
        let body = json!({"metadata": {"name": name, "labels": {"tier": tier}}});
        world.post(CONFIG_MAPS, body).await;
    }
    let path = format!("{CONFIG_MAPS}?labelSelector=tier%3Dfront");
    let gone = world.delete(&path, Value::Null).await;
    assert_eq!(gone.at("/kind"), "ConfigMapList");
    let left = world.get(CONFIG_MAPS).await;
    assert_eq!(left.at("/items/0/metadata/name"), "c");
    assert_eq!(left.at("/items/1"), &Value::Null);
}

#[tokio::test]
async fn built_in_namespaces_stay() {
    let world = World::new().await;
    let answer = world
        .delete("/api/v1/namespaces/default", Value::Null)
        .await;
    assert_eq!(
        answer.message(),
        "namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
    let shop = world.delete("/api/v1/namespaces/shop", Value::Null).await;
    assert_eq!(shop.at("/status/phase"), "Terminating");
    let late = world.post(CONFIG_MAPS, config_map("late")).await;
    assert_eq!(late.at("/details/causes/0/reason"), "NamespaceTerminating");
}
