//! Clients that say nothing, too little or too slowly, and those that do not listen.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::storage::{Expect, Key, Write};

/// Within which a busy machine gets to cutting off what is to be cut off after a moment.
const CUT_OFF_TIME_MAX: Duration = Duration::from_secs(60);
const WATCH: &[u8] = b"GET /api/v1/configmaps?watch=true HTTP/1.1\r\nHost: x\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn impatient() -> Limits {
    let moment = Duration::from_millis(300);
    Limits {
        handshake: moment,
        first_request: moment,
        idle: moment,
        request: moment,
        unread: moment,
        ..Limits::default()
    }
}

/// What it is, the protocol, what is said at once, and what is repeated by bytes.
type Case<'a> = (&'a str, &'a [u8], &'a [u8], &'a [u8]);

/// Writes `start`, then a byte at a time from `rest`, and reads until the server is done with it.
async fn trickle(
    mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
    start: &[u8],
    rest: &[u8],
) -> String {
    let _cut_off = stream.write_all(start).await;
    for byte in rest.iter().cycle().take(10_000) {
        if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        let mut one = [0];
        let pause = Duration::from_millis(20);
        if let Ok(Ok(0) | Err(_)) = timeout(pause, stream.read(&mut one)).await {
            return String::new();
        }
    }
    let mut answer = Vec::new();
    let _cut_off = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn clients_that_do_not_say_what_they_want_are_cut_off() {
    let running = run_within(impatient()).await;
    let admin = running.server.state().pki.admin.clone();
    let head = b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\n";
    let body = [&head[..], b"Content-Length: 9999\r\n\r\n{"].concat();
    let chunks = [&head[..], b"Transfer-Encoding: chunked\r\n\r\n"].concat();
    let asked = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n";
    let cases: [Case<'_>; 11] = [
        ("nothing", b"http/1.1", b"", b""),
        ("nothing in HTTP/2", b"h2", b"", b""),
        ("half of a preface", b"h2", &PREFACE[..10], b""),
        ("half a head", b"http/1.1", head, b""),
        ("a head by bytes", b"http/1.1", b"GET /", b"a"),
        ("header lines by bytes", b"http/1.1", head, b"a: b\r\n"),
        ("nothing after a request", b"http/1.1", asked, b""),
        ("nothing after a preface", b"h2", PREFACE, b""),
        (
            "pings only",
            b"h2",
            PREFACE,
            b"\0\0\x08\x06\0\0\0\0\0pingping",
        ),
        ("a body by bytes", b"http/1.1", &body, b" "),
        ("chunks by bytes", b"http/1.1", &chunks, b"1\r\n \r\n"),
    ];
    let everybody = cases.map(|(what, protocol, start, rest)| {
        let (running, admin) = (&running, &admin);
        async move {
            let stream = running.connect_speaking(protocol, Some(admin)).await;
            let ended = timeout(CUT_OFF_TIME_MAX, trickle(stream, start, rest)).await;
            assert!(ended.is_ok(), "{what}: it is not cut off");
        }
    });
    let without_tls = async {
        let tcp = TcpStream::connect(("127.0.0.1", running.port)).await;
        let ended = timeout(CUT_OFF_TIME_MAX, trickle(tcp.unwrap(), b"", b"")).await;
        assert!(ended.is_ok(), "a silent TCP connection is not cut off");
    };
    let everybody = futures_util::future::join_all(everybody);
    tokio::join!(everybody, without_tls);
    assert_eq!(running.get("/version", None).await.0, 200);
}

#[tokio::test]
async fn requests_keep_a_connection_open() {
    let running = run_within(impatient()).await;
    let stream = running.connect(None).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let began = std::time::Instant::now();
    while began.elapsed() < impatient().idle * 4 {
        let request = Request::get("/version").header("host", "x");
        let request = request.body(Full::<bytes::Bytes>::default()).unwrap();
        let answer = sender.send_request(request).await.expect("an answer");
        answer.into_body().collect().await.unwrap();
        tokio::time::sleep(impatient().idle / 10).await;
    }
}

/// A write that is not the same as the one before.
fn put(bytes: usize) -> Write {
    Write::Put {
        key: Key::new(&knarr_api::kinds::configmap::CONFIG_MAP, "default", "a"),
        expect: Expect::Any,
        object: json!({
            "metadata": { "name": "a", "namespace": "default" },
            "data": { "a": "x".repeat(bytes), "b": uuid::Uuid::new_v4().to_string() },
        }),
    }
}

async fn read_event(body: &mut Incoming) {
    loop {
        let frame = body.frame().await.expect("the watch goes on").unwrap();
        if frame.data_ref().is_some_and(|data| data.ends_with(b"\n")) {
            return;
        }
    }
}

#[tokio::test]
async fn a_watch_that_nobody_reads_is_cut_off() {
    let running = run_within(impatient()).await;
    let state = running.server.state();
    let admin = &state.pki.admin;
    let mut unread = running.connect(Some(admin)).await;
    unread.write_all(WATCH).await.unwrap();
    let stream = TokioIo::new(running.connect(Some(admin)).await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/api/v1/configmaps?watch=true").header("host", "x");
    let request = request.body(Full::<bytes::Bytes>::default()).unwrap();
    let mut read = sender.send_request(request).await.unwrap().into_body();
    let cut_off = async {
        // What is written to a closed connection comes back as an error.
        while unread.write_all(b"\r\n").await.is_ok() {
            state.store.commit(vec![put(1 << 20)]).await.unwrap();
            read_event(&mut read).await;
        }
    };
    let cut_off = timeout(CUT_OFF_TIME_MAX, cut_off).await;
    cut_off.expect("it is cut off");
    state.store.commit(vec![put(1)]).await.unwrap();
    read_event(&mut read).await;
}

#[tokio::test]
async fn the_longest_quiet_connection_makes_room() {
    let limits = Limits {
        quiet_max: 3,
        ..Limits::default()
    };
    let running = run_within(limits).await;
    let admin = &running.server.state().pki.admin;
    let mut watch = running.connect(Some(admin)).await;
    watch.write_all(WATCH).await.unwrap();
    watch.read_u8().await.unwrap();
    let mut first = running.connect(None).await;
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(running.connect(None).await);
    }
    let read = timeout(CUT_OFF_TIME_MAX, first.read(&mut [0])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "the first makes room");
    assert_eq!(running.get("/version", None).await.0, 200);
    let store = &running.server.state().store;
    store.commit(vec![put(1)]).await.unwrap();
    let mut told = String::new();
    while !told.contains("ADDED") {
        let mut piece = [0; 4096];
        let length = watch.read(&mut piece).await.unwrap();
        assert_ne!(length, 0, "whoever watches stays");
        told += &String::from_utf8_lossy(&piece[..length]);
    }
}
