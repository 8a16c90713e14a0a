//! kube-rs: Api, watcher, exec.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodCondition};
use kube::{
    Api, Client,
    api::{AttachParams, DeleteParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, conditions, wait::await_condition, watcher},
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::{client, world::World};

const WAIT_TIME_MAX: Duration = Duration::from_secs(30);

#[test]
fn kube_rs_works() {
    let world = World::running(1);
    let kubeconfig = world.nodes[0].data_dir().join("kubeconfig.yaml");
    world.nodes[0].netns.run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let client = client::client(&kubeconfig).await;
            tokio::time::timeout(WAIT_TIME_MAX, use_pods(client.clone()))
                .await
                .expect("pods in time");
            use_config_maps(client).await;
        });
    });
}

async fn use_pods(client: Client) {
    let pods = Api::<Pod>::default_namespaced(client);
    let pod = json!({
        "metadata": { "name": "rs" },
        "spec": { "terminationGracePeriodSeconds": 1, "containers": [{ "name": "c", "command": ["knarr", "echo"] }] },
    });
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    pods.create(&PostParams::default(), &pod)
        .await
        .expect("created");
    let config = watcher::Config::default()
        .fields("metadata.name=rs")
        .streaming_lists();
    let mut seen = watcher(pods.clone(), config).applied_objects().boxed();
    while let Some(pod) = seen.try_next().await.expect("a watch") {
        let conditions = pod.status.and_then(|status| status.conditions);
        let is_ready = |one: &PodCondition| one.type_ == "Ready" && one.status == "True";
        if conditions.unwrap_or_default().iter().any(is_ready) {
            break;
        }
    }
    say_through(&pods).await;
    let uid = pods
        .get("rs")
        .await
        .expect("it is there")
        .metadata
        .uid
        .expect("a uid");
    pods.delete("rs", &DeleteParams::default())
        .await
        .expect("deleted");
    await_condition(pods, "rs", conditions::is_deleted(&uid))
        .await
        .expect("it goes");
}

/// Talks to a process in the pod until it ends.
async fn say_through(pods: &Api<Pod>) {
    let parameters = AttachParams::default().stdin(true);
    let command = ["sh", "-c", "read word; echo heard $word; exit 3"];
    let mut session = pods
        .exec("rs", command, &parameters)
        .await
        .expect("a session");
    let (mut stdin, mut stdout) = (
        session.stdin().expect("asked for"),
        session.stdout().expect("there by default"),
    );
    stdin.write_all(b"hi\n").await.expect("it listens");
    let mut said = String::new();
    stdout.read_to_string(&mut said).await.expect("it says");
    assert_eq!(said, "heard hi\n");
    let status = session.take_status().expect("one").await.expect("an end");
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
}

async fn use_config_maps(client: Client) {
    let maps = Api::<ConfigMap>::default_namespaced(client);
    let apply = |manager: &'static str, value: &'static str| {
        let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "rs" }, "data": { "a": value } });
        let maps = maps.clone();
        async move {
            maps.patch("rs", &PatchParams::apply(manager), &Patch::Apply(body))
                .await
        }
    };
    apply("one", "b").await.expect("applied");
    let refused = apply("two", "c").await.expect_err("another owns it");
    let kube::Error::Api(status) = refused else {
        panic!("{refused}")
    };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let listed = maps
        .list(&kube::api::ListParams::default().fields("metadata.name=rs"))
        .await
        .expect("a list");
    assert_eq!(listed.items.len(), 1);
}
