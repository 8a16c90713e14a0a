//! Requests to the router and what comes back, without sockets.

mod access;
mod deletes;
mod hostile;
mod long_lists;
mod reads;
mod streams;
mod watches;
mod writes;

use std::path::PathBuf;

use axum::body::Body;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{Config, Server, State, User};

/// A server of its own with the user's namespace `shop`.
struct World {
    server: Server,
    user: User,
    directory: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// What came back.
struct Answer {
    code: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl World {
    async fn new() -> Self {
        let directory = std::env::temp_dir().join(format!("knarr-routes-{}", uuid::Uuid::new_v4()));
        let server = Server::open(Config::for_tests(directory.clone())).await;
        let world = World {
            server: server.expect("a server in a fresh directory"),
            user: User::new("tester", &["system:masters"]),
            directory,
        };
        let namespace = json!({"metadata": {"name": "shop"}});
        let made = world.post("/api/v1/namespaces", namespace).await;
        assert_eq!(made.code, StatusCode::CREATED);
        world
    }

    async fn send(&self, request: http::request::Builder, body: impl Into<Body>) -> Answer {
        let mut request: Request<Body> = request.body(body.into()).expect("a request");
        request.extensions_mut().insert(self.user.clone());
        let response = self.server.router.clone().oneshot(request).await;
        let (head, body) = response.expect("an answer").into_parts();
        let bytes = body.collect().await.expect("a whole body").to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer {
            code: head.status,
            headers: head.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::String(text)),
        }
    }

    async fn call(&self, method: &str, path: &str, content_type: &str, body: Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type);
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.send(request, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "", Value::Null).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, "application/json", body).await
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path, "application/json", body).await
    }

    async fn merge(&self, path: &str, body: Value) -> Answer {
        let patch = "application/merge-patch+json";
        self.call("PATCH", path, patch, body).await
    }

    async fn delete(&self, path: &str, options: Value) -> Answer {
        self.call("DELETE", path, "application/json", options).await
    }
}

impl Answer {
    /// The value at a JSON pointer.
    fn at(&self, pointer: &str) -> &Value {
        self.body.pointer(pointer).unwrap_or(&Value::Null)
    }

    fn message(&self) -> &str {
        self.at("/message").as_str().unwrap_or_default()
    }
}

const CONFIG_MAPS: &str = "/api/v1/namespaces/shop/configmaps";

fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "1"}})
}
