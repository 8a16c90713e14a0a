//! What a front adds: `knarr front` against HAProxy and nginx as layer-4 fronts on the same machine, before the same node port.
//!
//! Clients close first and have many addresses: were the server first, its sockets would wait for a minute under ports that
//! masquerading gives anew, and the figure would be how often a client meets one of them and tries again after a second.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};

use crate::{
    Row,
    lab::{
        machine::{Machine, terminate},
        wait,
        world::World,
    },
    sink::{self, visit},
};

const READY_TIME_MAX: Duration = Duration::from_secs(40);
const VIP: &str = "10.77.0.210";
/// Every way in takes its turn this often; figures are medians of the turns.
const TURNS: usize = 7;
const TURN_TIME: Duration = Duration::from_secs(1);
const CLIENTS: usize = 8;
/// Clients take their turns with these: an address has 28,000 ports, and each waits for a minute after its connection.
const CLIENT_ADDRESSES: usize = 32;
const SERVERS: usize = 16;
const REQUEST: &[u8] = b"ping";
const ANSWER: &[u8] = b"pong";
const BULK_BYTES: usize = 1 << 29;
/// The first of the clients' addresses.
const FIRST_CLIENT: usize = 100;
const WEB: Ports = Ports {
    service: 80,
    pod: 9080,
    node: 30080,
    haproxy: 8081,
    nginx: 8082,
};
const BULK: Ports = Ports {
    service: 9000,
    pod: 9000,
    node: 30090,
    haproxy: 9081,
    nginx: 9082,
};

/// Where the peers ask nodes from: the ports of the front's own address are what it hides clients behind.
const HAPROXY_SOURCE: &str = "10.77.0.61";
const NGINX_SOURCE: &str = "10.77.0.62";

/// One port of the Service, as each way in has it.
#[derive(Clone, Copy)]
struct Ports {
    service: u16,
    pod: u16,
    node: u16,
    haproxy: u16,
    nginx: u16,
}

/// A way from the client to the pod; none where the peer is not installed.
struct Ways {
    knarr: SocketAddr,
    node_port: SocketAddr,
    haproxy: Option<SocketAddr>,
    nginx: Option<SocketAddr>,
}

pub(crate) fn measure() -> Vec<Row> {
    let world = world();
    let tools = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".cache/tools/fronts/usr");
    let peers = Peers::start(&world.fronts[0], &world.nodes[0].ip, &tools);
    let web = ways(&world, WEB, &peers);
    let bulk = ways(&world, BULK, &peers);
    serve_in_pod(&world);
    sink::open(&world, "web", BULK.pod);
    for to in web.all().into_iter().flatten() {
        wait::until("every way is open", READY_TIME_MAX, || {
            let answered = world.client.run(move || try_ask(to, None).is_ok());
            if answered {
                Ok(())
            } else {
                Err((to, world.logs()))
            }
        });
    }
    // Until the front is elected the node itself announces, and the change of hands cuts connections.
    wait::until("the front announces", READY_TIME_MAX, || {
        let _any = world
            .client
            .run(|| TcpStream::connect((VIP, WEB.service)).is_ok());
        let neighbour = world.router.sh(&format!("ip neigh show {VIP}"));
        match neighbour.contains(&world.fronts[0].mac()) {
            true => Ok(()),
            false => Err((neighbour, world.logs())),
        }
    });
    let connections = in_turn(&web, |to| connections_a_second(&world, to));
    let throughput = in_turn(&bulk, |to| gigabytes_a_second(&world, to));
    let show = |figure: Option<f64>, unit: &str| match figure {
        Some(figure) if figure < 100.0 => format!("{figure:.2}{unit}"),
        Some(figure) => format!("{figure:.0}{unit}"),
        None => "not installed".to_owned(),
    };
    let row = |what: &str, [knarr, node_port, haproxy, nginx]: [Option<f64>; 4], unit| Row {
        what: what.to_owned(),
        figure: show(knarr, unit),
        floor: format!(
            "HAProxy {}, nginx {}; {}",
            show(haproxy, unit),
            show(nginx, unit),
            show(node_port, unit)
        ),
        floor_is: "the same node port through each on the same machine; straight",
    };
    vec![
        row(
            "new connections a second through a front, one request each",
            connections,
            "",
        ),
        row("bulk throughput through a front", throughput, " GB/s"),
    ]
}

/// One node with the pod, one front, and a Service that both reach.
fn world() -> World {
    let mut world = World::running(1);
    world.add_front();
    world.start_front(0);
    world.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}}, spec: {containers: [{name: c, command: [knarr, echo]}]}}",
    );
    world.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{type: LoadBalancer, loadBalancerIP: {VIP}, externalTrafficPolicy: Local, selector: {{app: web}}, \
         ports: [{{name: web, port: {}, targetPort: {}, nodePort: {}}}, {{name: bulk, port: {}, nodePort: {}}}]}}}}",
        WEB.service, WEB.pod, WEB.node, BULK.service, BULK.node,
    ));
    for last in 0..CLIENT_ADDRESSES {
        world.client.sh(&format!(
            "ip addr add 10.78.0.{}/24 dev eth0",
            FIRST_CLIENT + last
        ));
    }
    world
}

fn ways(world: &World, ports: Ports, peers: &Peers) -> Ways {
    let at = |ip: &str, port: u16| SocketAddr::new(ip.parse().expect("an address"), port);
    let front = &world.fronts[0].ip;
    Ways {
        knarr: at(VIP, ports.service),
        node_port: at(&world.nodes[0].ip, ports.node),
        haproxy: peers.haproxy.as_ref().map(|_| at(front, ports.haproxy)),
        nginx: peers.nginx.as_ref().map(|_| at(front, ports.nginx)),
    }
}

impl Ways {
    fn all(&self) -> [Option<SocketAddr>; 4] {
        [
            Some(self.knarr),
            Some(self.node_port),
            self.haproxy,
            self.nginx,
        ]
    }
}

/// A B C A B C …, so that drift of the machine hits all alike.
fn in_turn(ways: &Ways, measure: impl Fn(SocketAddr) -> f64) -> [Option<f64>; 4] {
    let mut figures: [Vec<f64>; 4] = Default::default();
    for _ in 0..TURNS {
        for (way, figures) in ways.all().into_iter().zip(&mut figures) {
            figures.extend(way.map(&measure));
        }
    }
    figures.map(|mut figures| {
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied()
    })
}

fn connections_a_second(world: &World, to: SocketAddr) -> f64 {
    world.client.run(move || {
        let began = Instant::now();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                std::thread::spawn(move || {
                    let mut count = 0_usize;
                    while began.elapsed() < TURN_TIME {
                        let from = (client + count * CLIENTS) % CLIENT_ADDRESSES;
                        let asked = try_ask(to, Some(from));
                        asked.unwrap_or_else(|error| panic!("{to}: {error}"));
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let counts = clients
            .into_iter()
            .map(|client| client.join().expect("a client"));
        let count: usize = counts.sum();
        count as f64 / began.elapsed().as_secs_f64()
    })
}

/// One connection, one request, to its end, which the client is the first to want.
fn try_ask(to: SocketAddr, from: Option<usize>) -> io::Result<()> {
    let mut stream = connect(to, from)?;
    stream.write_all(REQUEST)?;
    let mut answer = [0; ANSWER.len()];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, ANSWER);
    stream.shutdown(std::net::Shutdown::Write)?;
    match stream.read(&mut answer)? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// From one of the clients' addresses, if it matters.
fn connect(to: SocketAddr, from: Option<usize>) -> io::Result<TcpStream> {
    let (SocketAddr::V4(to), Some(from)) = (to, from) else {
        return TcpStream::connect(to);
    };
    let (flags, last) = (SockFlag::SOCK_CLOEXEC, FIRST_CLIENT + from);
    let last = u8::try_from(last).expect("an address");
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    // The port is chosen when it is known who is at the other end.
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(10, 78, 0, last, 0))?;
    nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrIn::from(to))?;
    Ok(TcpStream::from(socket))
}

/// A server inside the pod's namespace that answers each connection once, for as long as this process runs.
fn serve_in_pod(world: &World) {
    let listener = listen_in_pod(world, WEB.pod);
    for _ in 0..SERVERS {
        let listener = listener.try_clone().expect("a listener");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // Health checks and impatient clients leave without a word.
                let _gone = stream.and_then(|mut stream| answer(&mut stream));
            }
        });
    }
}

/// Waits for the client to close.
fn answer(stream: &mut TcpStream) -> io::Result<usize> {
    let mut request = [0; REQUEST.len()];
    stream.read_exact(&mut request)?;
    stream.write_all(ANSWER)?;
    stream.read(&mut request)
}

fn listen_in_pod(world: &World, port: u16) -> TcpListener {
    let netns = world.pod_netns("web");
    let listening = std::thread::spawn(move || {
        let file = std::fs::File::open(&netns).expect("the pod's namespace");
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("root");
        TcpListener::bind(("0.0.0.0", port)).expect("a port in the pod")
    });
    listening.join().expect("a listener")
}

fn gigabytes_a_second(world: &World, to: SocketAddr) -> f64 {
    let whole = world.client.run(move || visit(to, BULK_BYTES).whole);
    BULK_BYTES as f64 / whole.as_secs_f64() / 1e9
}

/// Other layer-4 fronts on the front's machine, ended with this value.
struct Peers {
    haproxy: Option<Child>,
    nginx: Option<Child>,
}

impl Peers {
    fn start(front: &Machine, node_ip: &str, tools: &Path) -> Self {
        let dir = front.data_dir();
        let libraries = tools.join("lib/x86_64-linux-gnu");
        // What whoever runs a proxy sets, lest it runs out of ports while closed connections wait for a minute.
        let tuned = ["tcp_tw_reuse=1", "ip_local_port_range=1024\t65000"];
        for setting in tuned {
            let (name, value) = setting.split_once('=').expect("a setting");
            let path = format!("/proc/sys/net/ipv4/{name}");
            let write = move || std::fs::write(path, value).expect("root");
            front.netns.run(write);
        }
        for source in [HAPROXY_SOURCE, NGINX_SOURCE] {
            front.netns.sh(&format!("ip addr add {source}/24 dev eth0"));
        }
        let start = |program: &str, config: &str, args: &[&str]| {
            let path = tools.join("sbin").join(program);
            if !path.exists() {
                return None;
            }
            let file = dir.join(program);
            std::fs::write(&file, config).expect("a configuration");
            let mut command = Command::new(path);
            command
                .args(args)
                .arg(&file)
                .env("LD_LIBRARY_PATH", &libraries);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            Some(front.netns.spawn(command))
        };
        Peers {
            haproxy: start("haproxy", &haproxy_config(node_ip), &["-f"]),
            nginx: start(
                "nginx",
                &nginx_config(node_ip, tools, &dir),
                &["-e", "stderr", "-c"],
            ),
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        [&mut self.haproxy, &mut self.nginx]
            .into_iter()
            .flatten()
            .for_each(terminate);
    }
}

fn haproxy_config(node_ip: &str) -> String {
    let listen = |name: &str, ports: Ports| {
        format!(
            "listen {name}\n  bind :{}\n  source {HAPROXY_SOURCE}\n  server node-1 {node_ip}:{}\n",
            ports.haproxy, ports.node
        )
    };
    format!(
        "global\n  maxconn 4096\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n{}{}",
        listen("web", WEB),
        listen("bulk", BULK)
    )
}

fn nginx_config(node_ip: &str, tools: &Path, dir: &Path) -> String {
    let server = |ports: Ports| {
        format!(
            "  server {{ listen {}; proxy_pass {node_ip}:{}; proxy_bind {NGINX_SOURCE}; }}\n",
            ports.nginx, ports.node
        )
    };
    format!(
        "load_module {}/lib/nginx/modules/ngx_stream_module.so;\nuser root;\ndaemon off;\nworker_processes auto;\npid {}/nginx.pid;\n\
         events {{ worker_connections 4096; }}\nstream {{\n{}{}}}\n",
        tools.display(),
        dir.display(),
        server(WEB),
        server(BULK)
    )
}
