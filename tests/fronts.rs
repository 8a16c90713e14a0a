//! `knarr front` in the lab: client, router, one or two fronts and the nodes they spread connections over.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::lab::{
    family::{Family, Stack},
    netns::Netns,
    outage::Asking,
    probe::{self, Outcome, Protocol},
    wait,
    world::World,
};

const READY_TIME_MAX: Duration = Duration::from_secs(40);
/// What is promised.
const TAKEOVER_TIME_MAX: Duration = Duration::from_secs(2);
const VIP: &str = "10.77.0.210";
const TRIES: usize = 24;

/// Two nodes with a pod each, behind a Service of this policy, and fronts that have joined.
fn world(stack: Stack, policy: &str, front_count: usize) -> World {
    let mut world = World::running_with(stack, 2);
    for index in 0..front_count {
        world.add_front();
        world.start_front(index);
    }
    world.post(
        "/api/v1/namespaces/default/services",
        &json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
            "spec": {
                "type": "LoadBalancer", "loadBalancerIP": VIP, "selector": { "app": "web" },
                "externalTrafficPolicy": policy, "ipFamilyPolicy": "PreferDualStack",
                "ports": [{ "port": 80, "targetPort": 8080 }],
            },
        }),
    );
    for number in 1..=2 {
        world.post("/api/v1/namespaces/default/pods", &pod(number));
    }
    world
}

fn pod(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("web-{number}"), "labels": { "app": "web" } },
        "spec": {
            "nodeName": format!("node-{number}"),
            "containers": [{ "name": "echo", "command": ["knarr", "echo"], "readinessProbe": { "tcpSocket": { "port": 8080 } } }],
        },
    })
}

fn vip() -> SocketAddr {
    format!("{VIP}:80").parse().expect("an address")
}

/// Who answers the client, over many tries, and what address they see.
fn met(client: &Netns, to: SocketAddr) -> Result<Vec<(String, String)>, Outcome> {
    let mut met = Vec::new();
    for _ in 0..TRIES {
        match client.run(move || probe::ask(Protocol::Tcp, to)) {
            Outcome::Answered { by, seen_as } => met.push((by, seen_as)),
            other => return Err(other),
        }
    }
    met.sort();
    met.dedup();
    Ok(met)
}

/// Waits until exactly these pods answer, all seeing this address.
fn answered(world: &World, to: SocketAddr, by: &[&str], seen_as: &str) {
    let wanted: Vec<_> = by
        .iter()
        .map(|pod| ((*pod).to_owned(), seen_as.to_owned()))
        .collect();
    wait::until("the front's connections", READY_TIME_MAX, || {
        match met(&world.client, to) {
            Ok(met) if met == wanted => Ok(()),
            other => Err((other, world.logs())),
        }
    });
}

fn events(world: &World, reason: &str) -> usize {
    let events = world.get("/api/v1/namespaces/default/events");
    let events = events["items"].as_array().cloned().unwrap_or_default();
    events
        .iter()
        .filter(|event| event["reason"] == reason)
        .count()
}

/// The index of the front that neighbours reach an address at.
fn announcer(world: &World, ip: &str) -> Option<usize> {
    let neighbour = world.router.sh(&format!("ip neigh show {ip}"));
    world
        .fronts
        .iter()
        .position(|front| neighbour.contains(&front.mac()))
}

fn wait_for_announcer(world: &World) -> usize {
    wait::until("a front announces", READY_TIME_MAX, || {
        let _any = world.client.run(|| probe::ask(Protocol::Tcp, vip()));
        announcer(world, VIP).ok_or_else(|| world.logs())
    })
}

#[test]
fn a_front_spreads_connections_and_leaves_foreign_tables_alone() {
    let mut world = world(Stack::Dual, "Local", 0);
    world.add_front();
    let foreign = "add table ip foreign { chain c { type filter hook forward priority 0; policy accept; ct state new counter; }; }";
    let netns = &world.fronts[0].netns;
    netns.sh(&format!("nft {foreign}"));
    let rules = |world: &World| world.fronts[0].netns.sh("nft -s list table ip foreign");
    let before = rules(&world);
    world.start_front(0);
    wait_for_announcer(&world);
    // The nodes' way to the client is the router, so the front masquerades and says so.
    answered(&world, vip(), &["web-1", "web-2"], &world.fronts[0].ip);
    // Another one follows when more nodes turn healthy.
    wait::until("an Event says so", READY_TIME_MAX, || {
        match events(&world, "ClientAddressHidden") {
            0 => Err(world.logs()),
            _ => Ok(()),
        }
    });
    let service = world.get("/api/v1/namespaces/default/services/web");
    let ingress = service["status"]["loadBalancer"]["ingress"]
        .as_array()
        .cloned();
    let v6 = ingress.unwrap_or_default().into_iter().find_map(|ingress| {
        let ip: std::net::IpAddr = ingress["ip"].as_str()?.parse().ok()?;
        ip.is_ipv6().then_some(SocketAddr::new(ip, 80))
    });
    let v6 = v6.expect("an IPv6 address");
    answered(
        &world,
        v6,
        &["web-1", "web-2"],
        &world.fronts[0].ip_in(Family::V6),
    );
    // What no port of the Service is, the front neither answers nor passes on.
    let other = SocketAddr::new(vip().ip(), 81);
    assert_eq!(
        world.client.run(move || probe::ask(Protocol::Tcp, other)),
        Outcome::Dropped
    );
    world.fronts[0].stop(Signal::SIGTERM);
    world.fronts[0].knarr(&["down"]);
    assert_eq!(rules(&world), before);
    let left = world.fronts[0].netns.sh("nft list tables");
    assert_eq!(left.trim(), "table ip foreign");
    let links = world.fronts[0].netns.sh("ip -o link show");
    assert!(!links.contains("knarr"), "{links}");
}

#[test]
fn clients_keep_their_address_where_replies_return_through_the_front() {
    let mut world = world(Stack::V4, "Local", 0);
    world.add_front();
    for node in &world.nodes {
        node.netns.sh(&format!(
            "ip route replace default via {}",
            world.fronts[0].ip
        ));
    }
    world.start_front(0);
    // Before the front is elected a node announces, which keeps the client's address as well.
    wait_for_announcer(&world);
    answered(&world, vip(), &["web-1", "web-2"], "10.78.0.2");
    assert_eq!(events(&world, "ClientAddressHidden"), 0);
    // A machine on the nodes' own link is answered without the front, so the front has to hide it.
    let near = met(&world.router, vip()).expect("answers");
    let seen: Vec<&str> = near.iter().map(|(_, seen_as)| seen_as.as_str()).collect();
    assert_eq!(seen, [&world.fronts[0].ip, &world.fronts[0].ip]);
}

/// A connection that stays open between questions.
struct Open(TcpStream);

impl Open {
    fn to(client: &Netns, to: SocketAddr) -> Self {
        let stream = client.run(move || TcpStream::connect(to).expect("a connection"));
        let patience = Some(Duration::from_secs(10));
        stream.set_read_timeout(patience).expect("a socket");
        Open(stream)
    }

    /// Who answers on it.
    fn ask(&mut self) -> String {
        let request = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n";
        self.0.write_all(request).expect("the connection is open");
        let mut buffer = [0; 1024];
        let length = self.0.read(&mut buffer).expect("an answer");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let by = text
            .split_once("You've hit ")
            .expect("an answer of the pod")
            .1;
        by.trim().to_owned()
    }
}

#[test]
fn a_drained_node_keeps_the_connections_it_has() {
    let world = world(Stack::V4, "Local", 1);
    answered(&world, vip(), &["web-1", "web-2"], &world.fronts[0].ip);
    let mut open = std::iter::repeat_with(|| Open::to(&world.client, vip()))
        .take(TRIES)
        .find_map(|mut open| (open.ask() == "web-2").then_some(open))
        .expect("some connection goes to node-2");
    world.kubectl(&["cordon", "node-2"]);
    answered(&world, vip(), &["web-1"], &world.fronts[0].ip);
    assert_eq!(open.ask(), "web-2");
    world.kubectl(&["uncordon", "node-2"]);
    answered(&world, vip(), &["web-1", "web-2"], &world.fronts[0].ip);
    let label = "node.kubernetes.io/exclude-from-external-load-balancers=";
    world.kubectl(&["label", "node", "node-2", label]);
    answered(&world, vip(), &["web-1"], &world.fronts[0].ip);
    assert_eq!(open.ask(), "web-2");
}

#[test]
fn a_dead_node_gets_no_more_connections() {
    let world = world(Stack::V4, "Local", 1);
    answered(&world, vip(), &["web-1", "web-2"], &world.fronts[0].ip);
    let asking = Asking::start(&world.client.path(), vip());
    let since = Instant::now();
    world.router.sh("ip link set to-node-2 down");
    answered(&world, vip(), &["web-1"], &world.fronts[0].ip);
    asking.assert_gap_below(TAKEOVER_TIME_MAX, &world, since);
}

#[test]
fn another_front_takes_over_when_one_is_killed() {
    let mut world = world(Stack::V4, "Cluster", 2);
    let first = wait_for_announcer(&world);
    let asking = Asking::start(&world.client.path(), vip());
    asking.wait_for_answer(&world, Instant::now());
    let since = Instant::now();
    world.fronts[first].stop(Signal::SIGKILL);
    world
        .router
        .sh(&format!("ip link set to-front-{} down", first + 1));
    wait::until("the other front announces", READY_TIME_MAX, || {
        let now = announcer(&world, VIP);
        if now == Some(1 - first) {
            Ok(())
        } else {
            Err((now, world.logs()))
        }
    });
    asking.wait_for_answer(&world, Instant::now());
    asking.assert_gap_below(TAKEOVER_TIME_MAX, &world, since);
}

/// Asks the link anew who has the address, so many times.
fn announcers(world: &World, count: usize) -> Vec<Option<usize>> {
    let ask = |_| {
        world.router.sh("ip neigh flush dev lan");
        let _any = world.client.run(|| probe::ask(Protocol::Tcp, vip()));
        announcer(world, VIP)
    };
    (0..count).map(ask).collect()
}

/// Takes the API from whose machine it is loaded on.
const CUT: &str = "add table inet cut; add chain inet cut gate { type filter hook output priority 0; }; \
                   add rule inet cut gate tcp dport 6443 drop";

fn wait_until_it_yields(world: &World, front: usize) {
    wait::until("the first front yields", READY_TIME_MAX, || {
        let log = world.fronts[front].log();
        match log.contains("it yields") {
            true => Ok(()),
            false => Err(world.logs()),
        }
    });
}

#[test]
fn a_front_that_is_cut_off_asks_the_link_when_announcements_are_lost() {
    let world = world(Stack::V4, "Cluster", 2);
    let first = wait_for_announcer(&world);
    // Requests for one's own address: no front hears what another announces.
    let lost = format!(
        "add table bridge lost; add chain bridge lost c {{ type filter hook forward priority 0; }}; \
         add rule bridge lost c arp operation request arp saddr ip {VIP} counter drop"
    );
    world.router.sh(&format!("nft {lost}"));
    world.fronts[first].netns.sh(&format!("nft {CUT}"));
    wait_until_it_yields(&world, first);
    let lost = world.router.sh("nft list table bridge lost");
    assert!(!lost.contains("packets 0"), "{lost}");
    assert_eq!(announcers(&world, TRIES), [Some(1 - first); TRIES]);
}

#[test]
fn a_front_that_is_cut_off_from_the_api_yields_to_one_that_is_not() {
    let world = world(Stack::Dual, "Cluster", 2);
    let first = wait_for_announcer(&world);
    let asking = Asking::start(&world.client.path(), vip());
    asking.wait_for_answer(&world, Instant::now());
    let since = Instant::now();
    world.fronts[first].netns.sh(&format!("nft {CUT}"));
    wait_until_it_yields(&world, first);
    assert_eq!(announcers(&world, TRIES), [Some(1 - first); TRIES]);
    asking.assert_gap_below(TAKEOVER_TIME_MAX, &world, since);
    // Back in touch, it hears that the Lease is the other's.
    world.fronts[first].netns.sh("nft delete table inet cut");
    world.fronts[1 - first].netns.sh(&format!("nft {CUT}"));
    wait::until(
        "the first front announces again",
        READY_TIME_MAX,
        || match announcers(&world, 1) == [Some(first)] {
            true => Ok(()),
            false => Err(world.logs()),
        },
    );
}

#[test]
fn the_front_that_announces_goes_on_when_nobody_reaches_the_api() {
    let mut world = world(Stack::V4, "Local", 2);
    let first = wait_for_announcer(&world);
    answered(&world, vip(), &["web-1", "web-2"], &world.fronts[first].ip);
    world.nodes[0].stop(Signal::SIGKILL);
    let since = Instant::now();
    // Longer than a Lease is good for.
    while since.elapsed() < Duration::from_secs(4) {
        assert_eq!(announcers(&world, 1), [Some(first)], "{}", world.logs());
    }
}

#[test]
fn the_kernel_forwards_with_the_front_killed_and_the_next_front_adopts() {
    let mut world = world(Stack::V4, "Local", 1);
    let front = world.fronts[0].ip.clone();
    answered(&world, vip(), &["web-1", "web-2"], &front);
    let mut open = Open::to(&world.client, vip());
    let by = open.ask();
    world.fronts[0].stop(Signal::SIGKILL);
    let met = met(&world.client, vip()).expect("answers without any process");
    assert_eq!(met.len(), 2, "{met:?}");
    let rules = world.fronts[0].netns.sh("nft -s list table ip knarr");
    world.start_front(0);
    answered(&world, vip(), &["web-1", "web-2"], &front);
    assert_eq!(open.ask(), by);
    assert_eq!(
        world.fronts[0].netns.sh("nft -s list table ip knarr"),
        rules
    );
}
