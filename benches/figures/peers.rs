//! What durable writes cost elsewhere on the same disk: bare flushes, bare SQLite, and etcd where it is installed.

use std::{
    fs::File,
    io::ErrorKind,
    net::TcpListener,
    os::unix::fs::FileExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sqlx::{
    AssertSqlSafe, ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::lab::machine::terminate;

/// Writes a second into a file that has its size, each with a flush, as a log that is used again does.
pub(crate) fn flushes_a_second(directory: &Path, bytes: usize, time: Duration) -> f64 {
    const FILE_BYTES: usize = 4 << 20;
    let path = directory.join("floor");
    let file = File::create(&path).expect("a file");
    file.write_all_at(&vec![0; FILE_BYTES], 0)
        .and_then(|()| file.sync_all())
        .expect("a disk");
    let bytes = vec![b'x'; bytes];
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < time {
        let at = count as usize * bytes.len() % FILE_BYTES;
        file.write_all_at(&bytes, at as u64)
            .and_then(|()| file.sync_data())
            .expect("a disk");
        count += 1;
    }
    std::fs::remove_file(path).expect("our own file");
    f64::from(count) / began.elapsed().as_secs_f64()
}

/// Rows a second into a database like knarr's, with `rows` of them in each transaction and nothing around it.
pub(crate) async fn sqlite_rows_a_second(
    directory: &Path,
    rows: usize,
    bytes: usize,
    time: Duration,
) -> f64 {
    let path = directory.join("floor.db");
    let mut database = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging()
        .connect()
        .await
        .expect("a database");
    let tables = include_str!("../../migrations/0001_objects.sql");
    let made = sqlx::raw_sql(tables).execute(&mut database).await;
    made.expect("the tables");
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < time {
        insert(&mut database, count, rows, bytes).await;
        count += rows;
    }
    let seconds = began.elapsed().as_secs_f64();
    drop(database);
    for ending in ["", "-wal", "-shm"] {
        let _may_be_gone = std::fs::remove_file(directory.join(format!("floor.db{ending}")));
    }
    count as f64 / seconds
}

async fn insert(database: &mut SqliteConnection, first: usize, rows: usize, bytes: usize) {
    let sql = format!(
        "INSERT INTO objects (resource, namespace, name, uid, revision, document) VALUES {}",
        vec!["('configmaps','default',?,?,?,?)"; rows].join(",")
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for number in first..first + rows {
        query = query
            .bind(format!("bench-{number}"))
            .bind("2f1c34b3-6e2c-4c80-9b43-1b4c59c3ef0a")
            .bind(number as i64)
            .bind(vec![b'x'; bytes]);
    }
    query.execute(database).await.expect("a disk");
}

/// A running etcd with its data in the directory it was given.
pub(crate) struct Etcd {
    process: Child,
    port: u16,
}

impl Etcd {
    /// `None` if there is none on this machine.
    pub(crate) fn start(directory: &Path) -> Option<Etcd> {
        let (port, peer_port) = (free_port(), free_port());
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let started = Command::new("etcd")
            .args(["--data-dir", &directory.join("etcd").to_string_lossy()])
            .args(["--listen-client-urls", &url(port)])
            .args(["--advertise-client-urls", &url(port)])
            .args(["--listen-peer-urls", &url(peer_port)])
            .args(["--initial-advertise-peer-urls", &url(peer_port)])
            .args(["--initial-cluster", &format!("default={}", url(peer_port))])
            .args(["--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match started {
            Ok(process) => Some(Etcd { process, port }),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("etcd: {error}"),
        }
    }

    /// Puts a second by `clients`, each on a connection of its own.
    pub(crate) async fn puts_a_second(&self, clients: usize, bytes: usize, time: Duration) -> f64 {
        let mut connections = Vec::new();
        for _ in 0..clients {
            connections.push(self.connect().await);
        }
        let began = Instant::now();
        let each = connections
            .into_iter()
            .enumerate()
            .map(async |(client, mut connection)| {
                let mut count = 0;
                while began.elapsed() < time {
                    let key =
                        format!("/registry/configmaps/default/bench-{clients}-{client}-{count}");
                    put(&mut connection, &key, bytes).await;
                    count += 1;
                }
                count
            });
        let count: u32 = futures_util::future::join_all(each).await.into_iter().sum();
        f64::from(count) / began.elapsed().as_secs_f64()
    }

    /// Connects once it answers.
    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await {
                Ok(stream) => {
                    stream.set_nodelay(true).expect("a socket");
                    let stream = TokioIo::new(stream);
                    let shaken = http2::handshake(TokioExecutor::new(), stream).await;
                    let (connection, running) = shaken.expect("a handshake");
                    tokio::spawn(running);
                    return connection;
                }
                Err(error) => assert!(Instant::now() < deadline, "etcd: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        terminate(&mut self.process);
    }
}

/// `etcdserverpb.KV/Put`: a message of two byte fields behind gRPC's five bytes of head.
async fn put(connection: &mut SendRequest<Full<Bytes>>, key: &str, value_bytes: usize) {
    let mut message = BytesMut::new();
    field(&mut message, 1, key.as_bytes());
    field(&mut message, 2, &vec![b'x'; value_bytes]);
    let mut body = BytesMut::with_capacity(message.len() + 5);
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).expect("a small message"));
    body.put_slice(&message);
    let request = http::Request::post("http://etcd/etcdserverpb.KV/Put")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(body.freeze()))
        .expect("a request");
    connection.ready().await.expect("an open connection");
    let answer = connection.send_request(request).await.expect("an answer");
    let answer = answer.into_body().collect().await.expect("a whole answer");
    let status = answer.trailers().and_then(|t| t.get("grpc-status"));
    assert_eq!(status.map(|s| s.as_bytes()), Some(&b"0"[..]), "a put");
}

fn field(message: &mut BytesMut, number: u8, bytes: &[u8]) {
    const LENGTH_DELIMITED: u8 = 2;
    message.put_u8(number << 3 | LENGTH_DELIMITED);
    let mut rest = bytes.len();
    while rest >= 0x80 {
        message.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    message.put_u8(rest as u8);
    message.put_slice(bytes);
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}
