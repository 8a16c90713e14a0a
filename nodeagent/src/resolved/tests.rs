//! What is told, as a bus hears it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::watch::Ears;
use super::*;

/// A bus that lets everybody in and answers every call alike; gives the calls as it read them.
fn bus(listener: &UnixListener, answer: u8) -> Vec<Vec<u8>> {
    let (mut stream, _) = listener.accept().expect("a client");
    let mut line = Vec::new();
    until(&mut stream, &mut line, b"\r\n");
    assert!(line.starts_with(b"\0AUTH EXTERNAL 3"), "{line:?}");
    stream
        .write_all(b"OK 0123\r\n")
        .expect("a client that listens");
    until(&mut stream, &mut Vec::new(), b"BEGIN\r\n");
    let mut calls = Vec::new();
    loop {
        let mut fixed = [0; 16];
        if stream.read_exact(&mut fixed).is_err() {
            return calls;
        }
        let word = |at: usize| u32::from_le_bytes(fixed[at..at + 4].try_into().expect("four"));
        let rest = word(12).next_multiple_of(8) + word(4);
        let mut message = vec![0; rest as usize];
        stream.read_exact(&mut message).expect("a whole message");
        let is_hello = message.windows(5).any(|word| word == b"Hello");
        let kind = if is_hello { 2 } else { answer };
        let mut reply = vec![b'l', kind, 0, 1, 0, 0, 0, 0, 9, 0, 0, 0];
        let name = b"\x04\x01s\x00\x03\x00\x00\x00a.b\x00\x00\x00\x00\x00";
        let fields = [&name[..], b"\x05\x01u\x00", &word(8).to_le_bytes()].concat();
        reply.extend(u32::try_from(fields.len()).expect("few").to_le_bytes());
        reply.extend(fields);
        stream.write_all(&reply).expect("a client that listens");
        if !is_hello {
            calls.push(message);
        }
    }
}

fn until(stream: &mut UnixStream, line: &mut Vec<u8>, end: &[u8]) {
    while !line.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("more");
        line.extend(byte);
    }
}

fn wish() -> Wish {
    Wish {
        servers: vec![
            "10.0.128.10".parse().expect("an IP"),
            "fd43::a".parse().expect("an IP"),
        ],
        domain: "cluster.local".to_owned(),
    }
}

/// What came of telling, and what the bus heard.
fn told(answer: u8) -> (Result<(), Error>, Vec<Vec<u8>>) {
    let name = format!("knarr-bus-{}-{answer}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let listener = UnixListener::bind(&path).expect("a socket");
    let bus = thread::spawn(move || bus(&listener, answer));
    let outcome = tell(&path, 7, &wish());
    fs::remove_file(&path).expect("the socket's file");
    (outcome, bus.join().expect("a bus"))
}

#[test]
fn resolved_is_told_servers_and_domain_of_our_link_only() {
    let (outcome, calls) = told(2);
    outcome.expect("told");
    let [servers, domains, dnssec, tls, llmnr, mdns] = calls.as_slice() else {
        panic!("{calls:?}")
    };
    let mut expected = vec![7, 0, 0, 0, 40, 0, 0, 0];
    expected.extend([2, 0, 0, 0, 4, 0, 0, 0, 10, 0, 128, 10, 0, 0, 0, 0]);
    expected.extend([10, 0, 0, 0, 16, 0, 0, 0, 0xfd, 0x43]);
    expected.extend([0; 13]);
    expected.push(10);
    assert!(servers.ends_with(&expected), "{servers:?}");
    let mut expected = vec![7, 0, 0, 0, 24, 0, 0, 0, 13, 0, 0, 0];
    expected.extend(b"cluster.local\0\0\0\x01\0\0\0");
    assert!(domains.ends_with(&expected), "{domains:?}");
    for off in [dnssec, tls, llmnr, mdns] {
        assert!(off.ends_with(b"\x07\0\0\0\x02\0\0\0no\0"), "{off:?}");
    }
}

#[test]
fn what_resolved_refuses_is_an_error_with_its_name() {
    let (outcome, calls) = told(3);
    let error = outcome.expect_err("refused").to_string();
    assert_eq!((error.as_str(), calls.len()), ("SetLinkDNS: a.b", 1));
}

const PATIENCE: Duration = Duration::from_secs(20);

/// A bus of the test's own, out of the real daemon.
struct Daemon {
    process: Child,
    dir: std::path::PathBuf,
}

impl Daemon {
    /// Nothing where it is not installed.
    fn start() -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("knarr-dbus-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder");
        let config = dir.join("bus.conf");
        let text = format!(
            "<busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
             <allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow own=\"*\"/><allow user=\"*\"/>\
             </policy></busconfig>",
            dir.join("bus").display(),
        );
        fs::write(&config, text).expect("a file");
        let mut command = Command::new("dbus-daemon");
        command
            .arg("--nofork")
            .arg("--nopidfile")
            .arg("--config-file")
            .arg(config);
        let process = command.stdout(Stdio::null()).spawn().ok()?;
        let daemon = Self { process, dir };
        let began = Instant::now();
        while Connection::open(&daemon.socket()).is_err() {
            assert!(began.elapsed() < PATIENCE, "the bus does not listen");
            thread::yield_now();
        }
        Some(daemon)
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.join("bus")
    }

    /// Takes resolved's name, which is lost with the connection.
    fn resolved(&self) -> Connection {
        let mut connection = Connection::open(&self.socket()).expect("a bus");
        let driver = "org.freedesktop.DBus";
        let mut request = Call::new(driver, "/org/freedesktop/DBus", driver, "RequestName", "su");
        request.body.text(NAME);
        request.body.number(0);
        connection.call(&request).expect("a name");
        connection
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill().expect("our child");
        self.process.wait().expect("our child");
        fs::remove_dir_all(&self.dir).expect("the bus's folder");
    }
}

#[tokio::test]
async fn each_start_of_resolved_is_heard_and_its_end_is_not() {
    let Some(daemon) = Daemon::start() else {
        eprintln!("SKIPPED: dbus-daemon is not installed");
        return;
    };
    let mut ears = Ears::open(&daemon.socket()).await.expect("a bus");
    for start in 0..3 {
        let resolved = daemon.resolved();
        let heard = tokio::time::timeout(PATIENCE, ears.returned()).await;
        heard
            .expect("in time")
            .unwrap_or_else(|error| panic!("start {start}: {error}"));
        drop(resolved);
    }
    // The last end is all that is left to hear, until the bus itself goes.
    let mut other = Ears::open(&daemon.socket()).await.expect("a bus");
    drop(daemon);
    for ears in [&mut ears, &mut other] {
        let gone = tokio::time::timeout(PATIENCE, ears.returned()).await;
        let error = gone.expect("in time").expect_err("the bus is gone");
        assert!(matches!(error, Error::Closed | Error::Talk(_)), "{error}");
    }
}
