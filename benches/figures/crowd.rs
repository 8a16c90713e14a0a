//! Many Services with endpoints of their own, made through the API by many writers at once.

use std::path::Path;

use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::lab::world::World;

const WRITERS: usize = 16;

/// Makes so many Services, each with a slice of so many endpoints that do not exist.
pub(crate) fn fill(world: &World, services: usize, endpoints: usize) {
    let kubeconfig = world.nodes[0].data_dir().join("kubeconfig.yaml");
    world.nodes[0].netns.run(move || {
        block_on(async {
            let mut writers = JoinSet::new();
            for writer in 0..WRITERS {
                let client = client(&kubeconfig).await;
                writers.spawn(async move {
                    for number in (writer..services).step_by(WRITERS) {
                        send(&client, "POST", SERVICES, &service(number)).await;
                        send(&client, "POST", SLICES, &slice(number, endpoints, 0)).await;
                    }
                });
            }
            while let Some(writer) = writers.join_next().await {
                writer.expect("a writer");
            }
        });
    });
}

pub(crate) const SERVICES: &str = "/api/v1/namespaces/default/services";
pub(crate) const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

fn service(number: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("crowd-{number}")},
        "spec": {"ports": [{"port": 80, "targetPort": 8080}]}})
}

/// The slice of one Service; another `round` means another first endpoint.
pub(crate) fn slice(number: usize, endpoints: usize, round: usize) -> Value {
    let address = |index: usize| {
        let last = if index == 0 {
            100 + round % 100
        } else {
            1 + index
        };
        json!({"addresses": [format!("10.43.{}.{last}", number % 250)]})
    };
    let endpoints: Vec<Value> = (0..endpoints).map(address).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("crowd-{number}"), "labels": {"kubernetes.io/service-name": format!("crowd-{number}")}},
        "ports": [{"port": 8080}], "endpoints": endpoints})
}

/// One request that has to succeed.
pub(crate) async fn send(client: &kube::Client, method: &str, path: &str, object: &Value) {
    let content_type = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .body(kube::client::Body::from(object.to_string().into_bytes()))
        .expect("a request");
    let answer = client.send(request).await.expect("an answer");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a whole answer");
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    assert!(status.is_success(), "{method} {path}: {status} {text}");
}

pub(crate) async fn client(kubeconfig: &Path) -> kube::Client {
    crate::lab::client::client(kubeconfig).await
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}
