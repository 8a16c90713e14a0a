//! Asks the host's resolvers what is not ours.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Mutex,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::{cache::Cache, resolv_conf::upstreams};

/// A resolver that takes longer is asked no more; glibc's clients wait five seconds in all.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// Where the host names its resolvers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const DATAGRAM_BYTES_MAX: usize = 4096;
const UDP_PAYLOAD: u16 = 1232;

/// The host's resolvers, and what they said lately.
pub struct Forwarder {
    own: Vec<IpAddr>,
    cache: Mutex<Cache>,
}

impl Forwarder {
    /// Asks the host's resolvers, in order, but none of `own`; with none left, every other name fails at once.
    #[must_use]
    pub fn new(own: Vec<IpAddr>) -> Self {
        Forwarder {
            own,
            cache: Mutex::default(),
        }
    }

    /// The first useful answer; `None` if nobody gave one.
    pub(super) async fn ask(&self, name: &Name, kind: RecordType) -> Option<Message> {
        let text = name.to_ascii();
        if let Some(kept) = self
            .cache
            .lock()
            .ok()
            .and_then(|cache| cache.get(&text, kind, Instant::now()))
        {
            return Some(kept);
        }
        let query = query(name, kind);
        let bytes = query.to_vec().ok()?;
        // Read anew: a host that moves to another network gets other resolvers.
        let resolv_conf = tokio::fs::read_to_string(RESOLV_CONF)
            .await
            .unwrap_or_default();
        for upstream in upstreams(&resolv_conf, &self.own) {
            let Ok(Some(answer)) =
                timeout(ANSWER_TIME_MAX, exchange(upstream, &query, &bytes)).await
            else {
                continue;
            };
            if let Ok(mut cache) = self.cache.lock() {
                cache.put(&text, kind, &answer, Instant::now());
            }
            return Some(answer);
        }
        None
    }
}

/// A fresh id and port for every question make forged answers unlikely (RFC 5452).
fn query(name: &Name, kind: RecordType) -> Message {
    let mut query = Message::query();
    query.metadata.message_type = MessageType::Query;
    query.metadata.op_code = OpCode::Query;
    query.metadata.recursion_desired = true;
    query.queries.push(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD);
    query.edns = Some(edns);
    query
}

async fn exchange(upstream: SocketAddr, query: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = over_udp(upstream, query, bytes).await?;
    if answer.metadata.truncation {
        over_tcp(upstream, query, bytes).await
    } else {
        Some(answer)
    }
}

async fn over_udp(upstream: SocketAddr, query: &Message, bytes: &[u8]) -> Option<Message> {
    let any = SocketAddr::new(
        if upstream.is_ipv4() {
            [0u8; 4].into()
        } else {
            [0u8; 16].into()
        },
        0,
    );
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(upstream).await.ok()?;
    socket.send(bytes).await.ok()?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await.ok()?;
        let answer = Message::from_vec(&buffer[..length])
            .ok()
            .filter(|answer| answers(answer, query));
        if answer.is_some() {
            return answer;
        }
    }
}

async fn over_tcp(upstream: SocketAddr, query: &Message, bytes: &[u8]) -> Option<Message> {
    let mut stream = TcpStream::connect(upstream).await.ok()?;
    stream
        .write_u16(u16::try_from(bytes.len()).ok()?)
        .await
        .ok()?;
    stream.write_all(bytes).await.ok()?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await.ok()?)];
    stream.read_exact(&mut buffer).await.ok()?;
    Message::from_vec(&buffer)
        .ok()
        .filter(|answer| answers(answer, query))
}

/// Datagrams of strangers are no answers.
fn answers(answer: &Message, query: &Message) -> bool {
    answer.metadata.id == query.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries.first() == query.queries.first()
}
