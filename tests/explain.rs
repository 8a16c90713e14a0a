//! `knarr explain` beside a real kernel: it says what is wrong, and falls silent when nothing is.

use std::{process::Command, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::lab::{machine::Machine, wait, world::World};

const SETTLE_TIME_MAX: Duration = Duration::from_secs(30);
const SERVICE: &str = "/api/v1/namespaces/default/services/web";

/// Asks until the verdict is as wanted: nothing wrong, or a cause that contains these words.
fn explained(node: &Machine, question: &[&str], wanted: Option<&str>) {
    let what = format!("{question:?}: the cause is {wanted:?}");
    wait::until(&what, SETTLE_TIME_MAX, || {
        let output = node.try_knarr(&[&["explain", "-o", "json"], question].concat());
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
    explained(
        &world.nodes[0],
        &["svc/web"],
        Some("no pod has the labels app=wev"),
    );
    world.merge(
        SERVICE,
        &json!({ "spec": { "selector": { "app": "web" } } }),
    );
    explained(
        &world.nodes[0],
        &["svc/web"],
        Some(":8081 refuses the connection"),
    );
    let ports = json!([{ "port": 80, "targetPort": "http" }]);
    world.merge(SERVICE, &json!({ "spec": { "ports": ports } }));
    explained(
        &world.nodes[0],
        &["svc/web"],
        Some("no pod has a port of that name"),
    );
    let ports = json!([{ "port": 80, "targetPort": 8080 }]);
    world.merge(SERVICE, &json!({ "spec": { "ports": ports } }));
    explained(&world.nodes[0], &["svc/web"], None);
    let text = world.nodes[0].knarr(&["explain", "svc/web"]);
    assert!(text.contains("table ip knarr has all"), "{text}");
    assert!(text.ends_with("verdict   default/web routes\n"), "{text}");
}

fn run_pod(world: &World, name: &str, node: &Machine) {
    let container = json!({
        "name": "echo", "command": ["knarr", "echo"],
        "readinessProbe": { "httpGet": { "port": 8080, "path": "/" }, "periodSeconds": 1 },
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "nodeName": node.netns.name, "terminationGracePeriodSeconds": 1,
            "containers": [container],
        },
    });
    world.post("/api/v1/namespaces/default/pods", &pod);
}

#[test]
fn a_packet_is_followed_from_its_sender_to_what_is_in_its_way() {
    let world = World::running(1);
    let node = &world.nodes[0];
    run_pod(&world, "web", node);
    run_pod(&world, "shop", node);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": {
            "type": "LoadBalancer", "selector": { "app": "wev" },
            "ports": [{ "port": 80, "targetPort": 8080, "nodePort": 30_071 }],
        },
    });
    world.post("/api/v1/namespaces/default/services", &service);
    let here = format!("node/{}", node.netns.name);
    let node_port = format!("http://{}:30071", node.ip);
    let follow = |from: &str, to: &str, wanted| explained(node, &[from, to], wanted);
    follow(
        "pod/shop",
        "http://web",
        Some("no pod has the labels app=wev"),
    );
    world.merge(
        SERVICE,
        &json!({ "spec": { "selector": { "app": "web" } } }),
    );
    follow("pod/shop", "http://web", None);
    follow("pod/shop", "http://kubernetes.default.svc:443", None);
    follow(&here, "http://web.default.svc.cluster.local", None);
    follow("outside", &node_port, None);
    follow(
        "pod/shop",
        "http://web.nowhere.svc.cluster.local",
        Some("is not a Service's name"),
    );
    follow("pod/shop", "web:81", Some("has no port 81/tcp"));

    let told = node.knarr(&["explain", "pod/shop", "http://web"]);
    assert!(told.contains("as read from the kernel"), "{told}");
    assert!(told.contains("pod default/web, ready"), "{told}");

    let ingress = world.get(SERVICE)["status"]["loadBalancer"]["ingress"][0]["ip"].clone();
    let load_balancer = format!("http://{}", ingress.as_str().expect("an address"));
    let ranges = |ranges: Value| {
        let spec = json!({ "spec": { "loadBalancerSourceRanges": ranges } });
        world.merge(SERVICE, &spec);
    };
    ranges(json!(["203.0.113.0/24"]));
    let refused = Some("loadBalancerSourceRanges does not hold 198.51.100.9");
    follow("outside/198.51.100.9", &load_balancer, refused);
    follow("outside/203.0.113.9", &load_balancer, None);
    ranges(Value::Null);

    node.netns.sh("nft add table inet wall");
    let mut gate = Command::new("nft");
    gate.arg("add chain inet wall gate { type filter hook forward priority 0; policy drop; }");
    assert!(node.netns.output(gate).status.success());
    let wall = Some("chain gate of table inet wall drops all that passes");
    follow("pod/shop", "http://web", wall);
    explained(&world.nodes[0], &["svc/web"], wall);
    node.netns.sh("nft delete table inet wall");
    follow("pod/shop", "http://web", None);
}

#[test]
fn a_rule_edited_by_hand_on_a_node_without_proxy_is_found() {
    let mut world = World::running(2);
    run_pod(&world, "web", &world.nodes[0]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": {
            "clusterIP": "10.0.128.71", "selector": { "app": "web" },
            "ports": [{ "port": 80, "targetPort": 8080 }],
        },
    });
    world.post("/api/v1/namespaces/default/services", &service);
    let kubeconfig = world.kubeconfig_for_others();
    let here = format!("node/{}", world.nodes[1].netns.name);
    let question = [&here, "http://10.0.128.71", "--kubeconfig", &kubeconfig];
    explained(&world.nodes[1], &question, None);
    world.nodes[1].stop(Signal::SIGKILL);
    let netns = &world.nodes[1].netns;
    netns.sh("nft insert rule ip knarr services ip daddr 10.0.128.71 drop");
    let edited = Some("is dropped, and should be answered by");
    explained(&world.nodes[1], &question, edited);
    world.start_agent(1);
    explained(&world.nodes[1], &question, None);
}

/// Waits until the story has these words, however it ends.
fn told(machine: &Machine, asked: &[&str], words: &str) {
    wait::until(words, SETTLE_TIME_MAX, || {
        let output = machine.try_knarr(&[&["explain"], asked].concat());
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if told.contains(words) {
            Ok(())
        } else {
            Err(told)
        }
    });
}

#[test]
fn the_front_and_its_nodes_are_part_of_the_story() {
    let mut world = World::running(2);
    world.add_front();
    run_pod(&world, "web", &world.nodes[0]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": {
            "type": "LoadBalancer", "loadBalancerIP": "10.77.0.210", "selector": { "app": "web" },
            "ports": [{ "port": 80, "targetPort": 8080 }],
        },
    });
    world.post("/api/v1/namespaces/default/services", &service);
    let balancer = "http://10.77.0.210";
    explained(&world.nodes[0], &["outside", balancer], None);
    told(
        &world.nodes[0],
        &["svc/web"],
        "announced 10.77.0.210 by node-",
    );
    world.start_front(0);
    let kubeconfig = world.kubeconfig_for_others();
    let journey = ["outside", balancer, "--kubeconfig", &kubeconfig];
    told(
        &world.nodes[0],
        &journey,
        "front-1 announces it; as planned: this machine is not front-1",
    );
    told(
        &world.fronts[0],
        &journey,
        "front-1 announces it; as read from its kernel",
    );
    told(&world.fronts[0], &journey, "then to   10.77.0.");
    explained(&world.fronts[0], &journey, None);
    world.kubectl(&["cordon", "node-2"]);
    told(&world.nodes[0], &journey, "node-2 is leaving: cordoned");
    let label = "node.kubernetes.io/exclude-from-external-load-balancers=";
    world.kubectl(&["label", "node", "node-1", "node-2", label]);
    let stranded =
        Some("front front-1 has no node to send 10.77.0.210:80/tcp to: node-1 is labelled");
    explained(&world.nodes[0], &["svc/web"], stranded);
    explained(&world.fronts[0], &journey, stranded);
    world.fronts[0].stop(Signal::SIGKILL);
    told(
        &world.nodes[0],
        &["svc/web"],
        "not by front front-1: it does not renew its Lease",
    );
}
