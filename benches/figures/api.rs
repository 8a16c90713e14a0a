//! Durable writes a second through the API, against the disk flushes they need.

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{Row, lab::world::World};

const OBJECT_BYTES: usize = 1500;
const RUN_TIME: Duration = Duration::from_secs(5);

pub(crate) fn measure() -> Vec<Row> {
    let mut world = World::new(1);
    world.nodes[0].start(&["server"]);
    world.wait_for_api();
    let flushes = flushes_a_second(&world);
    let row = |clients: usize, rate: f64| Row {
        what: format!(
            "durable creates a second (1.5 KB), {clients} client{}",
            if clients == 1 { "" } else { "s" }
        ),
        figure: format!("{rate:.0}"),
        floor: format!("{flushes:.0}"),
        floor_is: "appends of the same bytes, each with fdatasync, one after the other",
    };
    [1, 64]
        .map(|clients| row(clients, creates_a_second(&world, clients)))
        .into()
}

fn object(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": "x".repeat(OBJECT_BYTES - 200)}})
}

fn creates_a_second(world: &World, clients: usize) -> f64 {
    let kubeconfig = world.nodes[0].data_dir().join("kubeconfig.yaml");
    world.nodes[0].netns.run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let created = Arc::new(std::sync::atomic::AtomicU64::new(0));
            let started = Arc::new(Semaphore::new(0));
            let mut tasks = tokio::task::JoinSet::new();
            for client in 0..clients {
                let api = crate::lab::world::client(&kubeconfig).await;
                let (created, started) = (created.clone(), started.clone());
                tasks.spawn(async move {
                    let _go = started.acquire().await.expect("open");
                    let deadline = Instant::now() + RUN_TIME;
                    for number in 0.. {
                        if Instant::now() >= deadline {
                            break;
                        }
                        let body = object(&format!("bench-{clients}-{client}-{number}"))
                            .to_string()
                            .into_bytes();
                        let request = http::Request::post("/api/v1/namespaces/default/configmaps")
                            .header("content-type", "application/json")
                            .body(kube::client::Body::from(body))
                            .expect("a request");
                        let answer = api.send(request).await.expect("an answer");
                        assert_eq!(answer.status(), 201);
                        http_body_util::BodyExt::collect(answer.into_body())
                            .await
                            .expect("a whole answer");
                        created.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
            started.add_permits(clients);
            let began = Instant::now();
            while let Some(result) = tasks.join_next().await {
                result.expect("a client");
            }
            created.load(std::sync::atomic::Ordering::Relaxed) as f64
                / began.elapsed().as_secs_f64()
        })
    })
}

fn flushes_a_second(world: &World) -> f64 {
    let path = world.nodes[0].data_dir().join("floor");
    let mut file = std::fs::File::create(&path).expect("a file");
    let bytes = vec![b'x'; OBJECT_BYTES];
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < RUN_TIME {
        file.write_all(&bytes)
            .and_then(|()| file.sync_data())
            .expect("a disk");
        count += 1;
    }
    std::fs::remove_file(path).expect("our own file");
    f64::from(count) / began.elapsed().as_secs_f64()
}
