//! An API server with much to hold: a change to a thousand watchers, and a restart with twenty thousand objects.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};

use nix::sys::signal::Signal;

use crate::{Row, Samples, idle, lab::world::World, show};

const WATCHERS: usize = 1000;
const EVENTS: usize = 20;
const SERVICES: usize = 10_000;
const PODS: usize = 10_000;
const WRITERS: usize = 32;
/// Long enough for every watcher to hear of a change on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// A kind of which nothing is there at first.
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

pub(crate) fn measure() -> Vec<Row> {
    let mut world = World::new(1);
    world.nodes[0].start(&["server"]);
    world.wait_for_api();
    let (heard, answered) = fan_out(&world);
    fill(&world);
    let full = format!("{:.1} MiB", idle::pss_mib(world.nodes[0].pid()));
    world.nodes[0].stop(Signal::SIGTERM);
    let began = Instant::now();
    world.nodes[0].start(&["server"]);
    let restart = ready_since(&world, began);
    let restarted = format!("{:.1} MiB", idle::pss_mib(world.nodes[0].pid()));
    let objects = SERVICES + PODS;
    let row = |what: String, figure, floor: &str, floor_is| Row {
        what,
        figure,
        floor: floor.into(),
        floor_is,
    };
    vec![
        row(
            format!("create → event at each of {WATCHERS} watchers (p50 / p99)"),
            heard.show(),
            &show(answered.median()),
            "the answer to the create itself",
        ),
        row(
            format!("restart with {objects} objects and their slices → API answers"),
            show(restart),
            "none",
            "see the later start above for an empty store",
        ),
        row(
            format!("PSS of the server after creating {objects} objects, and after the restart"),
            format!("{full}, {restarted}"),
            "none",
            "with the EndpointSlices and Endpoints that follow",
        ),
    ]
}

/// When each watcher heard of each change, and when its writer was answered.
fn fan_out(world: &World) -> (Samples, Samples) {
    let kubeconfig = world.nodes[0].data_dir().join("kubeconfig.yaml");
    world.nodes[0].netns.run(move || {
        block_on(async {
            let (heard, mut hearing) = mpsc::unbounded_channel();
            let mut watchers = JoinSet::new();
            for _ in 0..WATCHERS {
                let (client, heard) = (client(&kubeconfig).await, heard.clone());
                watchers.spawn(watch(client, heard));
            }
            let writer = client(&kubeconfig).await;
            let (mut delays, mut answers) = (Vec::new(), Vec::new());
            // The first rounds only show that every watcher listens.
            for round in 0..EVENTS + 2 {
                let began = Instant::now();
                post(&writer, SECRETS, &secret(&format!("event-{round}"))).await;
                let answered = began.elapsed();
                let mut round_delays = Vec::new();
                while round_delays.len() < WATCHERS {
                    let next = tokio::time::timeout(PATIENCE, hearing.recv()).await;
                    let at: Instant = next.expect("in time").expect("watchers run");
                    round_delays.push(at.saturating_duration_since(began));
                }
                if round >= 2 {
                    delays.extend(round_delays);
                    answers.push(answered);
                }
            }
            (Samples::new(delays), Samples::new(answers))
        })
    })
}

/// Reports the moment of every event.
async fn watch(client: kube::Client, heard: mpsc::UnboundedSender<Instant>) {
    let path = format!("{SECRETS}?watch=true");
    let request = http::Request::get(path)
        .body(kube::client::Body::empty())
        .expect("a request");
    let mut events = client.send(request).await.expect("a watch").into_body();
    while let Some(Ok(frame)) = events.frame().await {
        let lines = frame
            .data_ref()
            .map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
        (0..lines).for_each(|_| heard.send(Instant::now()).unwrap_or_default());
    }
}

fn fill(world: &World) {
    let kubeconfig = world.nodes[0].data_dir().join("kubeconfig.yaml");
    world.nodes[0].netns.run(move || {
        block_on(async {
            let mut writers = JoinSet::new();
            for writer in 0..WRITERS {
                let client = client(&kubeconfig).await;
                writers.spawn(async move {
                    for number in (writer..SERVICES).step_by(WRITERS) {
                        let path = "/api/v1/namespaces/default/services";
                        post(&client, path, &service(number)).await;
                    }
                    for number in (writer..PODS).step_by(WRITERS) {
                        post(&client, "/api/v1/namespaces/default/pods", &pod(number)).await;
                    }
                });
            }
            while let Some(writer) = writers.join_next().await {
                writer.expect("a writer");
            }
        });
    });
}

fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"text": "changed"}})
}

fn service(number: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{number}")},
        "spec": {"selector": {"app": format!("a{number}")}, "ports": [{"port": 80, "targetPort": 8080}]}})
}

/// For a scheduler that is not there, so that the pods only lie in the store.
fn pod(number: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{number}"), "labels": {"app": format!("a{number}")}},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "command": ["sleep", "1000"]}]}})
}

async fn post(client: &kube::Client, path: &str, object: &Value) {
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(kube::client::Body::from(object.to_string().into_bytes()))
        .expect("a request");
    let answer = client.send(request).await.expect("an answer");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a whole answer");
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body.to_bytes()));
}

fn ready_since(world: &World, began: Instant) -> Duration {
    let kubeconfig = world.nodes[0].data_dir().join("kubeconfig.yaml");
    world.nodes[0].netns.run(move || {
        block_on(async {
            while !is_ready(&kubeconfig).await {
                assert!(began.elapsed() < PATIENCE, "the API does not answer");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            began.elapsed()
        })
    })
}

async fn is_ready(kubeconfig: &Path) -> bool {
    let request = http::Request::get("/readyz")
        .body(kube::client::Body::empty())
        .expect("a request");
    let answer = client(kubeconfig).await.send(request).await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

async fn client(kubeconfig: &Path) -> kube::Client {
    crate::lab::world::client(kubeconfig).await
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}
