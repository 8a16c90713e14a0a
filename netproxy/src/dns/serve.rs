//! The sockets of cluster DNS: UDP and TCP on the cluster's DNS addresses.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::Name,
};
use knarr_netproxy_plan::dns::Zone;
use nix::sys::socket::{self, Shutdown, setsockopt, sockopt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    Forwarder, SharedZone,
    datagrams::{Batch, Client, Turn},
    kept::{Kept, Plain},
    message::{Outcome, asks, encode_udp, refusal, respond, unreadable},
};

const DNS_PORT: u16 = 53;
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;
/// Questions that others are being asked; more fail at once, so that a flood costs bounded memory and no cluster name waits.
const QUESTION_COUNT_MAX: usize = 512;
/// TCP clients; more wait to be accepted.
const CONNECTION_COUNT_MAX: usize = 256;
/// How long a TCP client may be silent (RFC 7766 section 6.2.3).
const TCP_IDLE_MAX: Duration = Duration::from_secs(10);

/// Why the server does not answer at an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot answer DNS at {address}")]
pub struct Error {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// Open sockets, ready to be served.
pub struct Listeners {
    sockets: Vec<Listener>,
}

struct Listener {
    udp: UdpSocket,
    tcp: TcpListener,
    places: (SocketAddr, SocketAddr),
}

struct Server {
    zone: SharedZone,
    forwarder: Forwarder,
    turn: AtomicUsize,
    questions: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// Opens UDP and TCP sockets, at other ports where somebody holds 53; the addresses need not be on any link yet.
///
/// # Errors
/// When a socket cannot be had, such as one that another server holds.
pub fn listen(addresses: &[IpAddr]) -> Result<Listeners, Error> {
    let sockets = addresses.iter().map(|ip| {
        let address = SocketAddr::new(*ip, DNS_PORT);
        let found = match bind(address) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                bind(SocketAddr::new(*ip, 0))
            }
            found => found,
        };
        found.map_err(|source| Error { address, source })
    });
    Ok(Listeners {
        sockets: sockets.collect::<Result<_, _>>()?,
    })
}

fn bind(address: SocketAddr) -> std::io::Result<Listener> {
    let udp = UdpSocket::from(bound_udp(address)?);
    let tcp = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    tcp.set_reuseaddr(true)?;
    setsockopt(&tcp, sockopt::IpFreebind, &true)?;
    tcp.bind(address)?;
    let tcp = tcp.listen(1024)?;
    Ok(Listener {
        places: (udp.local_addr()?, tcp.local_addr()?),
        udp,
        tcp,
    })
}

fn bound_udp(address: SocketAddr) -> std::io::Result<std::os::fd::OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, socket};
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    // Bursts wait rather than get lost; no memory is taken until they come.
    let _refused_in_user_namespaces =
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES);
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

impl Listeners {
    /// Where each address answers by UDP and by TCP.
    pub fn places(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
        self.sockets.iter().map(|listener| listener.places)
    }

    /// Answers until `shutdown`.
    pub async fn serve(self, zone: SharedZone, forwarder: Forwarder, shutdown: CancellationToken) {
        let room = |count| Arc::new(Semaphore::new(count));
        let server = Arc::new(Server {
            zone,
            forwarder,
            turn: AtomicUsize::new(0),
            questions: room(QUESTION_COUNT_MAX),
            connections: room(CONNECTION_COUNT_MAX),
        });
        let mut loops = JoinSet::new();
        for Listener { udp, tcp, .. } in self.sockets {
            serve_on_a_thread(&server, Arc::new(udp), &shutdown);
            loops.spawn(serve_tcp(server.clone(), tcp, shutdown.clone()));
        }
        while loops.join_next().await.is_some() {}
    }
}

/// The thread ends with `shutdown`.
fn serve_on_a_thread(server: &Arc<Server>, udp: Arc<UdpSocket>, shutdown: &CancellationToken) {
    let runtime = Handle::current();
    let (waker, cancelled) = (udp.clone(), shutdown.clone());
    runtime.spawn(async move {
        cancelled.cancelled().await;
        // Nothing is connected, which is an error, but whoever waits for a datagram wakes up.
        let _always_not_connected = socket::shutdown(waker.as_raw_fd(), Shutdown::Read);
    });
    let (server, shutdown) = (server.clone(), shutdown.clone());
    let thread = thread::Builder::new().name("dns".to_owned());
    let spawned = thread.spawn(move || serve_udp(&server, &udp, &runtime, &shutdown));
    if let Err(error) = spawned {
        tracing::warn!("no cluster DNS over UDP: {error}");
    }
}

/// Answers on a thread of its own, which waits in the kernel: one system call takes all questions that are there, one
/// sends all replies.
fn serve_udp(
    server: &Arc<Server>,
    socket: &Arc<UdpSocket>,
    runtime: &Handle,
    shutdown: &CancellationToken,
) {
    let (mut batch, mut kept) = (Batch::new(), Kept::default());
    let mut turn = 0;
    loop {
        // ICMP errors of earlier answers arrive here too.
        let received = batch.receive(socket);
        if shutdown.is_cancelled() {
            return;
        }
        if received.is_err() {
            continue;
        }
        let mut slow = Vec::new();
        {
            let zone = server.zone.read().unwrap_or_else(PoisonError::into_inner);
            kept.follow(&zone);
            for place in batch.turns() {
                turn += 1;
                slow.extend(answer(&zone, &mut kept, turn, place));
            }
        }
        batch.send(socket);
        for (client, request, outcome) in slow {
            let Ok(place) = server.questions.clone().try_acquire_owned() else {
                let reply = refusal(&request, ResponseCode::ServFail);
                if let Some(bytes) = encode_udp(&request, &reply) {
                    client.send(socket, &bytes);
                }
                continue;
            };
            let (server, socket) = (server.clone(), socket.clone());
            runtime.spawn(async move {
                let reply = server.finish(&request, outcome).await;
                if let Some(bytes) = encode_udp(&request, &reply) {
                    client.send(&socket, &bytes);
                }
                drop(place);
            });
        }
    }
}

/// Answers from the zone at once; what needs others is given back.
fn answer(
    zone: &Zone,
    kept: &mut Kept,
    turn: usize,
    place: Turn<'_>,
) -> Option<(Client, Message, Outcome)> {
    let plain = Plain::read(place.question);
    if let Some(length) = plain
        .as_ref()
        .and_then(|plain| kept.reply(plain, turn, place.reply))
    {
        place.send(length);
        return None;
    }
    let Ok(request) = Message::from_vec(place.question) else {
        let reply = unreadable(place.question)?;
        place.reply.get_mut(..reply.len())?.copy_from_slice(&reply);
        place.send(reply.len());
        return None;
    };
    if !asks(&request) {
        return None;
    }
    let reply = match respond(zone, &request, turn) {
        Outcome::Reply(reply) => reply,
        outcome => return Some((place.client, request, outcome)),
    };
    if let Some(plain) = &plain {
        kept.keep(plain, zone);
    }
    let bytes = encode_udp(&request, &reply)?;
    place.reply.get_mut(..bytes.len())?.copy_from_slice(&bytes);
    place.send(bytes.len());
    None
}

async fn serve_tcp(server: Arc<Server>, listener: TcpListener, shutdown: CancellationToken) {
    loop {
        let Ok(place) = server.connections.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let server = server.clone();
        tokio::spawn(async move {
            let _ends_when_the_client_does = serve_stream(&server, stream).await;
            drop(place);
        });
    }
}

/// Many questions may come over one connection, each behind its length (RFC 1035 section 4.2.2).
async fn serve_stream(server: &Server, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let length = tokio::time::timeout(TCP_IDLE_MAX, stream.read_u16()).await??;
        let mut bytes = vec![0; usize::from(length)];
        tokio::time::timeout(TCP_IDLE_MAX, stream.read_exact(&mut bytes)).await??;
        let reply = match Message::from_vec(&bytes) {
            Ok(request) if asks(&request) => {
                let reply = server.finish(&request, server.decide(&request)).await;
                reply.to_vec().ok()
            }
            Ok(_) => None,
            Err(_) => unreadable(&bytes).map(Vec::from),
        };
        let Some(bytes) = reply else {
            return Ok(());
        };
        let Ok(length) = u16::try_from(bytes.len()) else {
            return Ok(());
        };
        stream.write_u16(length).await?;
        stream.write_all(&bytes).await?;
    }
}

impl Server {
    fn decide(&self, request: &Message) -> Outcome {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match self.zone.read() {
            Ok(zone) => respond(&zone, request, turn),
            Err(_) => Outcome::Reply(refusal(request, ResponseCode::ServFail)),
        }
    }

    /// Turns what needs others into a reply.
    async fn finish(&self, request: &Message, outcome: Outcome) -> Message {
        match outcome {
            Outcome::Reply(reply) => reply,
            Outcome::Forward => self.forward(request).await,
            Outcome::Chase {
                mut reply,
                target,
                kind,
            } => match self.forwarder.ask(&target, kind).await {
                Some(answer) => {
                    reply.metadata.response_code = answer.metadata.response_code;
                    reply.answers.extend(answer.answers);
                    reply
                }
                None => refusal(request, ResponseCode::ServFail),
            },
        }
    }

    async fn forward(&self, request: &Message) -> Message {
        let root = Name::root();
        let (name, kind) = request
            .queries
            .first()
            .map_or((&root, hickory_proto::rr::RecordType::NS), |q| {
                (&q.name, q.query_type)
            });
        let Some(answer) = self.forwarder.ask(name, kind).await else {
            return refusal(request, ResponseCode::ServFail);
        };
        let mut reply = refusal(request, answer.metadata.response_code);
        (reply.answers, reply.authorities, reply.additionals) =
            (answer.answers, answer.authorities, answer.additionals);
        reply
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::{
        op::{MessageType, OpCode, Query},
        rr::RecordType,
    };

    use super::*;
    use crate::{
        dns,
        own_netns::{run, sh},
    };

    const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 2), DNS_PORT);
    /// Less than a silent resolver is waited for.
    const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

    fn question(name: &str) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        let name = Name::from_ascii(name).expect("a name");
        message.queries.push(Query::query(name, RecordType::A));
        message.to_vec().expect("bytes")
    }

    fn client() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(SERVER).expect("loopback");
        let patience = Some(ANSWER_TIME_MAX);
        socket.set_read_timeout(patience).expect("a timeout");
        socket
    }

    fn answer(socket: &UdpSocket) -> Option<ResponseCode> {
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).ok()?;
        let message = Message::from_vec(&buffer[..length]).expect("a message");
        Some(message.metadata.response_code)
    }

    /// Serves an empty zone whose only resolver never says anything, for as long as `ask` takes.
    fn beside_a_silent_resolver(ask: impl FnOnce() + Send + 'static) {
        run(move || {
            sh("ip link set lo up");
            let _silent = UdpSocket::bind(("127.0.0.7", DNS_PORT)).expect("a socket");
            let conf = format!("knarr-serve-{}", std::process::id());
            let conf = std::env::temp_dir().join(conf);
            std::fs::write(&conf, "nameserver 127.0.0.7\n").expect("a file");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                let listeners = listen(&[IpAddr::V4(SERVER.0)]).expect("sockets");
                let forwarder = Forwarder::reading(conf.clone(), Vec::new());
                let shutdown = CancellationToken::new();
                let serving =
                    listeners.serve(dns::shared("cluster.local"), forwarder, shutdown.clone());
                let serving = tokio::spawn(serving);
                let asked = tokio::task::spawn_blocking(ask).await;
                shutdown.cancel();
                serving.await.expect("it ends");
                asked.expect("the answers are as they should be");
            });
            std::fs::remove_file(conf).expect("our file");
        });
    }

    #[test]
    fn cluster_names_are_answered_however_many_questions_wait_for_others() {
        const TOO_MANY: usize = QUESTION_COUNT_MAX + 100;
        beside_a_silent_resolver(|| {
            let (others, own) = (client(), client());
            for number in 0..TOO_MANY {
                let name = format!("{number}.example.com.");
                others.send(&question(&name)).expect("sent");
            }
            own.send(&question("web.shop.svc.cluster.local."))
                .expect("sent");
            assert_eq!(answer(&own), Some(ResponseCode::NXDomain));
            for _ in QUESTION_COUNT_MAX..TOO_MANY {
                assert_eq!(answer(&others), Some(ResponseCode::ServFail));
            }
        });
    }

    #[test]
    fn an_answer_is_not_answered_and_what_cannot_be_read_is() {
        beside_a_silent_resolver(|| {
            let socket = client();
            let good = question("web.shop.svc.cluster.local.");
            let mut reflected = good.clone();
            reflected[2] |= 0x80;
            socket.send(&reflected).expect("sent");
            socket.send(&good[..5]).expect("sent");
            socket.send(&good[..good.len() - 1]).expect("sent");
            assert_eq!(answer(&socket), Some(ResponseCode::FormErr));
            socket.send(&good).expect("sent");
            assert_eq!(answer(&socket), Some(ResponseCode::NXDomain));
        });
    }
}
