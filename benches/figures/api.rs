//! Writes and reads a second through the API, beside the disk, bare SQLite, etcd, and the server's own HTTP.

use std::{path::Path, time::Duration};

use serde_json::json;

use crate::{
    Row,
    lab::world::World,
    load::{self, Load, Server, Session},
    median, peers, show,
};

const OBJECT_BYTES: usize = 1500;
const RUN_TIME: Duration = Duration::from_secs(3);
/// Each round measures everything once, so that knarr and its floors see the same machine.
const ROUNDS: usize = 3;
const CLIENTS: usize = 64;
const LISTED: usize = 500;
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const VIEWERS: &str = "viewers";
/// Of a namespace of their own, so that the list does not grow with the creates.
const LISTED_MAPS: &str = "/api/v1/namespaces/kube-public/configmaps";

pub(crate) fn measure() -> Vec<Row> {
    let mut world = World::new(1);
    world.nodes[0].start(&["server"]);
    world.wait_for_api();
    let (directory, pid) = (world.nodes[0].data_dir(), world.nodes[0].pid());
    world.nodes[0].netns.run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut rows = writes(&directory, pid).await;
            rows.extend(reads(&directory, pid).await);
            rows
        })
    })
}

/// What one number of clients reached in one round.
struct Round {
    knarr: Load,
    sqlite: f64,
    etcd: Option<f64>,
    flushes: f64,
}

async fn writes(directory: &Path, pid: u32) -> Vec<Row> {
    let server = Server::of(&directory.join("kubeconfig.yaml")).await;
    let scratch = directory.with_file_name("floors");
    std::fs::create_dir_all(&scratch).expect("a folder");
    let etcd = peers::Etcd::start(&scratch);
    let mut rows = Vec::new();
    for clients in [1, CLIENTS] {
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            rounds.push(Round {
                knarr: creates(&server, pid, clients, round).await,
                sqlite: peers::sqlite_rows_a_second(&scratch, clients, OBJECT_BYTES, RUN_TIME)
                    .await,
                etcd: match &etcd {
                    Some(etcd) => Some(etcd.puts_a_second(clients, OBJECT_BYTES, RUN_TIME).await),
                    None => None,
                },
                flushes: peers::flushes_a_second(&scratch, OBJECT_BYTES, RUN_TIME),
            });
        }
        rows.extend(write_rows(clients, &rounds));
    }
    rows
}

fn write_rows(clients: usize, rounds: &[Round]) -> [Row; 4] {
    let of = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
    let rate = format!("{:.0}", of(&|round| round.knarr.per_second()));
    let etcd = match rounds.iter().map(|round| round.etcd).collect::<Option<_>>() {
        Some(rates) => format!("{:.0}", median(rates)),
        None => "not installed".to_owned(),
    };
    let cpu = |figure: &dyn Fn(&Load) -> Duration| {
        show(Duration::from_secs_f64(of(&|round| {
            figure(&round.knarr).as_secs_f64()
        })))
    };
    let plural = if clients == 1 { "" } else { "s" };
    let row = |figure: &str, floor: String, floor_is| Row {
        what: format!("durable creates a second (1.5 KB), {clients} client{plural}"),
        figure: figure.to_owned(),
        floor,
        floor_is,
    };
    [
        row(
            &rate,
            format!("{:.0}", of(&|round| round.sqlite)),
            "bare SQLite, a row of each client in every transaction",
        ),
        row(&rate, etcd, "etcd, the same clients putting the same bytes"),
        row(
            &rate,
            format!("{:.0}", of(&|round| round.flushes)),
            "writes of the same bytes, each with fdatasync, one after the other",
        ),
        Row {
            what: format!("CPU of the server a create, {clients} client{plural}"),
            figure: cpu(&Load::server_cpu_each),
            floor: cpu(&Load::client_cpu_each),
            floor_is: "the client's own share",
        },
    ]
}

async fn creates(server: &Server, pid: u32, clients: usize, round: usize) -> Load {
    load::run(
        sessions(server, clients).await,
        pid,
        RUN_TIME,
        async |session, number| {
            let object = object(&format!("bench-{clients}-{round}-{number}"));
            let answer = session.post(CONFIG_MAPS, &object).await;
            assert_eq!(answer.code, 201, "{}", String::from_utf8_lossy(answer.body));
        },
    )
    .await
}

async fn sessions(server: &Server, count: usize) -> Vec<Session> {
    let mut sessions = Vec::new();
    for _ in 0..count {
        sessions.push(Session::open(server).await);
    }
    sessions
}

fn object(name: &str) -> String {
    let text = "x".repeat(OBJECT_BYTES - 400);
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": text}})
        .to_string()
}

async fn reads(directory: &Path, pid: u32) -> Vec<Row> {
    let server = Server::of(&directory.join("kubeconfig.yaml")).await;
    let mut session = Session::open(&server).await;
    for number in 0..LISTED {
        let answer = session
            .post(LISTED_MAPS, &object(&format!("listed-{number}")))
            .await;
        assert_eq!(answer.code, 201);
    }
    let answer = session.post(BINDINGS, &viewers().to_string()).await;
    assert_eq!(answer.code, 201);
    let one = format!("{LISTED_MAPS}/listed-0");
    let (mut gets, mut floors, mut lists, mut documents) = (vec![], vec![], vec![], vec![]);
    let (mut by_viewer, mut by_master) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        by_viewer.push(gets_by(&server, pid, &one, VIEWERS).await);
        by_master.push(gets_by(&server, pid, &one, "system:masters").await);
        gets.push(gets_of(&server, pid, &one).await);
        floors.push(gets_of(&server, pid, "/livez").await);
        lists.push(gets_of(&server, pid, LISTED_MAPS).await);
        documents.push(gets_of(&server, pid, "/openapi/v3/api/v1").await);
    }
    let cpu = |loads: &[Read]| {
        let each = loads.iter().map(|read| read.load.server_cpu_each());
        let each = each.map(|cpu| cpu.as_secs_f64()).collect();
        show(Duration::from_secs_f64(median(each)))
    };
    let rate = |loads: &[Read]| {
        let rate = median(loads.iter().map(|read| read.load.per_second()).collect());
        (rate, cpu(loads))
    };
    let megabytes = |loads: &[Read]| {
        let rate = |read: &Read| read.load.per_second() * read.bytes as f64 / 1e6;
        median(loads.iter().map(rate).collect())
    };
    let ((get, get_cpu), (floor, floor_cpu)) = (rate(&gets), rate(&floors));
    let (list, list_cpu) = rate(&lists);
    let (viewer, master) = (cpu(&by_viewer), cpu(&by_master));
    vec![
        Row {
            what: "CPU of the server a get by a user whom a ClusterRole lets".to_owned(),
            figure: viewer,
            floor: master,
            floor_is: "the same by a member of system:masters, who needs no role",
        },
        Row {
            what: format!("gets a second (1.5 KB), {CLIENTS} clients; CPU of the server each"),
            figure: format!("{get:.0}; {get_cpu}"),
            floor: format!("{floor:.0}; {floor_cpu}"),
            floor_is: "`/livez`: the same server's TLS and HTTP, without an object",
        },
        Row {
            what: format!(
                "lists a second ({LISTED} objects), {CLIENTS} clients; CPU of the server each"
            ),
            figure: format!("{list:.0}; {list_cpu}; {:.0} MB/s", megabytes(&lists)),
            floor: format!("{:.0} MB/s", megabytes(&documents)),
            floor_is: "an OpenAPI document, ready in memory",
        },
    ]
}

struct Read {
    load: Load,
    bytes: usize,
}

/// Lets a group read, by a role that everyone knows.
fn viewers() -> serde_json::Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": VIEWERS},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": VIEWERS}]})
}

async fn gets_by(server: &Server, pid: u32, path: &str, group: &str) -> Read {
    let sessions = sessions(server, CLIENTS).await;
    let load = load::run(sessions, pid, RUN_TIME, async |session, _| {
        assert_eq!(session.get_as(path, "somebody", group).await.code, 200);
    })
    .await;
    Read { load, bytes: 0 }
}

async fn gets_of(server: &Server, pid: u32, path: &str) -> Read {
    let mut sessions = sessions(server, CLIENTS).await;
    let bytes = sessions[0].get(path).await.body.len();
    let load = load::run(sessions, pid, RUN_TIME, async |session, _| {
        assert_eq!(session.get(path).await.code, 200);
    })
    .await;
    Read { load, bytes }
}
