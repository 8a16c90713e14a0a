//! What attackers do. Each goes on until it did its worst, and leaves then.

use std::{
    io,
    time::{Duration, Instant},
};

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
const YAML: &str = "Content-Type: application/yaml\r\n";
/// Opened at once; more would wait in the kernel for the server's two cores.
const OPENED_AT_ONCE: usize = 64;
/// How long attackers hold on to what they have.
const HOLD_TIME: Duration = Duration::from_secs(3);

/// Says all of it; what is left in a TLS stream's buffer is not said.
async fn say(stream: &mut TlsStream<TcpStream>, words: &[u8]) -> io::Result<()> {
    stream.write_all(words).await?;
    stream.flush().await
}

/// That many connections, each after it said something, as far as the server let them.
async fn connections(target: &Target, count: usize, said: &[u8]) -> Vec<TlsStream<TcpStream>> {
    let opened = stream::iter(0..count).map(async |_| {
        let mut stream = target.connect().await?;
        let _it_may_be_closed = timeout(HOLD_TIME, say(&mut stream, said)).await;
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

/// Sends all of it at once and waits for the codes of the answers; 0 where there was none.
async fn ask_at_once(target: &Target, requests: Vec<Vec<u8>>) -> Vec<u16> {
    let asked = requests.into_iter().map(async |request| {
        let mut stream = target.connect().await?;
        let _it_may_be_closed = say(&mut stream, &request).await;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.ok()?;
        // A connection that is dropped with more to read is reset, which frees the server at once.
        std::str::from_utf8(answer.get(9..)?).ok()?.parse().ok()
    });
    let codes = join_all(asked).await;
    codes.into_iter().map(Option::unwrap_or_default).collect()
}

fn post(target: &Target, body: &str) -> Vec<u8> {
    post_as(target, JSON, body)
}

fn post_as(target: &Target, content_type: &str, body: &str) -> Vec<u8> {
    let headers = format!("{content_type}Content-Length: {}\r\n", body.len());
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
    let codes = ask_at_once(&target, vec![body; 100]).await;
    // A ConfigMap may hold 1 MiB; whoever finds no room is asked to come back, and the slowest had their minute.
    let is_fair = |code: &u16| [422, 429, 504].contains(code);
    assert!(codes.iter().all(is_fair), "{codes:?}");
}

/// All but the last byte of a body, held back for a while; meanwhile somebody sends a whole one. What they are told.
async fn among_slow_bodies(target: &Target, count: usize) -> Vec<u16> {
    let whole = post(target, &huge_map());
    let mut body = whole.clone();
    body.pop();
    let _held = connections(target, count, &body).await;
    let began = Instant::now();
    let codes = ask_at_once(target, vec![whole]).await;
    println!(
        "among {count} slow bodies: {codes:?} after {:.1?}",
        began.elapsed()
    );
    sleep(HOLD_TIME).await;
    codes
}

/// So few find room, and the body of somebody else is judged as if they were not there.
pub(super) async fn few_slow_bodies(target: Target) {
    assert_eq!(among_slow_bodies(&target, 20).await, [422]);
}

pub(super) async fn slow_bodies(target: Target) {
    let codes = among_slow_bodies(&target, 200).await;
    assert!([422, 429].contains(&codes[0]), "{codes:?}");
}

/// Small texts that would be large objects, and objects too deep for those who walk them.
pub(super) async fn bombs(target: Target) {
    let names = "abcdefghi";
    let mut aliases = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (before, name) in names.chars().zip(names.chars().skip(1)) {
        let list = vec![format!("*{before}"); 9].join(", ");
        aliases += &format!("{name}: &{name} [{list}]\n");
    }
    let bombs = [
        (YAML, aliases),
        (YAML, "[".repeat(2 << 20)),
        (YAML, "- ".repeat(1 << 20)),
        (JSON, "[".repeat(2 << 20)),
        (JSON, "{\"a\":".repeat(1 << 19)),
    ];
    let requests = bombs
        .iter()
        .map(|(kind, body)| post_as(&target, kind, body));
    let requests: Vec<_> = requests.cycle().take(50).collect();
    let codes = ask_at_once(&target, requests).await;
    let is_refused = |code: &u16| [400, 429, 504].contains(code);
    assert!(codes.iter().all(is_refused), "{codes:?}");
}

fn get(target: &Target, path: &str, accept: &str) -> Vec<u8> {
    let headers = format!("Accept: {accept}\r\n");
    target.head(&format!("GET {path}"), &headers).into_bytes()
}

/// As long as a request's target may be.
pub(super) async fn selectors(target: Target) {
    let long = |piece: &str| vec![piece; (60 << 10) / (piece.len() + 1)].join(",");
    let queries = [
        format!("labelSelector={}", long("a!=b")),
        format!("labelSelector=k%20in%20({})", long("value")),
        format!("fieldSelector={}", long("metadata.name!=a")),
        format!(
            "limit=1&watch=true&timeoutSeconds=1&labelSelector={}",
            long("!a")
        ),
    ];
    let requests = queries.map(|query| get(&target, &format!("{MAPS}?{query}"), "*/*"));
    let requests = requests.into_iter().cycle().take(400).collect();
    let codes = ask_at_once(&target, requests).await;
    // On a busy machine, some of so many handshakes take longer than the server waits.
    assert!(codes.contains(&200), "{codes:?}");
    assert!(
        codes.iter().all(|code| [0, 200].contains(code)),
        "{codes:?}"
    );
}

/// What lists and watches are long of.
pub(super) async fn store(target: Target) {
    let map = |number: usize| {
        let data = json!({ "a": "x".repeat(200 << 10) });
        let name = format!("large-{number}");
        post(
            &target,
            &json!({ "metadata": { "name": name }, "data": data }).to_string(),
        )
    };
    // One after the other: of many large bodies at once, some are asked to come back.
    for number in 0..40 {
        assert_eq!(ask_at_once(&target, vec![map(number)]).await, [201]);
    }
}

const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";
const LONG: [(&str, &str); 4] = [
    ("", "application/json"),
    ("", "application/yaml"),
    ("?includeObject=Object", TABLE),
    ("?watch=true", "application/json"),
];

fn long_answers(target: &Target, count: usize) -> Vec<Vec<u8>> {
    let requests = LONG
        .iter()
        .map(|(query, accept)| get(target, &format!("{MAPS}{query}"), accept));
    requests.cycle().take(count).collect()
}

/// Long lists, tables and watches that are asked for and left unread.
pub(super) async fn unread_answers(target: Target) {
    let asked = long_answers(&target, 200).into_iter().map(async |request| {
        let mut stream = target.connect().await?;
        let _it_may_be_closed = say(&mut stream, &request).await;
        Some(stream)
    });
    let _held = join_all(asked).await;
    sleep(HOLD_TIME * 2).await;
}

/// The same, read by a little at a time.
pub(super) async fn slowly_read_answers(target: Target) {
    let read = long_answers(&target, 200).into_iter().map(async |request| {
        let Some(mut stream) = target.connect().await else {
            return;
        };
        let _it_may_be_closed = say(&mut stream, &request).await;
        let slowly = async {
            let mut little = [0; 1024];
            while stream.read(&mut little).await.is_ok_and(|count| count > 0) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let _goes_away = timeout(HOLD_TIME * 2, slowly).await;
    });
    join_all(read).await;
}

/// Many long lists at once, each of them read to its end.
pub(super) async fn lists(target: Target) {
    let requests = ["application/json", "application/yaml", TABLE].map(|accept| {
        let path = format!("{MAPS}?includeObject=Object");
        let headers = format!("Accept: {accept}\r\nConnection: close\r\n");
        target.head(&format!("GET {path}"), &headers)
    });
    let read = requests.iter().cycle().take(24).map(async |request| {
        let mut stream = target.connect().await?;
        say(&mut stream, request.as_bytes()).await.ok()?;
        let mut buffer = vec![0; 64 << 10];
        let mut total = 0;
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return Some(total),
                Ok(count) => total += count,
                Err(_) => return None,
            }
        }
    });
    let totals = join_all(read).await;
    let is_whole = |total: &Option<usize>| total.is_some_and(|total| total > 8_000_000);
    assert!(totals.iter().all(is_whole), "{totals:?}");
}
