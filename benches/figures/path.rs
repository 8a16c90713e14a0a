//! What a Service costs a packet: through its addresses, through one hard-coded rule and straight to the pod, with one
//! Service and with 10,000.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::{
    Row, Samples, crowd,
    lab::{netns::Netns, world::World},
    show,
    sink::{self, Side, visit},
};

const ROUNDS: usize = 3000;
const BULK_BYTES: usize = 1 << 29;
/// Enough of them for a median.
const BULK_ROUNDS: usize = 5;
const SINK_PORT: u16 = 9000;
const NODE_PORTS: [u16; 2] = [30080, 30090];
/// What the hard-coded rules translate: an address that nobody has, and two more node ports.
const BARE_IP: &str = "192.0.2.7";
const BARE_NODE_PORTS: [u16; 2] = [30081, 30091];
const CROWD: usize = 10_000;
const CROWD_ENDPOINTS: usize = 1;

pub(crate) fn measure() -> Vec<Row> {
    let world = World::running(1);
    make_room_for_connections(&world);
    // What a router needs to take the client straight to the pod.
    world.router.sh("ip route add 10.42.0.0/16 via 10.77.0.11");
    world.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}}, spec: {containers: [{name: c, command: [knarr, echo]}]}}",
    );
    world.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{type: LoadBalancer, clusterIP: 10.0.128.78, selector: {{app: web}}, \
         ports: [{{name: web, port: 80, targetPort: 8080, nodePort: {}}}, {{name: sink, port: {SINK_PORT}, nodePort: {}}}]}}}}",
        NODE_PORTS[0], NODE_PORTS[1],
    ));
    world.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=30s"]);
    world.wait_for_answer("10.0.128.78:80");
    sink::open(&world, "web", SINK_PORT);
    let ways = ways(&world);
    translate_barely(&world, &ways[0]);
    let mut rows: Vec<Row> = ways
        .iter()
        .flat_map(|way| way.measure(&world, "1"))
        .collect();
    crowd::fill(&world, CROWD, CROWD_ENDPOINTS);
    rows.extend(ways.iter().flat_map(|way| way.measure(&world, "10,000")));
    rows
}

/// Nobody ends as many connections as this: a port for the next one would be looked for among those of the last minutes.
fn make_room_for_connections(world: &World) {
    let node = &world.nodes[0].netns;
    node.sh("sysctl -q -w net.netfilter.nf_conntrack_tcp_timeout_time_wait=1");
    for netns in [node, &world.client] {
        let range = || std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65000");
        netns.run(range).expect("a setting");
    }
}

/// One way to the pod, and who takes it.
struct Way {
    name: &'static str,
    from: From,
    /// The pod's web server and the sink, through the Service, through one rule, and straight.
    through: [SocketAddr; 2],
    bare: [SocketAddr; 2],
    straight: [SocketAddr; 2],
}

#[derive(Clone, Copy)]
enum From {
    Node,
    Client,
}

fn ways(world: &World) -> [Way; 3] {
    let address =
        |ip: &str, port: u16| -> SocketAddr { format!("{ip}:{port}").parse().expect("an address") };
    let pod_ip = world.kubectl(&["get", "pod/web", "-o", "jsonpath={.status.podIP}"]);
    let path = "jsonpath={.status.loadBalancer.ingress[0].ip}";
    let balancer_ip = world.kubectl(&["get", "service/web", "-o", path]);
    let node_ip = &world.nodes[0].ip;
    let straight = [address(&pod_ip, 8080), address(&pod_ip, SINK_PORT)];
    let way = |name, from, through| Way {
        name,
        from,
        through,
        bare: match from {
            From::Node => [address(BARE_IP, 80), address(BARE_IP, SINK_PORT)],
            From::Client => BARE_NODE_PORTS.map(|port| address(node_ip, port)),
        },
        straight,
    };
    let on = |ip: &str| [address(ip, 80), address(ip, SINK_PORT)];
    [
        way("cluster IP, from the node", From::Node, on("10.0.128.78")),
        way(
            "node port, from a client",
            From::Client,
            NODE_PORTS.map(|port| address(node_ip, port)),
        ),
        way(
            "load-balancer IP, from a client",
            From::Client,
            on(&balancer_ip),
        ),
    ]
}

/// The least that a Service can be: a rule for each of its addresses, and clients hidden behind the node. They come before
/// knarr's chains, which the kernel then passes over.
fn translate_barely(world: &World, way: &Way) {
    let [web, sink] = way.straight;
    let [web_port, sink_port] = BARE_NODE_PORTS;
    let node_ip = &world.nodes[0].ip;
    let pod_ip = web.ip();
    let masquerade =
        format!("ip daddr {pod_ip} ct original ip daddr {node_ip} masquerade fully-random");
    let rules = [
        (
            "prerouting",
            format!("ip daddr {node_ip} tcp dport {web_port} dnat to {web}"),
        ),
        (
            "prerouting",
            format!("ip daddr {node_ip} tcp dport {sink_port} dnat to {sink}"),
        ),
        (
            "output",
            format!("ip daddr {BARE_IP} tcp dport 80 dnat to {web}"),
        ),
        (
            "output",
            format!("ip daddr {BARE_IP} tcp dport {SINK_PORT} dnat to {sink}"),
        ),
        ("postrouting", masquerade),
    ];
    let netns = &world.nodes[0].netns;
    netns.sh("nft add table ip bare");
    for (hook, rule) in rules {
        let priority = if hook == "postrouting" { 90 } else { -110 };
        netns.sh(&format!(
            "nft add chain ip bare {hook} {{ type nat hook {hook} priority {priority} ; }}"
        ));
        netns.sh(&format!("nft add rule ip bare {hook} {rule}"));
    }
}

impl Way {
    fn measure(&self, world: &World, services: &str) -> Vec<Row> {
        let netns = match self.from {
            From::Node => &world.nodes[0].netns,
            From::Client => &world.client,
        };
        let [web, sink] =
            [0, 1].map(|port| [self.through, self.bare, self.straight].map(|to| to[port]));
        let connect = in_turn(netns, ROUNDS, move |way| visit(sink[way], 0).connect);
        let whole = in_turn(netns, ROUNDS, move |way| visit(sink[way], 0).whole);
        let request = requests(netns, web);
        let sent = in_turn(netns, BULK_ROUNDS, move |way| {
            visit(sink[way], BULK_BYTES).whole
        });
        let name = self.name;
        let row = |what: &str, [through, bare, straight]: [Duration; 3]| {
            let ratio = |to: Duration| to.as_secs_f64() / straight.as_secs_f64();
            Row {
                what: format!("{what} through a {name}, of {services}"),
                figure: format!("{} (× {:.3})", show(through), ratio(through)),
                floor: format!("{} (× {:.3}); {}", show(bare), ratio(bare), show(straight)),
                floor_is: "one hard-coded rule; straight to the pod",
            }
        };
        vec![
            row("connect", connect),
            row("connect and close on both sides", whole),
            row("request and response", request),
            row("512 MiB", sent),
        ]
    }
}

/// Medians of A B C B C A …, so that drift of the machine hits all alike, and nobody always comes after the same.
fn in_turn(
    netns: &Netns,
    rounds: usize,
    mut take: impl FnMut(usize) -> Duration + Send + 'static,
) -> [Duration; 3] {
    netns.run(move || {
        let mut times = [const { Vec::new() }; 3];
        sink::on_core(Side::Client, || {
            for turn in 0..rounds * 3 {
                let way = (turn + turn / 3) % 3;
                times[way].push(take(way));
            }
        });
        times.map(|times| Samples::new(times).median())
    })
}

fn requests(netns: &Netns, to: [SocketAddr; 3]) -> [Duration; 3] {
    let mut streams: Option<[TcpStream; 3]> = None;
    in_turn(netns, ROUNDS, move |way| {
        let streams = streams.get_or_insert_with(|| {
            to.map(|to| {
                let stream = TcpStream::connect(to).expect("a connection");
                stream.set_nodelay(true).expect("a TCP socket");
                stream
            })
        });
        request(&mut streams[way])
    })
}

fn request(stream: &mut TcpStream) -> Duration {
    let began = Instant::now();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
        .expect("a request");
    let mut buffer = [0; 4096];
    let length = stream.read(&mut buffer).expect("an answer");
    let elapsed = began.elapsed();
    let answer = &buffer[..length];
    assert!(answer.windows(3).any(|w| w == b"web"), "an odd answer");
    elapsed
}
