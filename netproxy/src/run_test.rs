//! The whole proxy against an API of canned answers, in a network namespace of its own.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::body::Body;
use futures_util::StreamExt;
use http::{Request, Response};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, LocalhostNodePorts, NodePortAddresses,
    own_netns::{run, sh},
};

const REPAIR_TIME_MAX: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Lists what it is given, and streams what is sent later.
#[derive(Clone)]
struct Api {
    services: Arc<Mutex<Vec<Value>>>,
    slices: Arc<Mutex<Vec<Value>>>,
    events: broadcast::Sender<(&'static str, Value)>,
}

impl Api {
    fn answer(&self, path: &str, query: &str) -> Response<Body> {
        let (kind, items) = match path {
            "/api/v1/services" => ("services", self.services.lock().expect("a lock").clone()),
            "/apis/discovery.k8s.io/v1/endpointslices" => {
                ("slices", self.slices.lock().expect("a lock").clone())
            }
            "/api/v1/namespaces" => ("namespaces", Vec::new()),
            "/api/v1/nodes" => ("nodes", vec![node()]),
            "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases" => ("leases", Vec::new()),
            "/api/v1/namespaces/kube-system/configmaps" => ("settings", vec![settings()]),
            // What an Event asks for and writes is looked at in the lab.
            path if path.starts_with("/api/v1/namespaces/default/") => {
                let mut absent = Response::new(Body::from(r#"{"code":404}"#));
                *absent.status_mut() = http::StatusCode::NOT_FOUND;
                return absent;
            }
            other => panic!("{other}"),
        };
        if !query.contains("watch=true") {
            let list = json!({ "metadata": { "resourceVersion": "1" }, "items": items });
            return Response::new(Body::from(list.to_string()));
        }
        // What there is comes as events, then a bookmark says that this was all.
        let metadata = json!({
            "resourceVersion": "1", "annotations": { "k8s.io/initial-events-end": "true" },
        });
        let end = json!({ "apiVersion": "v1", "kind": "Any", "metadata": metadata });
        let end = json!({ "type": "BOOKMARK", "object": end });
        let added = |object| json!({ "type": "ADDED", "object": object });
        let first = items.into_iter().map(added).chain([end]);
        let first: Vec<_> = first
            .filter(|_| query.contains("sendInitialEvents=true"))
            .map(|event| Ok::<_, Infallible>(format!("{event}\n")))
            .collect();
        let later =
            futures_util::stream::unfold(self.events.subscribe(), move |mut events| async move {
                loop {
                    let (of, event) = events.recv().await.ok()?;
                    if of == kind {
                        return Some((Ok::<_, Infallible>(format!("{event}\n")), events));
                    }
                }
            });
        Response::new(Body::from_stream(
            futures_util::stream::iter(first).chain(later),
        ))
    }

    fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let uri = request.uri();
            let answer = api.answer(uri.path(), uri.query().unwrap_or_default());
            async move { Ok::<_, Infallible>(answer) }
        });
        Client::new(service, "default")
    }
}

fn node() -> Value {
    let addresses = json!([{ "type": "InternalIP", "address": "192.168.7.1" }]);
    json!({ "metadata": { "name": "node-1", "resourceVersion": "1" }, "status": { "addresses": addresses } })
}

fn settings() -> Value {
    let data = json!({ "cluster-cidr": "10.42.0.0/16", "service-cidr": "10.0.128.0/17" });
    json!({ "metadata": { "name": "knarr", "resourceVersion": "1" }, "data": data })
}

fn service(name: &str, ip: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "default", "resourceVersion": "2" },
        "spec": { "clusterIP": ip, "ports": [{ "port": 80, "protocol": "TCP" }] },
    })
}

fn slice(service: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({ "addresses": [address] }))
        .collect();
    json!({
        "metadata": {
            "name": format!("{service}-1"), "namespace": "default", "resourceVersion": "2",
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
    })
}

/// Waits until the listing of a set or map holds, or fails with what it holds.
async fn until(what: &str, deadline: Duration, holds: impl Fn(&str) -> bool) -> Duration {
    let start = Instant::now();
    loop {
        let listed = sh("nft list ruleset");
        if holds(&listed) {
            return start.elapsed();
        }
        assert!(start.elapsed() < deadline, "{what}: {listed}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs a test beside a proxy that is stopped at its end.
fn with_proxy<F: Future<Output = ()>>(test: impl FnOnce(Api, CancellationToken) -> F + Send) {
    run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let api = Api {
                services: Arc::new(Mutex::new(vec![service("web", "10.0.128.7")])),
                slices: Arc::new(Mutex::new(vec![slice("web", &["10.42.0.5"])])),
                events: broadcast::channel(64).0,
            };
            let shutdown = CancellationToken::new();
            let config = Config {
                node_name: "node-1".to_owned(),
                node_port_addresses: NodePortAddresses::Primary,
                localhost_node_ports: LocalhostNodePorts::LeftAlone,
                non_masquerade_cidrs: BTreeSet::new(),
            };
            let proxy = crate::run(api.client(), config, shutdown.clone());
            let test = test(api, shutdown.clone());
            let (ended, ()) = tokio::join!(proxy, async {
                test.await;
                shutdown.cancel();
            });
            ended.expect("the proxy ends well");
        });
    });
}

const WEB: &str = "10.0.128.7 . tcp . 80 . 0 : 10.42.0.5 . 8080";
const SECOND: &str = "10.0.128.7 . tcp . 80 . 1 : 10.42.0.6 . 8080";

#[test]
fn the_kernel_follows_the_api() {
    with_proxy(|api, _| async move {
        until("the first sync", WAIT_MAX, |listed| listed.contains(WEB)).await;
        let grown = slice("web", &["10.42.0.5", "10.42.0.6"]);
        let _ = api
            .events
            .send(("slices", json!({ "type": "MODIFIED", "object": grown })));
        until("a second backend", WAIT_MAX, |listed| {
            listed.contains(SECOND) && listed.contains("pick-2") && !listed.contains("pick-1")
        })
        .await;
        let gone = service("web", "10.0.128.7");
        let _ = api
            .events
            .send(("services", json!({ "type": "DELETED", "object": gone })));
        until("no Service", WAIT_MAX, |listed| {
            !listed.contains("10.0.128.7")
        })
        .await;
    });
}

#[test]
fn what_others_break_is_repaired_within_a_second() {
    with_proxy(|_, _| async move {
        until("the first sync", WAIT_MAX, |listed| listed.contains(WEB)).await;
        for harm in [
            "nft flush ruleset",
            "nft flush map ip knarr backends",
            "nft delete table ip knarr",
            "nft flush chain ip knarr nat-prerouting",
        ] {
            let before = sh("nft list table ip knarr");
            sh(harm);
            until(harm, REPAIR_TIME_MAX, |listed| {
                listed.contains(WEB) && listed.lines().count() > before.lines().count()
            })
            .await;
        }
    });
}

#[test]
fn a_restart_adopts_and_teardown_removes_only_our_tables() {
    with_proxy(|_, _| async move {
        sh("nft add table ip other");
        until("the first sync", WAIT_MAX, |listed| listed.contains(WEB)).await;
        let handles = sh("nft -a list table ip knarr");
        let second = Api {
            services: Arc::new(Mutex::new(vec![service("web", "10.0.128.7")])),
            slices: Arc::new(Mutex::new(vec![slice("web", &["10.42.0.5"])])),
            events: broadcast::channel(64).0,
        };
        let config = Config {
            node_name: "node-1".to_owned(),
            node_port_addresses: NodePortAddresses::Primary,
            localhost_node_ports: LocalhostNodePorts::LeftAlone,
            non_masquerade_cidrs: BTreeSet::new(),
        };
        let stop = CancellationToken::new();
        let again = crate::run(second.client(), config, stop.clone());
        let (_, ended) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                stop.cancel();
            },
            again
        );
        ended.expect("the second proxy ends well");
        assert_eq!(sh("nft -a list table ip knarr"), handles);
    });
    run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        sh("nft add table ip other; nft add table ip knarr; nft add table ip6 knarr");
        runtime
            .expect("a runtime")
            .block_on(crate::teardown())
            .expect("teardown");
        assert_eq!(sh("nft list ruleset").trim(), "table ip other {\n}");
    });
}
