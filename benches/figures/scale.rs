//! An API server with much to hold: its memory, and its restart, with twenty thousand objects.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    Row, idle,
    lab::world::World,
    load::{Server, Session},
    show,
};

const SERVICES: usize = 10_000;
const PODS: usize = 10_000;
const WRITERS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(120);
const SERVICES_PATH: &str = "/api/v1/namespaces/default/services";
const PODS_PATH: &str = "/api/v1/namespaces/default/pods";
const SLICES_PATH: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const RESTARTS: usize = 5;

pub(crate) fn measure() -> Vec<Row> {
    let mut world = World::new(1);
    world.nodes[0].start(&["server"]);
    world.wait_for_api();
    let empty = idle::pss_mib(world.nodes[0].pid());
    let kubeconfig = world.nodes[0].data_dir().join("kubeconfig.yaml");
    world.nodes[0]
        .netns
        .run(move || block_on(fill(&kubeconfig)));
    let full = idle::pss_mib(world.nodes[0].pid());
    let mut restarts = Vec::new();
    for _ in 0..RESTARTS {
        world.nodes[0].stop(Signal::SIGTERM);
        let began = Instant::now();
        world.nodes[0].start(&["server"]);
        restarts.push(ready_since(&world, began));
    }
    std::thread::sleep(SETTLE);
    let restarted = idle::pss_mib(world.nodes[0].pid());
    let database = world.nodes[0].data_dir().join("knarr.db");
    let stored = std::fs::metadata(database).expect("a database").len() as f64 / f64::from(1 << 20);
    let objects = SERVICES + PODS;
    vec![
        Row {
            what: format!("restart with {objects} objects and their slices → API answers"),
            figure: show(crate::Samples::new(restarts).median()),
            floor: "none".to_owned(),
            floor_is: "see the later start above for an empty store",
        },
        Row {
            what: format!(
                "PSS of the server after creating {objects} objects, and after the restart"
            ),
            figure: format!("{full:.1}, {restarted:.1} MiB"),
            floor: format!("{empty:.1} + {stored:.1} MiB"),
            floor_is: "the empty server, and the database file with all of it",
        },
    ]
}

/// Long enough for the controllers to have seen all that a restarted server holds.
const SETTLE: Duration = Duration::from_secs(5);

async fn fill(kubeconfig: &Path) {
    let server = Server::of(kubeconfig).await;
    let writers = (0..WRITERS).map(async |writer| {
        let mut session = Session::open(&server).await;
        for number in (writer..SERVICES).step_by(WRITERS) {
            post(&mut session, SERVICES_PATH, &service(number)).await;
        }
        for number in (writer..PODS).step_by(WRITERS) {
            post(&mut session, PODS_PATH, &pod(number)).await;
        }
    });
    futures_util::future::join_all(writers).await;
    let mut session = Session::open(&server).await;
    let deadline = Instant::now() + PATIENCE;
    while count(&mut session, SLICES_PATH).await < SERVICES {
        assert!(
            Instant::now() < deadline,
            "the slices do not follow in time"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(SETTLE).await;
}

async fn count(session: &mut Session, path: &str) -> usize {
    let answer = session.get(&format!("{path}?limit=1")).await;
    let list: Value = serde_json::from_slice(answer.body).expect("a list");
    let remaining = list["metadata"]["remainingItemCount"].as_u64();
    remaining.map_or(0, |remaining| remaining as usize + 1)
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

async fn post(session: &mut Session, path: &str, object: &Value) {
    let answer = session.post(path, &object.to_string()).await;
    assert_eq!(answer.code, 201, "{}", String::from_utf8_lossy(answer.body));
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
    let client = crate::lab::client::client(kubeconfig).await;
    let answer = client.send(request).await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}
