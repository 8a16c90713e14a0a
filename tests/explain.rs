//! `knarr explain` beside a real kernel: it says what is wrong, and falls silent when nothing is.

use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{wait, world::World};

const SETTLE_TIME_MAX: Duration = Duration::from_secs(30);
const SERVICE: &str = "/api/v1/namespaces/default/services/web";

/// Asks until the verdict is as wanted: nothing wrong, or a cause that contains these words.
fn explained(world: &World, wanted: Option<&str>) {
    let what = format!("the cause is {wanted:?}");
    wait::until(&what, SETTLE_TIME_MAX, || {
        let output = world.nodes[0].try_knarr(&["explain", "svc/web", "-o", "json"]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let told: Value = serde_json::from_slice(&output.stdout).map_err(|_| stderr)?;
        let cause = told["cause"]["sentence"].as_str();
        let as_wanted = match (wanted, cause) {
            (None, None) => told["routes"] == true && output.status.success(),
            (Some(words), Some(cause)) => cause.contains(words) && output.status.code() == Some(1),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if as_wanted {
            Ok(())
        } else {
            Err(told.to_string())
        }
    });
}

#[test]
fn explain_names_what_is_wrong_until_nothing_is() {
    let world = World::running(1);
    let container = json!({ "name": "echo", "command": ["knarr", "echo"] });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web-1", "labels": { "app": "web" } },
        "spec": { "terminationGracePeriodSeconds": 1, "containers": [container] },
    });
    world.post("/api/v1/namespaces/default/pods", &pod);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": { "selector": { "app": "wev" }, "ports": [{ "port": 80, "targetPort": 8081 }] },
    });
    world.post("/api/v1/namespaces/default/services", &service);
    explained(&world, Some("no pod has the labels app=wev"));
    world.merge(
        SERVICE,
        &json!({ "spec": { "selector": { "app": "web" } } }),
    );
    explained(&world, Some(":8081 refuses the connection"));
    let ports = json!([{ "port": 80, "targetPort": "http" }]);
    world.merge(SERVICE, &json!({ "spec": { "ports": ports } }));
    explained(&world, Some("no pod has a port of that name"));
    let ports = json!([{ "port": 80, "targetPort": 8080 }]);
    world.merge(SERVICE, &json!({ "spec": { "ports": ports } }));
    explained(&world, None);
    let text = world.nodes[0].knarr(&["explain", "svc/web"]);
    assert!(text.contains("table ip knarr has all"), "{text}");
    assert!(text.ends_with("verdict   default/web routes\n"), "{text}");
}
