//! What the netproxy tells of itself: health ports, metrics, and Events about what it cannot do.

use std::{net::SocketAddr, process::Command, time::Duration};

use serde_json::{Value, json};

use crate::lab::{
    family::{Family, Stack},
    machine::Machine,
    netns::Netns,
    probe::{self, Outcome, Protocol},
    wait,
    world::World,
};

const SETTLE_TIME_MAX: Duration = Duration::from_secs(30);
const EVENTS: &str = "/api/v1/namespaces/default/events";

/// An answer as curl prints it: head and body.
fn ask(from: &Netns, url: &str) -> (u16, String, String) {
    let mut curl = Command::new("curl");
    curl.args(["-sSi", "--max-time", "5", url]);
    let output = from.output(curl);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    (
        status.unwrap_or_default(),
        head.to_lowercase(),
        body.to_owned(),
    )
}

fn until_status(from: &Netns, url: &str, wanted: u16) -> (String, String) {
    wait::until(&format!("{url} says {wanted}"), SETTLE_TIME_MAX, || {
        let (status, head, body) = ask(from, url);
        if status == wanted {
            Ok((head, body))
        } else {
            Err((status, body))
        }
    })
}

fn run_pod(world: &World, node: &Machine, name: &str) {
    let container = json!({ "name": "echo", "command": ["knarr", "echo"] });
    run_pod_of(world, node, name, 1, &container);
}

fn run_pod_of(world: &World, node: &Machine, name: &str, grace_seconds: u32, container: &Value) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": "web" } },
        "spec": {
            "nodeName": node.netns.name, "terminationGracePeriodSeconds": grace_seconds,
            "containers": [container],
        },
    });
    world.post("/api/v1/namespaces/default/pods", &pod);
}

fn serve(world: &World, name: &str, spec: &Value) {
    let mut spec = spec.clone();
    spec["selector"] = json!({ "app": "web" });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec,
    });
    world.post("/api/v1/namespaces/default/services", &service);
}

/// Waits for an Event on a Service, and gives its message.
fn event(world: &World, service: &str, reason: &str) -> String {
    wait::until(reason, SETTLE_TIME_MAX, || {
        let events = world.get(EVENTS);
        let mut items = events["items"].as_array().into_iter().flatten();
        let found = items.find(|event| {
            event["reason"] == reason
                && event["involvedObject"]["name"] == service
                && event["involvedObject"]["uid"].is_string()
                && event["source"]["component"] == "kube-proxy"
        });
        let message = found.and_then(|event| event["message"].as_str());
        message.map(str::to_owned).ok_or_else(|| events.to_string())
    })
}

#[test]
fn a_health_check_node_port_answers_as_kube_proxy_does() {
    let world = World::running(2);
    let [first, second] = &world.nodes[..] else {
        panic!("two nodes")
    };
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 31_000, "ports": [{ "port": 80, "targetPort": 8080 }],
    });
    serve(&world, "web", &spec);
    run_pod(&world, first, "web-1");
    let url = |node: &Machine| format!("http://{}:31000/any/path", node.ip);
    let (head, body) = until_status(&world.client, &url(first), 200);
    for line in [
        "content-type: application/json",
        "x-content-type-options: nosniff",
        "x-load-balancing-endpoint-weight: 1",
    ] {
        assert!(head.lines().any(|own| own == line), "{line}: {head}");
    }
    let expected = "{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"web\"\n\t},\n\t\
                    \"localEndpoints\": 1,\n\t\"serviceProxyHealthy\": true\n}";
    assert_eq!(body, expected);
    let (head, body) = until_status(&world.client, &url(second), 503);
    assert!(
        head.contains("x-load-balancing-endpoint-weight: 0"),
        "{head}"
    );
    assert_eq!(body, expected.replace("Endpoints\": 1", "Endpoints\": 0"));
}

#[test]
fn a_node_with_leaving_pods_only_is_unhealthy_while_they_still_answer() {
    const GRACE_SECONDS: u32 = 100;
    let world = World::running_with(Stack::Dual, 1);
    let node = &world.nodes[0];
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "ipFamilyPolicy": "RequireDualStack",
        "healthCheckNodePort": 31_001,
        "ports": [{ "port": 80, "targetPort": 8080, "nodePort": 30_091 }],
    });
    serve(&world, "web", &spec);
    let command = ["knarr", "echo", "--drain-ms", "100000"];
    let container = json!({ "name": "echo", "command": command });
    run_pod_of(&world, node, "web-1", GRACE_SECONDS, &container);
    let at = |family: Family, port| {
        SocketAddr::new(node.ip_in(family).parse().expect("an address"), port)
    };
    let until_health = |wanted| {
        for family in [Family::V4, Family::V6] {
            until_status(
                &world.client,
                &format!("http://{}/", at(family, 31_001)),
                wanted,
            );
        }
    };
    until_health(200);
    world.delete("/api/v1/namespaces/default/pods/web-1");
    until_health(503);
    for family in [Family::V4, Family::V6] {
        let to = at(family, 30_091);
        wait::until("a leaving pod answers", SETTLE_TIME_MAX, || {
            match world.client.run(move || probe::ask(Protocol::Tcp, to)) {
                Outcome::Answered { by, seen_as } if by == "web-1" => Ok(seen_as),
                other => Err((other, world.logs())),
            }
        });
    }
}

#[test]
fn healthz_turns_away_from_a_node_that_leaves_and_livez_does_not() {
    let world = World::running(1);
    let node = &world.nodes[0];
    let url = |path: &str| format!("http://{}:10256/{path}", node.ip);
    let (_, body) = until_status(&world.client, &url("healthz"), 200);
    let told: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(told["healthy"], true);
    assert_eq!(told["nodeEligible"], true);
    assert_eq!(told["status"]["IPv4"]["healthy"], true);
    assert_eq!(told["lastUpdated"], told["currentTime"]);
    let taint = |key: &str| {
        let taints = json!([{ "key": key, "effect": "PreferNoSchedule" }]);
        let path = format!("/api/v1/nodes/{}", node.netns.name);
        world.merge(&path, &json!({ "spec": { "taints": taints } }));
    };
    taint("ToBeDeletedByClusterAutoscaler");
    let (_, body) = until_status(&world.client, &url("healthz"), 503);
    let told: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(told["nodeEligible"], false);
    assert_eq!(told["status"]["IPv4"]["healthy"], true);
    let (status, _, body) = ask(&world.client, &url("livez"));
    let told: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &told["nodeEligible"]), (200, &Value::Null));
    taint("something-else");
    until_status(&world.client, &url("healthz"), 200);
}

#[test]
fn ports_that_somebody_else_has_are_events() {
    let world = World::running(1);
    let node = &world.nodes[0].netns;
    let squat = |port: u16| {
        node.run(move || std::net::TcpListener::bind(("0.0.0.0", port)).expect("a free port"))
    };
    let (_node_port, health_port) = (squat(30_090), squat(31_090));
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31_090,
        "ports": [{ "port": 80, "targetPort": 8080, "nodePort": 30_090 }],
    });
    serve(&world, "web", &spec);
    let message = event(&world, "web", "NodePortInUse");
    let own = format!("(pid {})", std::process::id());
    assert!(
        message.contains("30090/tcp") && message.contains(&own),
        "{message}"
    );
    let message = event(&world, "web", "FailedToStartServiceHealthcheck");
    assert!(message.contains("on port 31090"), "{message}");
    drop(health_port);
    until_status(node, "http://127.0.0.1:31090/", 503);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn metrics_follow_what_the_proxy_does() {
    let world = World::running(1);
    let node = &world.nodes[0];
    let spec = json!({
        "type": "NodePort", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local",
        "ports": [{ "port": 80, "targetPort": 8080 }],
    });
    wait_for_the_next_second();
    serve(&world, "web", &spec);
    run_pod(&world, node, "web-1");
    let url = "http://127.0.0.1:10249/metrics";
    let scrape = || {
        let (status, head, body) = ask(&node.netns, url);
        assert_eq!(status, 200);
        assert!(head.contains("application/openmetrics-text"), "{head}");
        body
    };
    let at_least = |name: &str, least: f64| {
        wait::until(name, SETTLE_TIME_MAX, || {
            let text = scrape();
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value: Option<f64> = line.and_then(|value| value.trim().parse().ok());
            value.filter(|value| *value >= least).ok_or(text)
        })
    };
    for (name, least) in [
        ("kubeproxy_sync_proxy_rules_duration_seconds_count ", 1.0),
        (
            "kubeproxy_sync_full_proxy_rules_duration_seconds_count ",
            1.0,
        ),
        (
            "kubeproxy_sync_partial_proxy_rules_duration_seconds_count ",
            1.0,
        ),
        ("kubeproxy_sync_proxy_rules_last_timestamp_seconds ", 1e9),
        (
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds ",
            1e9,
        ),
        ("kubeproxy_sync_proxy_rules_service_changes_total ", 3.0),
        ("kubeproxy_sync_proxy_rules_endpoint_changes_total ", 1.0),
        ("kubeproxy_network_programming_duration_seconds_count ", 1.0),
        (
            "kubeproxy_conntrack_reconciler_sync_duration_seconds_count ",
            1.0,
        ),
        ("knarr_frontends{kind=\"ClusterIP\"} ", 3.0),
        ("knarr_frontends{kind=\"NodePort\"} ", 1.0),
        ("knarr_nftables_elements{set=\"frontends\"} ", 3.0),
    ] {
        at_least(name, least);
    }
    // Answers are counted from the first one on.
    for probe in ["healthz", "livez"] {
        until_status(&node.netns, &format!("http://127.0.0.1:10256/{probe}"), 200);
    }
    let (status, _, mode) = ask(&node.netns, "http://127.0.0.1:10249/proxyMode");
    assert_eq!((status, mode.as_str()), (200, "nftables"));
    let told = scrape();
    let is_told = |name: &String| {
        let mut lines = told.lines();
        lines.any(|line| line.starts_with(&format!("# TYPE {name} ")))
    };
    let mut names = documented();
    names.retain(|name| !is_told(name));
    assert_eq!(
        names,
        Vec::<String>::new(),
        "documented, and not told: {told}"
    );
    world.delete("/api/v1/namespaces/default/pods/web-1");
    let other = json!({ "metadata": { "name": "web-x", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4", "ports": [{ "port": 8080 }],
        "endpoints": [{ "addresses": ["10.42.9.9"], "nodeName": "elsewhere" }] });
    world.post(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        &other,
    );
    for policy in ["internal", "external"] {
        let name = format!(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{{traffic_policy=\"{policy}\"}} "
        );
        at_least(&name, 1.0);
    }
}

/// The metrics that the page on them names, as their TYPE lines do: without a counter's suffix.
fn documented() -> Vec<String> {
    let page = include_str!("../docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `k"));
    let rows = rows.filter(|line| line.contains("proxy_") || line.contains("knarr_"));
    let names = rows.flat_map(|row| {
        let mut cells = row.split('|').map(str::trim).skip(1);
        let (names, kind) = (cells.next().unwrap_or(""), cells.next().unwrap_or(""));
        let suffix = if kind == "counter" { "_total" } else { "" };
        let names = names.split(", ").map(|name| name.trim_matches('`'));
        names.map(move |name| name.strip_suffix(suffix).unwrap_or(name).to_owned())
    });
    let names: Vec<String> = names.collect();
    assert!(names.len() > 15, "{names:?}");
    names
}

/// Changes are dated in whole seconds, and those dated before the proxy's start are not counted.
fn wait_for_the_next_second() {
    let second = || jiff::Timestamp::now().as_second();
    let started = second();
    wait::until("the next second", SETTLE_TIME_MAX, || {
        let now = second();
        if now > started { Ok(()) } else { Err(now) }
    });
}
