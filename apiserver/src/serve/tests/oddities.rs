//! Requests as only hand-made clients send them, byte by byte as they are on the wire.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const TIME_MAX: Duration = Duration::from_secs(60);
const CUT_OFF: &str = "unexpected EOF";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// What follows the bytes of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    TheEnd,
}

/// The code of the last answer, and all that was said.
async fn ask(running: &Running, request: &[u8], then: Then) -> (u16, String) {
    let admin = &running.server.state().pki.admin;
    let mut stream = running.connect(Some(admin)).await;
    let _it_may_be_refused = stream.write_all(request).await;
    if then == Then::TheEnd {
        let _it_may_be_closed = stream.shutdown().await;
    }
    let mut answer = Vec::new();
    let read = timeout(TIME_MAX, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let codes = text.split("HTTP/1.").skip(1);
    let code = codes.filter_map(|answer| answer.get(2..5)?.parse().ok());
    (code.last().unwrap_or_default(), text)
}

/// What is wrong with the answer, if anything is.
async fn check(
    running: &Running,
    what: &str,
    (request, then): (&[u8], Then),
    code: u16,
    said: &str,
) -> Option<String> {
    let (answered, text) = ask(running, request, then).await;
    let fits = answered == code && text.contains(said);
    (!fits).then(|| format!("{what}: {answered}, not {code} with {said:?}: {text}\n"))
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn odd_requests_get_the_answers_of_kubernetes() {
    let running = run().await;
    let line = |line: &str, headers: &str| format!("{line}\r\nConnection: close\r\n{headers}\r\n");
    let get = |target: &str| line(&format!("GET {target} HTTP/1.1\r\nHost: x"), "");
    let missing = "configmaps \\\"a\\\\x00b\\\" not found";
    let cases: &[(&str, String, u16, &str)] = &[
        (
            "HTTP/1.0",
            line("GET /version HTTP/1.0", ""),
            200,
            "gitVersion",
        ),
        (
            "no host",
            line("GET /version HTTP/1.1", ""),
            400,
            "missing required Host header",
        ),
        (
            "two hosts",
            line("GET /version HTTP/1.1", "Host: a\r\nHost: b\r\n"),
            400,
            "too many Host headers",
        ),
        (
            "an absolute target",
            get("https://x:6443/version"),
            200,
            "gitVersion",
        ),
        ("no target", get("version"), 400, ""),
        (
            "a broken escape",
            get("/api/v1/%zz"),
            400,
            "400 Bad Request",
        ),
        ("a zero byte", get(&format!("{MAPS}/a%00b")), 404, missing),
        ("dots", get("/api/v1/../../version"), 404, "NotFound"),
        (
            "escaped dots",
            get("/api/v1/namespaces/%2e%2e"),
            404,
            "NotFound",
        ),
        (
            "an unreadable parameter",
            get(&format!("{MAPS}?limit=%zz")),
            200,
            "ConfigMapList",
        ),
        (
            "many parameters",
            get(&format!("{MAPS}?{}", "a=b&".repeat(15_000))),
            200,
            "ConfigMapList",
        ),
        (
            "too many parameters",
            get(&format!("{MAPS}?{}", "a=b&".repeat(100_000))),
            431,
            "",
        ),
        (
            "a long target",
            get(&format!("{MAPS}?{}", "a=b&".repeat(20_000))),
            414,
            "",
        ),
        (
            "a long selector",
            get(&format!(
                "{MAPS}?labelSelector={}",
                "a,".repeat(30_000) + "a"
            )),
            200,
            "ConfigMapList",
        ),
        (
            "header lines",
            line("GET /version HTTP/1.1\r\nHost: x", &"a: b\r\n".repeat(500)),
            200,
            "",
        ),
        (
            "too many header lines",
            line(
                "GET /version HTTP/1.1\r\nHost: x",
                &"a: b\r\n".repeat(5_000),
            ),
            431,
            "",
        ),
        (
            "another expectation",
            line("GET /version HTTP/1.1\r\nHost: x", "Expect: cake\r\n"),
            417,
            "417 Expectation Failed",
        ),
        (
            "another protocol",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
            0,
            "",
        ),
        (
            "nothing of HTTP",
            "\x16\x03\x01\x02\r\n\r\n".into(),
            400,
            "",
        ),
    ];
    let mut wrong = String::new();
    for (what, request, code, said) in cases {
        wrong.extend(
            check(
                &running,
                what,
                (request.as_bytes(), Then::Nothing),
                *code,
                said,
            )
            .await,
        );
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test]
async fn a_watch_is_told_over_a_web_socket_too() {
    let running = run().await;
    let target = "/api/v1/namespaces?watch=1&fieldSelector=metadata.name%3Ddefault";
    let asked = format!(
        "GET {target}&timeoutSeconds=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n"
    );
    let (_, text) = ask(&running, asked.as_bytes(), Then::Nothing).await;
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    assert!(text.contains(r#"{"type":"ADDED","object":{"#), "{text}");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn odd_bodies_get_the_answers_of_kubernetes() {
    let running = run().await;
    let post = |headers: &str, body: &[u8]| {
        let head = format!(
            "POST {MAPS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: application/json\r\n{headers}\r\n"
        );
        [head.as_bytes(), body].concat()
    };
    let map = |name: &str| json!({ "metadata": { "name": name } }).to_string();
    let length = |body: &[u8]| format!("Content-Length: {}\r\n", body.len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    let chunk = |body: &str| format!("{:x}\r\n{body}\r\n", body.len());
    let zipped = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let (one, two) = (map("one"), map("two"));
    let waiting = format!("Expect: 100-continue\r\n{}", length(one.as_bytes()));
    let endless = chunk(&" ".repeat(1 << 16)).repeat(64);
    let cases: &[(&str, Vec<u8>, u16, &str)] = &[
        (
            "too short",
            post("Content-Length: 99\r\n", one.as_bytes()),
            500,
            CUT_OFF,
        ),
        (
            "a length that is none",
            post("Content-Length: x\r\n", b""),
            400,
            "",
        ),
        (
            "a negative length",
            post("Content-Length: -1\r\n", b""),
            400,
            "",
        ),
        (
            "two lengths",
            post("Content-Length: 1\r\nContent-Length: 2\r\n", b"{}"),
            400,
            "",
        ),
        (
            "said to be huge",
            post("Content-Length: 99999999999\r\n", b"{"),
            500,
            CUT_OFF,
        ),
        ("no body", post("", b""), 400, "BadRequest"),
        (
            "waiting to be asked",
            post(&waiting, one.as_bytes()),
            201,
            "100 Continue",
        ),
        (
            "in chunks",
            post(chunked, format!("{}0\r\n\r\n", chunk(&two)).as_bytes()),
            201,
            "",
        ),
        (
            "a chunk that is none",
            post(chunked, b"zz\r\n{}\r\n0\r\n\r\n"),
            500,
            "Failure",
        ),
        (
            "chunks cut off",
            post(chunked, chunk("{").as_bytes()),
            500,
            CUT_OFF,
        ),
        (
            "chunks without end",
            post(chunked, endless.as_bytes()),
            413,
            "limit is 3145728",
        ),
        (
            "zipped",
            post(
                &format!("Content-Encoding: gzip\r\n{}", length(&zipped)),
                &zipped,
            ),
            400,
            "invalid character '\\\\x1f' looking for beginning of value",
        ),
    ];
    let mut wrong = String::new();
    for (what, request, code, said) in cases {
        let then = match *said {
            CUT_OFF => Then::TheEnd,
            _ => Then::Nothing,
        };
        wrong.extend(check(&running, what, (request, then), *code, said).await);
    }
    assert!(wrong.is_empty(), "{wrong}");
}
