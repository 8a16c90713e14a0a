//! Connections are counted where they knock, by the kernel: across syncs, and while no proxy runs.

use std::{collections::BTreeMap, net::SocketAddr, process::Command, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::lab::{netns::Netns, outage::is_answered, wait, world::World};

const SETTLE_TIME_MAX: Duration = Duration::from_secs(30);
const CLUSTER_IP: &str = "10.0.128.77";
const LB_IP: &str = "10.77.0.201";
const NODE_PORT: u16 = 30_077;

fn web() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": {
            "type": "LoadBalancer", "clusterIP": CLUSTER_IP, "loadBalancerIP": LB_IP,
            "selector": { "app": "web" },
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080, "nodePort": NODE_PORT }],
        },
    })
}

fn pod(name: &str) -> Value {
    let probe = json!({ "tcpSocket": { "port": 8080 } });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": "web" } },
        "spec": {
            "nodeName": "node-1", "terminationGracePeriodSeconds": 1,
            "containers": [{ "name": "echo", "command": ["knarr", "echo"], "readinessProbe": probe }],
        },
    })
}

/// Connections so far, by kind of frontend.
type Counts = BTreeMap<&'static str, u64>;

/// Nothing while the proxy does not tell of all three.
fn counts(world: &World) -> Option<Counts> {
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "5", "http://127.0.0.1:10249/metrics"]);
    let text = world.nodes[0].netns.output(curl).stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    let address = |kind, address: &str, port: u16| {
        let series = format!(
            "knarr_service_connections_total{{namespace=\"default\",service=\"web\",\
             port_name=\"http\",protocol=\"TCP\",kind=\"{kind}\",address=\"{address}\",port=\"{port}\"}} "
        );
        let count = text.lines().find_map(|line| line.strip_prefix(&series))?;
        Some((kind, count.parse().ok()?))
    };
    let all = [
        address("ClusterIP", CLUSTER_IP, 80),
        address("NodePort", "0.0.0.0", NODE_PORT),
        address("LoadBalancerIP", LB_IP, 80),
    ];
    all.into_iter().collect()
}

fn until_counted(world: &World) -> Counts {
    wait::until("all are counted", SETTLE_TIME_MAX, || {
        counts(world).ok_or_else(|| world.logs())
    })
}

fn until_endpoints(world: &World, wanted: usize) {
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let elements = "nft list map ip knarr backends";
    wait::until("endpoints", SETTLE_TIME_MAX, || {
        let listed = world.nodes[0].netns.sh(elements);
        let own = format!("{CLUSTER_IP} . tcp . 80");
        match listed.matches(&own).count() {
            count if count == wanted => Ok(()),
            _ => Err((listed, world.get(path).to_string())),
        }
    });
}

/// Connects that often, one after another; each is answered.
fn connect(from: &Netns, to: (&str, u16), count: u64) {
    let to: SocketAddr = format!("{}:{}", to.0, to.1).parse().expect("an address");
    let answered = from.run(move || (0..count).filter(|_| is_answered(to)).count());
    assert_eq!(u64::try_from(answered).ok(), Some(count), "{to}");
}

/// Three ways into the Service, each taken another number of times.
fn connect_to_all(world: &World) {
    connect(&world.nodes[0].netns, (CLUSTER_IP, 80), 5);
    let node_ip = world.nodes[0].address().to_string();
    connect(&world.client, (&node_ip, NODE_PORT), 7);
    connect(&world.client, (LB_IP, 80), 11);
}

fn more(counts: &Counts) -> Counts {
    let more = |(kind, count): (&&'static str, &u64)| {
        let more = match *kind {
            "ClusterIP" => 5,
            "NodePort" => 7,
            _ => 11,
        };
        (*kind, count + more)
    };
    counts.iter().map(more).collect()
}

#[test]
fn connections_are_counted_exactly_across_syncs_and_while_no_proxy_runs() {
    let mut world = World::running(1);
    world.post("/api/v1/namespaces/default/services", &web());
    let none = BTreeMap::from([("ClusterIP", 0), ("LoadBalancerIP", 0), ("NodePort", 0)]);
    let zero = wait::until("frontends without endpoints", SETTLE_TIME_MAX, || {
        counts(&world).ok_or_else(|| world.logs())
    });
    assert_eq!(zero, none);
    world.post("/api/v1/namespaces/default/pods", &pod("web-1"));
    until_endpoints(&world, 1);
    connect_to_all(&world);
    let first = until_counted(&world);
    assert_eq!(first, more(&none));

    world.post("/api/v1/namespaces/default/pods", &pod("web-2"));
    until_endpoints(&world, 2);
    world.delete("/api/v1/namespaces/default/pods/web-1");
    until_endpoints(&world, 1);
    connect_to_all(&world);
    let second = until_counted(&world);
    assert_eq!(second, more(&first), "a sync lost counts");

    world.nodes[0].stop(Signal::SIGKILL);
    connect_to_all(&world);
    world.start();
    let third = until_counted(&world);
    assert_eq!(third, more(&second), "what no proxy saw was not counted");

    let sticky = json!({ "spec": { "sessionAffinity": "ClientIP" } });
    world.merge("/api/v1/namespaces/default/services/web", &sticky);
    wait::until("affinity", SETTLE_TIME_MAX, || {
        let listed = world.nodes[0].netns.sh("nft list map ip knarr frontends");
        let sticky =
            format!("{CLUSTER_IP} . tcp . 80 : goto cluster-ip-service-default/web/tcp/http");
        match listed.contains(&sticky) {
            true => Ok(()),
            false => Err(listed),
        }
    });
    connect_to_all(&world);
    assert_eq!(
        until_counted(&world),
        more(&third),
        "affinity is counted otherwise"
    );
}
