//! Clients that ask for too much at once over one HTTP/2 connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const TIME_MAX: Duration = Duration::from_secs(60);
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_OF_STREAM: u8 = 1;
const END_OF_HEADERS: u8 = 4;
/// `GET https://x/version`, with HPACK's static table.
const REQUEST: &[u8] = b"\x82\x87\x41\x01x\x44\x08/version";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_OF_STREAM | END_OF_HEADERS, stream, REQUEST)
}

#[tokio::test]
async fn floods_end_the_connection_and_nothing_else() {
    let running = run_within(Limits {
        idle: Duration::from_secs(1),
        ..Limits::default()
    })
    .await;
    let streams = || (0..4_000_u32).map(|number| number * 2 + 1);
    let cancel = 8_u32.to_be_bytes();
    let endless = [0x40, 1, b'a', 1, b'b'].repeat(2_000);
    let cases: [(&str, Vec<u8>); 4] = [
        (
            "streams opened and reset",
            streams()
                .flat_map(|stream| [request(stream), frame(RST_STREAM, 0, stream, &cancel)])
                .flatten()
                .collect(),
        ),
        (
            "more streams than allowed",
            streams().flat_map(request).collect(),
        ),
        (
            "a head without end",
            std::iter::once(frame(HEADERS, END_OF_STREAM, 1, REQUEST))
                .chain((0..1_000).map(|_| frame(CONTINUATION, 0, 1, &endless)))
                .flatten()
                .collect(),
        ),
        (
            "settings again and again",
            (0..10_000)
                .flat_map(|_| frame(SETTINGS, 0, 0, &[]))
                .collect(),
        ),
    ];
    for (what, flood) in cases {
        let stream = running.connect_speaking(b"h2", None).await;
        let (mut read, mut write) = tokio::io::split(stream);
        let said = async {
            let _it_may_be_refused = write.write_all(PREFACE).await;
            let _it_may_be_refused = write.write_all(&flood).await;
            let _it_may_be_refused = write.flush().await;
        };
        let heard = async {
            let mut answer = Vec::new();
            let _cut_off = read.read_to_end(&mut answer).await;
        };
        let ended = timeout(TIME_MAX, async { tokio::join!(said, heard) }).await;
        assert!(ended.is_ok(), "{what}: the connection does not end");
        assert_eq!(running.get("/version", None).await.0, 200, "{what}");
    }
}
