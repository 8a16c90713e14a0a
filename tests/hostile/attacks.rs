//! What attackers do. Each goes on until it did its worst, and leaves then.

use std::time::Duration;

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::client::TlsStream;

use super::Target;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "Content-Type: application/json\r\n";
/// Opened at once; more would wait in the kernel for the server's two cores.
const OPENED_AT_ONCE: usize = 64;
/// How long attackers hold on to what they have.
const HOLD_TIME: Duration = Duration::from_secs(3);

/// That many connections, each after it said something, as far as the server let them.
async fn connections(target: &Target, count: usize, said: &[u8]) -> Vec<TlsStream<TcpStream>> {
    let opened = stream::iter(0..count).map(async |_| {
        let mut stream = target.connect().await?;
        let _it_may_be_closed = timeout(HOLD_TIME, stream.write_all(said)).await;
        Some(stream)
    });
    let opened = opened.buffer_unordered(OPENED_AT_ONCE);
    opened.filter_map(async |stream| stream).collect().await
}

pub(super) async fn silence(target: Target) {
    let _held = connections(&target, 4_000, b"").await;
    sleep(HOLD_TIME).await;
}

pub(super) async fn heads(target: Target) {
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\na: {}", "b".repeat(120 << 10));
    let _held = connections(&target, 1_000, head.as_bytes()).await;
    sleep(HOLD_TIME).await;
}

/// Sends all of it at once and waits for the answers, whatever they are.
async fn ask_at_once(target: &Target, requests: Vec<Vec<u8>>) {
    let asked = requests.into_iter().map(async |request| {
        let Some(mut stream) = target.connect().await else {
            return;
        };
        let _it_may_be_closed = stream.write_all(&request).await;
        let mut answer = [0; 4096];
        let _it_may_be_closed = stream.read(&mut answer).await;
    });
    join_all(asked).await;
}

fn post(target: &Target, body: &str) -> Vec<u8> {
    let headers = format!("{JSON}Content-Length: {}\r\n", body.len());
    let head = target.head(&format!("POST {MAPS}"), &headers);
    [head.as_bytes(), body.as_bytes()].concat()
}

fn huge_map() -> String {
    let pairs = (0..3_000).map(|n| (format!("key-{n}"), "x".repeat(1_000).into()));
    let data: serde_json::Map<String, serde_json::Value> = pairs.collect();
    json!({ "metadata": { "name": "huge" }, "data": data }).to_string()
}

pub(super) async fn bodies(target: Target) {
    let body = post(&target, &huge_map());
    ask_at_once(&target, vec![body; 100]).await;
}

/// All but the last byte of a body, held back for a while.
pub(super) async fn slow_bodies(target: Target) {
    let mut body = post(&target, &huge_map());
    body.pop();
    let _held = connections(&target, 200, &body).await;
    sleep(HOLD_TIME).await;
}
