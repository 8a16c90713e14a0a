//! One change to a thousand watchers, beside the same bytes written to a thousand bare TLS connections.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
    task::LocalSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Row, Samples,
    lab::world::World,
    load::{Server, Session, process_cpu, thread_cpu},
    show,
};

const WATCHERS: usize = 1000;
const EVENTS: usize = 50;
/// The first only show that every watcher listens.
const WARM_UP: usize = 5;
/// Long enough for every watcher to hear of a change on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// A kind of which nothing is there at first.
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

pub(crate) fn measure() -> Vec<Row> {
    let mut world = World::new(1);
    world.nodes[0].start(&["server"]);
    world.wait_for_api();
    let kubeconfig = world.nodes[0].data_dir().join("kubeconfig.yaml");
    let pid = world.nodes[0].pid();
    let (heard, floor) = world.nodes[0].netns.run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        LocalSet::new().block_on(&runtime, async {
            let server = Server::of(&kubeconfig).await;
            let knarr = Knarr {
                writer: Session::open(&server).await,
                pid,
            };
            let heard = rounds(&server, knarr).await;
            let (bare, address) = Bare::start();
            let floor = rounds(&Server::at(address, bare.client()), bare).await;
            (heard, floor)
        })
    });
    let row = |what: &str, figure: String, floor: String, floor_is| Row {
        what: what.to_owned(),
        figure,
        floor,
        floor_is,
    };
    vec![
        row(
            "create → event at each of 1,000 watchers (p50 / p99)",
            heard.delays.show(),
            floor.delays.show(),
            "the same bytes written to 1,000 TLS connections in turn, nothing stored",
        ),
        row(
            "the answer to that create (p50 / p99)",
            heard.answers.show(),
            "none".to_owned(),
            "a commit to disk is part of it",
        ),
        row(
            "CPU of an event to 1,000 watchers: the server's, the watchers' own",
            format!("{}, {}", show(heard.server_cpu), show(heard.client_cpu)),
            format!("{}, {}", show(floor.server_cpu), show(floor.client_cpu)),
            "the same",
        ),
    ]
}

/// What came of all rounds.
struct Heard {
    delays: Samples,
    answers: Samples,
    /// Of one round.
    server_cpu: Duration,
    client_cpu: Duration,
}

/// Something whose every change a thousand watchers hear of.
trait Source {
    async fn change(&mut self, name: &str);
    fn cpu(&self) -> Duration;
}

struct Knarr {
    writer: Session,
    pid: u32,
}

impl Source for Knarr {
    async fn change(&mut self, name: &str) {
        let answer = self.writer.post(SECRETS, &secret(name)).await;
        assert_eq!(answer.code, 201, "{}", String::from_utf8_lossy(answer.body));
    }

    fn cpu(&self) -> Duration {
        process_cpu(self.pid)
    }
}

fn secret(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"text": "changed"}})
        .to_string()
}

async fn rounds(server: &Server, mut source: impl Source) -> Heard {
    let (heard, mut hearing) = mpsc::unbounded_channel();
    for _ in 0..WATCHERS {
        let mut session = Session::open(server).await;
        session.watch(&format!("{SECRETS}?watch=true")).await;
        let heard = heard.clone();
        tokio::task::spawn_local(async move {
            for round in 0..WARM_UP + EVENTS {
                session.event(&format!("event-{round}")).await;
                heard.send(Instant::now()).unwrap_or_default();
            }
        });
    }
    let (mut delays, mut answers) = (Vec::new(), Vec::new());
    let mut cpu = (source.cpu(), thread_cpu());
    for round in 0..WARM_UP + EVENTS {
        if round == WARM_UP {
            (delays, answers) = (Vec::new(), Vec::new());
            cpu = (source.cpu(), thread_cpu());
        }
        let began = Instant::now();
        let change = async {
            source.change(&format!("event-{round}")).await;
            began.elapsed()
        };
        let all_hear = async {
            let mut delays = Vec::with_capacity(WATCHERS);
            while delays.len() < WATCHERS {
                let next = tokio::time::timeout(PATIENCE, hearing.recv()).await;
                let at: Instant = next.expect("in time").expect("watchers run");
                delays.push(at.saturating_duration_since(began));
            }
            delays
        };
        let (answered, heard) = futures_util::future::join(change, all_hear).await;
        answers.push(answered);
        delays.extend(heard);
    }
    let each = |spent: Duration| spent / EVENTS as u32;
    Heard {
        delays: Samples::new(delays),
        answers: Samples::new(answers),
        server_cpu: each(source.cpu() - cpu.0),
        client_cpu: each(thread_cpu() - cpu.1),
    }
}

/// A server that knows nothing: what it is told, it writes to everyone who is connected.
struct Bare {
    changes: mpsc::UnboundedSender<String>,
    certificate: rcgen::Certificate,
    spent: Arc<std::sync::Mutex<Duration>>,
}

impl Bare {
    fn start() -> (Bare, SocketAddr) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]);
        let certificate = parameters.expect("a name").self_signed(&key);
        let certificate = certificate.expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let (changes, told) = mpsc::unbounded_channel();
        let spent = Arc::new(std::sync::Mutex::new(Duration::ZERO));
        let note = spent.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(repeat(listener, acceptor, told, note));
        });
        let bare = Bare {
            changes,
            certificate,
            spent,
        };
        (bare, address)
    }

    fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.certificate.der().clone())
            .expect("a certificate");
        ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

impl Source for Bare {
    async fn change(&mut self, name: &str) {
        self.changes.send(name.to_owned()).expect("it runs");
    }

    fn cpu(&self) -> Duration {
        *self.spent.lock().expect("no panic")
    }
}

/// As many bytes as knarr sends for one of these Secrets.
const EVENT_BYTES: usize = 620;

async fn repeat(
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
    mut told: mpsc::UnboundedReceiver<String>,
    spent: Arc<std::sync::Mutex<Duration>>,
) {
    listener.set_nonblocking(true).expect("a socket");
    let listener = TcpListener::from_std(listener).expect("a socket");
    let mut streams = Vec::with_capacity(WATCHERS);
    while streams.len() < WATCHERS {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let mut stream = acceptor.accept(stream).await.expect("a handshake");
        let mut request = [0; 1024];
        let _whole_request = stream.read(&mut request).await.expect("a request");
        let head = b"HTTP/1.1 200 OK\r\n\r\n";
        stream.write_all(head).await.expect("a connection");
        stream.flush().await.expect("a connection");
        streams.push(stream);
    }
    while let Some(name) = told.recv().await {
        let mut line = format!("{{\"name\":\"{name}\"");
        line.extend(std::iter::repeat_n(' ', EVENT_BYTES - line.len() - 2));
        line.push_str("}\n");
        for stream in &mut streams {
            stream.write_all(line.as_bytes()).await.expect("a watcher");
            stream.flush().await.expect("a watcher");
        }
        *spent.lock().expect("no panic") = thread_cpu();
    }
}
