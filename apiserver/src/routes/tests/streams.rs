use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

async fn ready_pod(world: &World, name: &str) {
    let account = json!({"metadata": {"name": "default"}});
    let accounts = "/api/v1/namespaces/shop/serviceaccounts";
    world.post(accounts, account).await;
    let pods = "/api/v1/namespaces/shop/pods";
    let pod = json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "i"}]},
    });
    assert_eq!(world.post(pods, pod).await.code, StatusCode::CREATED);
    let status = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    let patched = world.merge(&format!("{pods}/{name}/status"), status).await;
    assert_eq!(patched.code, StatusCode::OK);
}

#[tokio::test]
async fn a_pod_that_says_it_is_this_machine_is_not_reached() {
    let world = World::new().await;
    ready_pod(&world, "p").await;
    for path in ["proxy", "proxy/a", "proxy/"] {
        let path = format!("/api/v1/namespaces/shop/pods/p:6443/{path}");
        let answer = world.get(&path).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(answer.message(), "address not allowed", "{path}");
    }
}

#[tokio::test]
async fn a_service_is_reached_by_the_ports_of_its_endpoints() {
    let world = World::new().await;
    let body = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80}, {"name": "x", "port": 90}]}});
    world
        .post("/api/v1/namespaces/shop/services", body.clone())
        .await;
    let check = async |target: &str, code: u16, message: &str| {
        let path = format!("/api/v1/namespaces/shop/services/{target}/proxy");
        for path in [path.clone(), path + "/a"] {
            let answer = world.get(&path).await;
            assert_eq!(
                (answer.code.as_u16(), answer.message()),
                (code, message),
                "{path}"
            );
        }
    };
    check(
        "web:81",
        503,
        "no service port 81 found for service \"web\"",
    )
    .await;
    check("web", 404, "endpoints \"web\" not found").await;
    check("none:80", 404, "services \"none\" not found").await;
    check("none:http", 404, "endpoints \"none\" not found").await;
    check("a:b:c:d", 400, "invalid service request \"a:b:c:d\"").await;
    let endpoints = "/api/v1/namespaces/shop/endpoints";
    world
        .post(endpoints, json!({"metadata": {"name": "web"}}))
        .await;
    let none = |id: &str| format!("no endpoints available for service \"{id}\"");
    check("http:web:http", 503, &none("web")).await;
    let subsets =
        json!([{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"name": "http", "port": 8080}]}]);
    world
        .merge(&format!("{endpoints}/web"), json!({"subsets": subsets}))
        .await;
    // An unnamed port is none of the named ones, and an address without a pod is nobody's.
    check("web", 503, &none("web")).await;
    check("http:web:http", 503, &none("http:web:http")).await;
    check("web:80", 503, &none("web:80")).await;
    check("web:other", 503, &none("web:other")).await;
}

/// A node agent that speaks TLS with a certificate of ours and answers one request.
async fn agent(world: &World, answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
    let identity = world
        .server
        .state()
        .pki
        .authority
        .issue(&crate::pki::Role::NodeServer {
            node: "node-1".into(),
            names: vec!["node-1".into()],
        });
    let (chain, key) = identity.expect("a certificate").chain().expect("a chain");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a usable certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let asked = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = acceptor.accept(stream).await.expect("a handshake");
        let mut bytes = vec![0; 4096];
        let count = stream.read(&mut bytes).await.expect("a request");
        stream.write_all(answer.as_bytes()).await.expect("room");
        stream.shutdown().await.expect("an end");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    });
    (port, asked)
}

#[tokio::test]
async fn logs_come_from_the_agent_of_the_pods_node() {
    let world = World::new().await;
    ready_pod(&world, "p").await;
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nhello\n";
    let (port, asked) = agent(&world, answer).await;
    let node = json!({"metadata": {"name": "node-1"}});
    world.post("/api/v1/nodes", node).await;
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }});
    world.merge("/api/v1/nodes/node-1/status", status).await;
    let log = world
        .get("/api/v1/namespaces/shop/pods/p/log?follow=true&tailLines=5")
        .await;
    assert_eq!((log.code, log.body), (StatusCode::OK, json!("hello\n")));
    let asked = asked.await.expect("a request");
    assert!(
        asked.starts_with("GET /containerLogs/shop/p/c?follow=true&tailLines=5 HTTP/1.1\r\n"),
        "{asked}"
    );
}
