//! Node ports on 127.0.0.1 and ::1: they answer the node's own processes, and open nothing to anybody else (CVE-2020-8558).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::lab::{
    family::{Family, Stack},
    machine::Layout,
    netns::Netns,
    probe::{self, Outcome, Protocol},
    wait,
    world::World,
};

const READY_TIME_MAX: Duration = Duration::from_secs(30);
/// Long enough for a packet to cross a cable many times.
const ATTACK_TIME_MAX: Duration = Duration::from_millis(1500);
const NODE_PORT: u16 = 30070;
/// Something private that the node's owner runs on 127.0.0.1 and ::1.
const PRIVATE_PORT: u16 = 9999;

const OBJECTS: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: web-1, labels: { app: web } }
spec:
  terminationGracePeriodSeconds: 1
  containers: [{ name: echo, command: [knarr, echo] }]
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  selector: { app: web }
  ports:
  - { name: tcp, port: 80, targetPort: 8080, nodePort: 30070 }
  - { name: udp, port: 80, targetPort: 8080, nodePort: 30070, protocol: UDP }
"#;

fn localhost(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Waits until `by` answers, or everybody is refused, by each protocol on the node's own localhost in each family.
fn everywhere(world: &World, what: &str, by: Option<&str>) {
    let node = &world.nodes[0];
    for family in [Family::V4, Family::V6] {
        let to = SocketAddr::new(localhost(family), NODE_PORT);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            wait::until(
                &format!("{what}: {protocol:?} {to}"),
                READY_TIME_MAX,
                || match (node.netns.run(move || probe::ask(protocol, to)), by) {
                    (Outcome::Answered { by: found, .. }, Some(by)) if found == by => Ok(()),
                    (Outcome::Rejected, None) => Ok(()),
                    (other, _) => Err((other, world.logs())),
                },
            );
        }
    }
}

#[test]
fn node_ports_answer_on_localhost_while_anybody_is_behind_them() {
    let world = World::running_with(Stack::Dual, 1);
    world.apply(OBJECTS);
    everywhere(&world, "a pod is ready", Some("web-1"));

    let pod = "/api/v1/namespaces/default/pods/web-1";
    world.merge(
        pod,
        &json!({ "metadata": { "labels": { "app": "other" } } }),
    );
    everywhere(&world, "nobody is behind it", None);

    world.merge(pod, &json!({ "metadata": { "labels": { "app": "web" } } }));
    everywhere(&world, "somebody is back", Some("web-1"));

    world.delete("/api/v1/namespaces/default/services/web");
    everywhere(&world, "the Service is gone", None);
}

#[test]
fn a_port_that_a_process_has_on_localhost_stays_its_own() {
    let world = World::running(1);
    let node = &world.nodes[0];
    let held = SocketAddr::new(localhost(Family::V4), NODE_PORT);
    let theirs = node
        .netns
        .run(move || TcpListener::bind(held).expect("the port is free"));
    world.apply(&OBJECTS.replace("RequireDualStack", "SingleStack"));
    let on_node = SocketAddr::new(node.ip.parse().expect("an address"), NODE_PORT);
    world.wait_for_answer(&on_node.to_string());
    wait::until("the log says so", READY_TIME_MAX, || {
        let log = node.log();
        if log.contains("node port 127.0.0.1:30070/tcp is not served") {
            Ok(())
        } else {
            Err(log)
        }
    });
    node.netns
        .run(move || drop(TcpStream::connect(held).expect("the process listens")));
    theirs.set_nonblocking(true).expect("a listener");
    theirs.accept().expect("the connection came to the process");

    drop(theirs);
    world.wait_for_answer(&held.to_string());
}

#[test]
fn node_ports_are_on_the_addresses_that_the_flag_names() {
    let mut world = World::with(Layout::OneLink, Stack::Dual, 1);
    let families = [Family::V4, Family::V6];
    let own = families.map(|family| world.nodes[0].ip_in(family));
    let other = families.map(|family| family.text("10.77.0.111"));
    for (family, ip) in families.iter().zip(&other) {
        let length = if *family == Family::V4 { 24 } else { 128 };
        let line = format!("{} addr add {ip}/{length} dev eth0", family.ip());
        world.nodes[0].netns.sh(&line);
    }
    for (flag, others, on_localhost) in [
        ("primary", false, false),
        ("primary,localhost", false, true),
        ("10.77.0.0/24,fd64::/96", true, false),
        ("0.0.0.0/0,::/0", true, false),
    ] {
        let ranges = ["up", "--service-cidr", "10.0.128.0/17,fd64::10.0.128.0/113"];
        let node_ip = own.join(",");
        let flags = ["--node-ip", &node_ip, "--node-port-addresses", flag];
        world.nodes[0].start(&[&ranges[..], &flags].concat());
        world.wait_for_api();
        world.wait_for_nodes();
        world.apply(OBJECTS);
        for (index, family) in families.into_iter().enumerate() {
            let node = world.nodes[0].netns.path();
            let client = world.client.path();
            for (from, ip, answered) in [
                (&client, &own[index], true),
                (&node, &own[index], true),
                (&client, &other[index], others),
                (&node, &localhost(family).to_string(), on_localhost),
            ] {
                let to = SocketAddr::new(ip.parse().expect("an address"), NODE_PORT);
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let what = format!("{flag}: {protocol:?} {to}");
                    wait::until(&what, READY_TIME_MAX, || {
                        match (probe::ask_from(from, protocol, to), answered) {
                            (Outcome::Answered { .. }, true) | (Outcome::Rejected, false) => Ok(()),
                            (found, _) => Err((found, world.logs())),
                        }
                    });
                }
            }
        }
        world.nodes[0].stop(Signal::SIGTERM);
    }
}

/// Sends the neighbour's packets for localhost out to the node, which a host never does by itself.
fn turn_localhost_towards(neighbour: &Netns, node: &str, family: Family) {
    match family {
        Family::V4 => {
            neighbour.sh("sysctl -qw net.ipv4.conf.all.route_localnet=1");
            neighbour.sh("ip addr del 127.0.0.1/8 dev lo");
            neighbour.sh(&format!("ip route add 127.0.0.1/32 via {node}"));
        }
        Family::V6 => {
            neighbour.sh("ip addr del ::1/128 dev lo");
            neighbour.sh(&format!("ip -6 route add ::1/128 via {node}"));
        }
    }
}

/// Counts what arrives for localhost from the cable, before the kernel judges it.
fn count_arrivals(node: &Netns) {
    node.sh("nft add table netdev lab");
    node.sh(
        "nft add chain netdev lab arrivals { type filter hook ingress device eth0 priority 0 ; }",
    );
    node.sh("nft add rule netdev lab arrivals ip daddr 127.0.0.1 counter");
    node.sh("nft add rule netdev lab arrivals ip6 daddr ::1 counter");
}

/// Packets for localhost that arrived so far, of IPv4 and of IPv6.
fn arrivals(node: &Netns) -> [u64; 2] {
    let listed = node.sh("nft list chain netdev lab arrivals");
    let mut counts = listed.lines().filter_map(|line| {
        let (_, count) = line.split_once("counter packets ")?;
        count.split_whitespace().next()?.parse().ok()
    });
    [(); 2].map(|()| counts.next().expect("two counters"))
}

fn connects(from: &Netns, to: SocketAddr) -> bool {
    from.run(move || TcpStream::connect_timeout(&to, ATTACK_TIME_MAX).is_ok())
}

#[test]
fn a_neighbour_on_the_link_cannot_reach_localhost() {
    let world = World::running_with(Stack::Dual, 1);
    let node = &world.nodes[0];
    world.apply(OBJECTS);
    everywhere(&world, "a pod is ready", Some("web-1"));
    let _private = [Family::V4, Family::V6].map(|family| {
        let address = SocketAddr::new(localhost(family), PRIVATE_PORT);
        node.netns
            .run(move || TcpListener::bind(address).expect("the port is free"))
    });
    count_arrivals(&node.netns);
    let neighbour = &world.router;
    for (index, family) in [Family::V4, Family::V6].into_iter().enumerate() {
        turn_localhost_towards(neighbour, &node.ip_in(family), family);
        for port in [PRIVATE_PORT, NODE_PORT] {
            let to = SocketAddr::new(localhost(family), port);
            let before = arrivals(&node.netns)[index];
            assert!(!connects(neighbour, to), "a neighbour reached {to}");
            let udp = neighbour.run(move || probe::ask(Protocol::Udp, to));
            assert_eq!(udp, Outcome::Dropped, "{to}");
            let arrived = arrivals(&node.netns)[index] - before;
            assert!(arrived >= 2, "{arrived} packets for {to} arrived");
        }
    }
    // The same packets do come through where a host was opened for them.
    let to = SocketAddr::new(localhost(Family::V4), PRIVATE_PORT);
    node.netns
        .sh("sysctl -qw net.ipv4.conf.eth0.route_localnet=1");
    assert!(connects(neighbour, to), "the attack is no attack");
}

#[test]
fn a_pod_cannot_reach_localhost_of_its_node() {
    let world = World::running(1);
    let node = &world.nodes[0];
    world.apply(&OBJECTS.replace("RequireDualStack", "SingleStack"));
    let to = SocketAddr::new(localhost(Family::V4), NODE_PORT);
    world.wait_for_answer(&to.to_string());
    let pod = world.pod_netns("web-1");
    for line in [
        "sysctl -qw net.ipv4.conf.all.route_localnet=1",
        "ip addr del 127.0.0.1/8 dev lo",
        "ip route add 127.0.0.1/32 via 169.254.1.1 dev eth0",
    ] {
        node.netns.output(inside(&pod, line));
    }
    for port in [NODE_PORT, 10_249] {
        let to = SocketAddr::new(to.ip(), port);
        assert_eq!(
            probe::ask_from(&pod, Protocol::Tcp, to),
            Outcome::Dropped,
            "{to}"
        );
    }
    let opened = node.netns.sh("sysctl -a -r route_localnet");
    assert!(!opened.contains("= 1"), "{opened}");
}

/// A command line in the network namespace that a file names.
fn inside(netns: &Path, line: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", netns.display()));
    command.args(line.split_whitespace());
    command
}
