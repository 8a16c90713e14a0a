//! Asks the host's resolvers what is not ours.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::watch,
    time::timeout,
};

use super::{
    cache::Cache,
    resolv_conf::{names_only_the_stub, upstreams},
};

/// A resolver that takes longer is asked no more; glibc's clients wait five seconds in all.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// The only resolver is asked again when it is silent: datagrams get lost.
const ATTEMPTS_MIN: usize = 2;
/// Where the host names its resolvers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where systemd-resolved names those behind its stub. The stub itself may be told to ask cluster DNS, and that would be a loop.
const RESOLVED_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";
const DATAGRAM_BYTES_MAX: usize = 4096;
const UDP_PAYLOAD: u16 = 1232;

/// The host's resolvers, and what they said lately.
pub struct Forwarder {
    own: Vec<IpAddr>,
    resolv_conf: PathBuf,
    cache: Mutex<Cache>,
    under_way: Mutex<BTreeMap<Asked, Answered>>,
}

type Asked = (String, RecordType);
/// Nothing until it is known; then an answer, or that nobody gave one.
type Answered = watch::Receiver<Option<Option<Message>>>;

/// A question that is under way until this value goes.
struct UnderWay<'a> {
    forwarder: &'a Forwarder,
    asked: Asked,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        hold(&self.forwarder.under_way).remove(&self.asked);
    }
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Forwarder {
    /// Asks the host's resolvers, in order, but none of `own`; with none left, every other name fails at once.
    #[must_use]
    pub fn new(own: Vec<IpAddr>) -> Self {
        Forwarder::reading(RESOLV_CONF.into(), own)
    }

    pub(super) fn reading(resolv_conf: PathBuf, own: Vec<IpAddr>) -> Self {
        Forwarder {
            own,
            resolv_conf,
            cache: Mutex::default(),
            under_way: Mutex::default(),
        }
    }

    /// The first useful answer; `None` if nobody gave one.
    ///
    /// A question that comes again while it is under way waits for the same answer: clients are many, and a resolver
    /// that asks us in turn makes one question more, not a storm.
    pub(super) async fn ask(&self, name: &Name, kind: RecordType) -> Option<Message> {
        let asked = (name.to_ascii().to_ascii_lowercase(), kind);
        if let Some(kept) = hold(&self.cache).get(&asked.0, kind, Instant::now()) {
            return Some(kept);
        }
        let (tell, told) = watch::channel(None);
        let earlier = match hold(&self.under_way).entry(asked.clone()) {
            Entry::Occupied(entry) => Some(entry.get().clone()),
            Entry::Vacant(entry) => {
                entry.insert(told);
                None
            }
        };
        if let Some(mut earlier) = earlier {
            let answer = earlier.wait_for(Option::is_some).await.ok()?;
            return answer.clone().flatten();
        }
        let _until_answered = UnderWay {
            forwarder: self,
            asked,
        };
        let answer = self.ask_upstreams(name, kind).await;
        tell.send_replace(Some(answer.clone()));
        answer
    }

    async fn ask_upstreams(&self, name: &Name, kind: RecordType) -> Option<Message> {
        let text = name.to_ascii();
        let query = query(name, kind);
        let bytes = query.to_vec().ok()?;
        // Read anew: a host that moves to another network gets other resolvers.
        let own = tokio::fs::read_to_string(&self.resolv_conf);
        let mut resolv_conf = own.await.unwrap_or_default();
        if names_only_the_stub(&resolv_conf)
            && let Ok(behind) = tokio::fs::read_to_string(RESOLVED_RESOLV_CONF).await
        {
            resolv_conf = behind;
        }
        let upstreams = upstreams(&resolv_conf, &self.own);
        let attempts = upstreams.len().max(ATTEMPTS_MIN);
        let mut failure = None;
        for upstream in upstreams.into_iter().cycle().take(attempts) {
            let asked = timeout(ANSWER_TIME_MAX, exchange(upstream, &query, &bytes)).await;
            match asked {
                Ok(Some(answer)) if is_useful(&answer) => {
                    hold(&self.cache).put(&text, kind, &answer, Instant::now());
                    return Some(answer);
                }
                Ok(Some(answer)) => failure = Some(answer),
                Ok(None) | Err(_) => {}
            }
        }
        failure
    }
}

/// Whether no other resolver could know better: glibc asks the next one after the same codes.
fn is_useful(answer: &Message) -> bool {
    !matches!(
        answer.metadata.response_code,
        ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp
    )
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
