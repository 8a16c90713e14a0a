//! A client that costs little: requests written by hand over one TLS connection each, so that the server is what is measured.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{
    client::ConfigExt,
    config::{KubeConfigOptions, Kubeconfig},
};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Where connections go, and as whom.
#[derive(Clone)]
pub(crate) struct Server {
    address: (String, u16),
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl Server {
    pub(crate) async fn of(kubeconfig: &Path) -> Server {
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let config = config.expect("a usable kubeconfig");
        let tls = config.rustls_client_config().expect("usable keys");
        let host = config.cluster_url.host().expect("a host").to_owned();
        Server {
            name: ServerName::try_from(host.clone()).expect("a name"),
            address: (host, config.cluster_url.port_u16().unwrap_or(443)),
            connector: TlsConnector::from(Arc::new(tls)),
        }
    }

    pub(crate) fn at(address: SocketAddr, tls: ClientConfig) -> Server {
        Server {
            address: (address.ip().to_string(), address.port()),
            name: ServerName::IpAddress(address.ip().into()),
            connector: TlsConnector::from(Arc::new(tls)),
        }
    }
}

/// One connection.
pub(crate) struct Session {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

/// The body of an answer, and its code.
pub(crate) struct Answer<'a> {
    pub(crate) code: u16,
    pub(crate) body: &'a [u8],
}

impl Session {
    pub(crate) async fn open(server: &Server) -> Session {
        let (host, port) = &server.address;
        let stream = TcpStream::connect((host.as_str(), *port)).await;
        let stream = stream.expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        let stream = server.connector.connect(server.name.clone(), stream).await;
        Session {
            stream: stream.expect("a handshake"),
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer<'_> {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: knarr\r\n\r\n"))
            .await;
        self.answer().await
    }

    /// As [`Session::get`], in the name of somebody else.
    pub(crate) async fn get_as(&mut self, path: &str, user: &str, group: &str) -> Answer<'_> {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nhost: knarr\r\n\
             impersonate-user: {user}\r\nimpersonate-group: {group}\r\n\r\n"
        ))
        .await;
        self.answer().await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Answer<'_> {
        let length = body.len();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nhost: knarr\r\nuser-agent: figures\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
        self.answer().await
    }

    async fn send(&mut self, request: &str) {
        self.buffer.clear();
        let written = self.stream.write_all(request.as_bytes()).await;
        written.expect("an open connection");
        // What TLS holds back is sent only when it is asked to.
        let flushed = self.stream.flush().await;
        flushed.expect("an open connection");
    }

    async fn answer(&mut self) -> Answer<'_> {
        let body_start = self.head().await;
        let head = String::from_utf8_lossy(&self.buffer[..body_start]).into_owned();
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse::<usize>().ok())?
        });
        let is_whole = |buffer: &[u8]| match length {
            Some(length) => buffer.len() >= body_start + length,
            // A long list is sent in chunks as it is made.
            None => buffer.ends_with(b"\r\n0\r\n\r\n"),
        };
        while !is_whole(&self.buffer) {
            self.more().await;
        }
        Answer {
            code: code.expect("a status line"),
            body: &self.buffer[body_start..],
        }
    }

    /// Reads up to the end of the headers and says where that is.
    async fn head(&mut self) -> usize {
        const END: &[u8] = b"\r\n\r\n";
        loop {
            if let Some(at) = self.buffer.windows(END.len()).position(|four| four == END) {
                return at + END.len();
            }
            self.more().await;
        }
    }

    async fn more(&mut self) {
        let count = self.stream.read_buf(&mut self.buffer).await;
        assert_ne!(count.expect("an open connection"), 0, "the server hung up");
    }

    /// Begins a watch; from then on [`Session::event`] tells of what comes.
    pub(crate) async fn watch(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: knarr\r\n\r\n"))
            .await;
        let body_start = self.head().await;
        assert!(self.buffer.starts_with(b"HTTP/1.1 200"), "a watch");
        self.buffer.drain(..body_start);
    }

    /// Waits until the whole line of an event that speaks of `name` has come.
    pub(crate) async fn event(&mut self, name: &str) {
        let name = format!("\"{name}\"");
        loop {
            let text = String::from_utf8_lossy(&self.buffer);
            if text.contains(&name) && text.contains("}\n") {
                self.buffer.clear();
                return;
            }
            self.more().await;
        }
    }
}

/// What a number of sessions did in a while.
pub(crate) struct Load {
    pub(crate) count: u64,
    pub(crate) seconds: f64,
    /// Of the server, and of this client.
    pub(crate) server_cpu: Duration,
    pub(crate) client_cpu: Duration,
}

impl Load {
    pub(crate) fn per_second(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    pub(crate) fn server_cpu_each(&self) -> Duration {
        self.server_cpu.div_f64(self.count.max(1) as f64)
    }

    pub(crate) fn client_cpu_each(&self) -> Duration {
        self.client_cpu.div_f64(self.count.max(1) as f64)
    }
}

/// Runs `act` over and over in each of `sessions` for `time`; `act` is given the session and a number of its own.
pub(crate) async fn run(
    sessions: Vec<Session>,
    server_pid: u32,
    time: Duration,
    act: impl AsyncFn(&mut Session, u64),
) -> Load {
    let before = (process_cpu(server_pid), thread_cpu());
    let began = Instant::now();
    let next = std::cell::Cell::new(0);
    let each = sessions.into_iter().map(async |mut session| {
        let mut count = 0;
        while began.elapsed() < time {
            let number = next.replace(next.get() + 1);
            act(&mut session, number).await;
            count += 1;
        }
        count
    });
    let count = futures_util::future::join_all(each).await.into_iter().sum();
    Load {
        count,
        seconds: began.elapsed().as_secs_f64(),
        server_cpu: process_cpu(server_pid) - before.0,
        client_cpu: thread_cpu() - before.1,
    }
}

/// User and system time of a process.
pub(crate) fn process_cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u32 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u32>().expect("a number"))
        .sum();
    const TICKS_A_SECOND: u32 = 100;
    Duration::from_secs(1) * ticks / TICKS_A_SECOND
}

pub(crate) fn thread_cpu() -> Duration {
    let usage: Usage = getrusage(UsageWho::RUSAGE_THREAD).expect("our own use");
    let micros = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec().cast_unsigned())
            + Duration::from_micros(time.tv_usec().cast_unsigned())
    };
    micros(usage.user_time()) + micros(usage.system_time())
}
