//! What a test asks of the API: through the real kubectl on node-1, or as plain requests without a kubectl to start.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use http_body_util::BodyExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use super::world::World;

impl World {
    /// Runs the real kubectl on node-1 as administrator, and demands that it succeeds.
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        let output = self.try_kubectl(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "kubectl {args:?}: {}\n{}",
            text(&output.stderr),
            self.logs()
        );
        text(&output.stdout)
    }

    pub(crate) fn try_kubectl(&self, args: &[&str]) -> Output {
        self.nodes[0].netns.output(self.kubectl_command(args))
    }

    pub(crate) fn kubectl_command(&self, args: &[&str]) -> Command {
        let node = &self.nodes[0];
        let mut command = Command::new("kubectl");
        command
            .args(args)
            .env("KUBECONFIG", node.data_dir().join("kubeconfig.yaml"))
            .env("HOME", &node.dir);
        command
    }

    /// The file that names a pod's network namespace, on whichever node it runs.
    pub(crate) fn pod_netns(&self, pod: &str) -> PathBuf {
        let uid = self.kubectl(&["get", "pod", pod, "-o", "jsonpath={.metadata.uid}"]);
        let mut candidates = self
            .nodes
            .iter()
            .map(|node| node.run_dir().join("netns").join(&uid));
        candidates
            .find(|path| path.exists())
            .unwrap_or_else(|| panic!("no node runs {pod} ({uid})"))
    }

    pub(crate) fn apply(&self, manifest: &str) {
        let file = self.scratch.join("manifest.yaml");
        std::fs::write(&file, manifest).expect("a manifest");
        self.kubectl(&["apply", "-f", &file.to_string_lossy()]);
    }

    /// One request to the API from node-1, without a kubectl to start.
    fn call(&self, method: &str, path: &str, content_type: &str, body: Vec<u8>) -> Value {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(kube::client::Body::from(body))
            .expect("a request");
        let kubeconfig = self.nodes[0].data_dir().join("kubeconfig.yaml");
        let (status, bytes) = self.nodes[0].netns.run(move || {
            with_client(&kubeconfig, async |client| {
                let answer = client.send(request).await.expect("an answer");
                let status = answer.status();
                (
                    status,
                    answer
                        .into_body()
                        .collect()
                        .await
                        .expect("a whole answer")
                        .to_bytes(),
                )
            })
        });
        let text = String::from_utf8_lossy(&bytes);
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: {text}"))
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.call("GET", path, "application/json", Vec::new())
    }

    pub(crate) fn post(&self, path: &str, object: &Value) -> Value {
        self.call(
            "POST",
            path,
            "application/json",
            object.to_string().into_bytes(),
        )
    }

    pub(crate) fn merge(&self, path: &str, patch: &Value) -> Value {
        self.call(
            "PATCH",
            path,
            "application/merge-patch+json",
            patch.to_string().into_bytes(),
        )
    }

    pub(crate) fn delete(&self, path: &str) -> Value {
        self.call("DELETE", path, "application/json", Vec::new())
    }
}

thread_local! {
    /// Of the machine whose thread this is; a connection is opened once and kept.
    static CLIENT: RefCell<Option<(PathBuf, tokio::runtime::Runtime, kube::Client)>> = const { RefCell::new(None) };
}

/// Runs `ask` with this machine's own client.
pub(crate) fn with_client<T>(kubeconfig: &Path, ask: impl AsyncFnOnce(&kube::Client) -> T) -> T {
    CLIENT.with_borrow_mut(|kept| {
        let fits = kept.as_ref().is_some_and(|(path, ..)| path == kubeconfig);
        if !fits {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let client = runtime.block_on(client(kubeconfig));
            *kept = Some((kubeconfig.to_owned(), runtime, client));
        }
        let (_, runtime, client) = kept.as_ref().expect("just made");
        runtime.block_on(ask(client))
    })
}

/// A client of the administrator's; to be made inside the node's namespace.
pub(crate) async fn client(kubeconfig: &Path) -> kube::Client {
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    kube::Client::try_from(config.expect("a usable kubeconfig")).expect("a client")
}
