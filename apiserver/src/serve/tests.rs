//! The server over real sockets, as different callers meet it.

use std::path::PathBuf;

use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use knarr_api::kinds::lease::LEASE;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{Config, Server, pki::Identity};

struct Running {
    server: Arc<Server>,
    port: u16,
    shutdown: CancellationToken,
    directory: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn fresh_directory() -> PathBuf {
    std::env::temp_dir().join(format!("knarr-serve-{}", uuid::Uuid::new_v4()))
}

async fn run() -> Running {
    run_within(Limits::default()).await
}

async fn run_within(limits: Limits) -> Running {
    let directory = fresh_directory();
    let server = Arc::new(
        Server::open(Config::for_tests(directory.clone()))
            .await
            .unwrap(),
    );
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let shutdown = CancellationToken::new();
    let (serving, token) = (server.clone(), shutdown.clone());
    tokio::spawn(async move { serving.serve_within(limits, listener, token).await });
    Running {
        server,
        port,
        shutdown,
        directory,
    }
}

impl Running {
    /// A TLS connection, with a client certificate or without.
    async fn connect(
        &self,
        identity: Option<&Identity>,
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        self.connect_speaking(b"http/1.1", identity).await
    }

    async fn connect_speaking(
        &self,
        protocol: &[u8],
        identity: Option<&Identity>,
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let roots = self.server.state().pki.authority.roots().unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match identity {
            Some(identity) => {
                let (chain, key) = identity.chain().unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![protocol.to_vec()];
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let name = ServerName::try_from("kubernetes.default.svc").unwrap();
        let connector = TlsConnector::from(Arc::new(tls));
        connector.connect(name, tcp).await.unwrap()
    }

    async fn send(
        &self,
        identity: Option<&Identity>,
        request: http::request::Builder,
        body: &str,
    ) -> (u16, String) {
        let stream = self.connect(identity).await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = request
            .header("host", "localhost")
            .body(Full::new(bytes::Bytes::from(body.to_owned())))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8_lossy(&body).into_owned())
    }

    async fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.send(None, request, "").await
    }
}

mod certificates;

#[tokio::test]
async fn credentials_decide_who_is_let_in() {
    let running = run().await;
    let unauthorized = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "Unauthorized", "reason": "Unauthorized", "code": 401,
    });
    for token in [None, Some("wrong")] {
        let (code, body) = running.get("/api/v1/nothing", token).await;
        assert_eq!(code, 401);
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), unauthorized);
    }
    assert_ne!(running.get("/livez", None).await.0, 401);
    assert_eq!(running.get("/livezx", None).await.0, 401);
    let kubeconfig = std::fs::read_to_string(crate::kubeconfig_path(&running.directory)).unwrap();
    let token = kubeconfig
        .lines()
        .find_map(|l| l.trim().strip_prefix("token: "));
    assert_ne!(running.get("/api/v1/nothing", token).await.0, 401);
    let admin = &running.server.state().pki.admin;
    let (code, _) = running
        .send(Some(admin), Request::get("/api/v1/nothing"), "")
        .await;
    assert_ne!(code, 401);
}

#[tokio::test]
async fn the_join_token_gets_a_machine_certificates_for_its_own_name() {
    let running = run().await;
    let state = running.server.state();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["system:masters".to_owned()]).unwrap();
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let join = async |token: &str, node: &str| {
        let request =
            Request::post("/knarr/v1/join").header("authorization", format!("Bearer {token}"));
        let body = json!({ "nodeName": node, "nodeIPs": ["192.0.2.7"], "clientCSR": csr, "servingCSR": csr });
        running.send(None, request, &body.to_string()).await
    };
    let secret = state.join_token.as_str();
    assert!(secret.starts_with(&format!(
        "K1{}::",
        crate::pki::fingerprint(state.pki.authority.certificate())
    )));
    assert_eq!(join("K1::wrong", "node-7").await.0, 401);
    assert_eq!(join("", "node-7").await.0, 401);
    assert_eq!(join(secret, "system:masters/x").await.0, 400);
    let (code, body) = join(secret, "node-7").await;
    assert_eq!(code, 200, "{body}");
    let admission: Value = serde_json::from_str(&body).unwrap();
    let client = Identity {
        certificate: admission["clientCertificate"].as_str().unwrap().to_owned(),
        key: key.serialize_pem(),
    };
    let (chain, _) = client.chain().unwrap();
    let user = certificate_user(&chain[0]).unwrap();
    assert_eq!(user, User::new("system:node:node-7", &["system:nodes"]));
    let (code, _) = running
        .send(Some(&client), Request::get("/api/v1/nothing"), "")
        .await;
    assert_ne!(code, 401);
    assert_eq!(
        running.get("/cacerts", None).await,
        (200, state.pki.authority.pem().to_owned())
    );
}

#[tokio::test]
async fn a_live_nodes_name_is_its_own() {
    let running = run().await;
    let state = running.server.state();
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let csr = csr.pem().unwrap();
    let secret = state.join_token.as_str();
    let join = async |identity: Option<&Identity>| {
        let request =
            Request::post("/knarr/v1/join").header("authorization", format!("Bearer {secret}"));
        let body =
            json!({ "nodeName": "node-7", "nodeIPs": [], "clientCSR": csr, "servingCSR": csr });
        running.send(identity, request, &body.to_string()).await
    };
    let client = |user: &str| {
        let role = crate::pki::Role::Client {
            user: user.into(),
            groups: vec!["system:nodes".into()],
        };
        state.pki.authority.issue(&role).unwrap()
    };
    let renewed = |at: jiff::Timestamp| {
        let put = crate::storage::Write::Put {
            key: crate::storage::Key::new(&LEASE, "kube-node-lease", "node-7"),
            expect: crate::storage::Expect::Any,
            object: json!({
                "metadata": { "name": "node-7", "namespace": "kube-node-lease" },
                "spec": { "renewTime": at.to_string(), "leaseDurationSeconds": 40 },
            }),
        };
        state.store.commit(vec![put])
    };
    assert_eq!(join(None).await.0, 200);
    renewed(jiff::Timestamp::now()).await.unwrap();
    let (code, text) = join(None).await;
    assert_eq!(code, 403);
    assert!(
        text.contains("another machine is node \\\"node-7\\\""),
        "{text}"
    );
    assert_eq!(join(Some(&client("system:node:node-8"))).await.0, 403);
    assert_eq!(join(Some(&client("system:node:node-7"))).await.0, 200);
    let long_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(41);
    renewed(long_ago).await.unwrap();
    assert_eq!(join(None).await.0, 200);
}

#[tokio::test]
async fn keys_are_kept_and_the_serving_certificate_follows_its_names() {
    let running = run().await;
    let mut config = Config::for_tests(running.directory.clone());
    let first = &running.server.state().pki;
    let open = |config: &Config| crate::keys::Keys::open(config).unwrap().pki;
    let second = open(&config);
    assert_eq!(first.authority.pem(), second.authority.pem());
    assert_eq!(first.shown(), second.shown());
    config.server_names.push("node-2".into());
    let third = open(&config);
    assert_eq!(first.authority.pem(), third.authority.pem());
    assert_eq!(first.admin.certificate, third.admin.certificate);
    assert_ne!(first.shown(), third.shown());
}

mod floods;
mod oddities;
mod silence;
