//! Cluster DNS beside dnsmasq serving the same names: answers a second from many clients, and the time of one answer.

use std::{
    fmt::Write as _,
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    Row, Samples, crowd,
    lab::{netns::Netns, wait, world::World},
};

const SERVICES: usize = 1_000;
const CLIENTS: usize = 4;
/// Questions of one client that are under way at once.
const WINDOW: usize = 16;
const LOAD_TIME: Duration = Duration::from_secs(3);
/// Turns, so that both servers meet the same machine.
const TURNS: usize = 3;
const QUESTIONS: usize = 5_000;
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
const START_TIME_MAX: Duration = Duration::from_secs(30);
const PEER_PORT: u16 = 5353;

pub(crate) fn measure() -> Vec<Row> {
    let world = World::running(1);
    crowd::fill(&world, SERVICES, 1);
    let node = &world.nodes[0].netns;
    let records = records(&world);
    // The node's own server answers at the first address of its pod CIDR.
    let own: SocketAddr = "10.42.0.1:53".parse().expect("an address");
    let questions: Arc<Vec<Vec<u8>>> =
        Arc::new(records.iter().map(|(name, _)| question(name)).collect());
    until_answered(node, own, &questions);
    let peer = Dnsmasq::serving(&world, &records);
    let mut loads = (Vec::new(), Vec::new());
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        loads.0.push(load(node, own, &questions));
        times.0.extend(one_by_one(node, own, &questions));
        if let Some(peer) = &peer {
            until_answered(node, peer.address, &questions);
            loads.1.push(load(node, peer.address, &questions));
            times.1.extend(one_by_one(node, peer.address, &questions));
        }
    }
    let a_second = |mut loads: Vec<usize>| {
        loads.sort_unstable();
        let median = loads.get(loads.len() / 2);
        median.map_or_else(|| "not installed".to_owned(), |load| load.to_string())
    };
    let spread = |times: Vec<Duration>| match times.is_empty() {
        true => "not installed".to_owned(),
        false => Samples::new(times).show(),
    };
    let peer_is = "dnsmasq serving the same names";
    vec![
        Row {
            what: format!("DNS answers a second, {SERVICES} Services, {CLIENTS} clients"),
            figure: a_second(loads.0),
            floor: a_second(loads.1),
            floor_is: peer_is,
        },
        Row {
            what: "one DNS answer, p50 / p99".to_owned(),
            figure: spread(times.0),
            floor: spread(times.1),
            floor_is: peer_is,
        },
    ]
}

/// The name and address of every Service that was made.
fn records(world: &World) -> Vec<(String, String)> {
    let listed = world.get(crowd::SERVICES);
    let items = listed["items"].as_array().expect("a list");
    let record = |service: &serde_json::Value| {
        let name = service["metadata"]["name"].as_str()?;
        let ip = service["spec"]["clusterIP"].as_str()?;
        Some((format!("{name}.default.svc.cluster.local"), ip.to_owned()))
    };
    items.iter().filter_map(record).collect()
}

/// A question for an A record, but for its id.
fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("a label"));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// A peer, for as long as it is measured.
struct Dnsmasq {
    process: Child,
    address: SocketAddr,
}

impl Dnsmasq {
    /// Nothing where it is not installed.
    fn serving(world: &World, records: &[(String, String)]) -> Option<Self> {
        let binary = binary()?;
        let hosts = std::env::temp_dir().join(format!("knarr-bench-hosts-{}", std::process::id()));
        let mut text = String::new();
        for (name, ip) in records {
            let _ = writeln!(text, "{ip} {name}");
        }
        std::fs::write(&hosts, text).expect("a hosts file");
        let mut command = Command::new(binary);
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
        ]);
        command.args([
            "--user=root",
            "--pid-file",
            "--bind-interfaces",
            "--local-ttl=5",
        ]);
        command.arg(format!("--addn-hosts={}", hosts.display()));
        command.args([
            format!("--port={PEER_PORT}"),
            "--listen-address=10.77.0.11".to_owned(),
        ]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = world.nodes[0].netns.spawn(command);
        let address = SocketAddr::from(([10, 77, 0, 11], PEER_PORT));
        Some(Self { process, address })
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _reaped = self.process.wait();
        let hosts = std::env::temp_dir().join(format!("knarr-bench-hosts-{}", std::process::id()));
        let _written_by_us = std::fs::remove_file(hosts);
    }
}

/// Debian's, installed or unpacked beside the other tools.
fn binary() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let unpacked = folders.iter().map(|folder| folder.join("dnsmasq/usr/sbin"));
    let unpacked: Vec<PathBuf> = unpacked.collect();
    folders.extend(unpacked);
    folders.push("/usr/sbin".into());
    folders
        .into_iter()
        .map(|folder| folder.join("dnsmasq"))
        .find(|file| file.is_file())
}

fn socket(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect(to).expect("an address");
    socket
        .set_read_timeout(Some(ANSWER_TIME_MAX))
        .expect("a timeout");
    socket
}

fn until_answered(netns: &Netns, to: SocketAddr, questions: &Arc<Vec<Vec<u8>>>) {
    wait::until("every name is answered", START_TIME_MAX, || {
        let questions = questions.clone();
        netns.run(move || {
            let socket = socket(to);
            let good = |bytes: &Vec<u8>| ask(&socket, bytes, 7).is_ok_and(|count| count == 1);
            let answered = questions.iter().filter(|bytes| good(bytes)).count();
            if answered == questions.len() {
                Ok(())
            } else {
                Err(answered)
            }
        })
    });
}

/// Asks once; gives how many records answered.
fn ask(socket: &UdpSocket, question: &[u8], id: u16) -> std::io::Result<u16> {
    let mut bytes = question.to_vec();
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    socket.send(&bytes)?;
    let mut buffer = [0; 1500];
    loop {
        let length = socket.recv(&mut buffer)?;
        if length > 12 && buffer[..2] == id.to_be_bytes() {
            return Ok(u16::from_be_bytes([buffer[6], buffer[7]]));
        }
    }
}

fn one_by_one(netns: &Netns, to: SocketAddr, questions: &Arc<Vec<Vec<u8>>>) -> Vec<Duration> {
    let questions = questions.clone();
    netns.run(move || {
        let socket = socket(to);
        let numbers = 0..QUESTIONS;
        let times = numbers.map(|number| {
            let start = Instant::now();
            let id = u16::try_from(number % 60_000).expect("an id");
            let records =
                ask(&socket, &questions[number % questions.len()], id).expect("an answer");
            assert_eq!(records, 1, "an answer without record");
            start.elapsed()
        });
        times.collect()
    })
}

/// Answers a second that several clients get when each keeps a window of questions under way.
fn load(netns: &Netns, to: SocketAddr, questions: &Arc<Vec<Vec<u8>>>) -> usize {
    let questions = questions.clone();
    netns.run(move || {
        let (stop, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
        let start = Instant::now();
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (stop, answers, questions) = (&stop, &answers, &questions);
                scope.spawn(move || flood(&socket(to), questions, client, stop, answers));
            }
            std::thread::sleep(LOAD_TIME);
            stop.store(true, Ordering::Relaxed);
        });
        let seconds = start.elapsed().as_secs_f64();
        (answers.load(Ordering::Relaxed) as f64 / seconds) as usize
    })
}

fn flood(
    socket: &UdpSocket,
    questions: &[Vec<u8>],
    client: usize,
    stop: &AtomicBool,
    answers: &AtomicUsize,
) {
    let mut next = client * questions.len() / CLIENTS;
    let mut send = || {
        let _full_queues_lose_questions = socket.send(&questions[next % questions.len()]);
        next += 1;
    };
    (0..WINDOW).for_each(|_| send());
    let mut buffer = [0; 1500];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv(&mut buffer) {
            Ok(_) => {
                answers.fetch_add(1, Ordering::Relaxed);
                send();
            }
            // The whole window was lost.
            Err(_) => (0..WINDOW).for_each(|_| send()),
        }
    }
}
