//! Clusters of both families and of IPv6 alone, as kubectl and pods see them: addresses, names, the API, the host's own network.

use std::{
    net::{Ipv6Addr, UdpSocket},
    os::fd::AsFd,
    time::Duration,
};

use nix::sys::{
    signal::Signal,
    socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt},
};
use serde_json::Value;

use crate::lab::{family::Stack, machine::Layout, netns::Netns, wait, world::World};

const WAIT_MAX: Duration = Duration::from_secs(30);

const OBJECTS: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: db-0, labels: { app: db } }
spec:
  hostname: db-0
  subdomain: db
  terminationGracePeriodSeconds: 1
  containers: [{ name: echo, command: [knarr, echo] }]
---
apiVersion: v1
kind: Service
metadata: { name: db }
spec: { clusterIP: None, ipFamilyPolicy: PreferDualStack, selector: { app: db }, ports: [{ port: 8080 }] }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { ipFamilyPolicy: PreferDualStack, selector: { app: db }, ports: [{ port: 80, targetPort: 8080 }] }
---
apiVersion: v1
kind: Service
metadata: { name: single }
spec: { selector: { app: db }, ports: [{ port: 80, targetPort: 8080 }] }
"#;

fn world(stack: Stack) -> World {
    let world = World::running_with(stack, 1);
    world.apply(OBJECTS);
    world.kubectl(&["wait", "--for=condition=Ready", "pod/db-0", "--timeout=30s"]);
    world
}

fn texts(list: &Value, field: &str) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    let texts = items.filter_map(|item| {
        let item = if field.is_empty() { item } else { &item[field] };
        item.as_str().map(str::to_owned)
    });
    texts.collect()
}

/// `4` and `6` for the families of addresses or ranges, in their order.
fn families(addresses: &[String]) -> String {
    let family = |address: &String| if address.contains(':') { '6' } else { '4' };
    addresses.iter().map(family).collect()
}

#[test]
fn objects_have_addresses_in_the_families_of_the_cluster() {
    for (stack, all) in [(Stack::Dual, "46"), (Stack::V6, "6")] {
        let world = world(stack);
        let first = &all[..1];
        let pod = world.get("/api/v1/namespaces/default/pods/db-0");
        let node = world.get("/api/v1/nodes/node-1");
        let service = |name: &str| {
            let object = world.get(&format!("/api/v1/namespaces/default/services/{name}"));
            families(&texts(&object["spec"]["clusterIPs"], ""))
        };
        let mut internal = texts(&node["status"]["addresses"], "address");
        internal.retain(|address| address != "node-1");
        let found = [
            families(&texts(&pod["status"]["podIPs"], "ip")),
            families(&texts(&pod["status"]["hostIPs"], "ip")),
            families(&texts(&node["spec"]["podCIDRs"], "")),
            families(&internal),
            service("web"),
            service("single"),
            service("kubernetes"),
        ];
        assert_eq!(found, [all, all, all, all, all, first, first], "{stack:?}");
        let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name%3Dweb";
        let mut slices = wait::until("slices of every family", WAIT_MAX, || {
            let slices = texts(&world.get(path)["items"], "addressType");
            if slices.len() == all.len() {
                Ok(slices)
            } else {
                Err(slices)
            }
        });
        slices.sort();
        let expected = all.chars().map(|family| format!("IPv{family}"));
        assert_eq!(slices, expected.collect::<Vec<_>>());
    }
}

#[test]
fn names_have_addresses_of_every_family() {
    let world = world(Stack::Dual);
    let lookup = |database: &str, name: &str| {
        let found = world.kubectl(&["exec", "db-0", "--", "getent", database, name]);
        found
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let ips = |path: &str| -> Vec<String> {
        let jsonpath = format!("jsonpath={path}");
        let found = world.kubectl(&["get", "pod/db-0", "svc/web", "-o", &jsonpath]);
        found.split_whitespace().map(str::to_owned).collect()
    };
    let pod = ips("{.items[0].status.podIPs[*].ip}");
    let web = ips("{.items[1].spec.clusterIPs[*]}");
    for (name, own) in [("web", &web), ("db", &pod), ("db-0.db", &pod)] {
        assert_eq!(lookup("ahostsv4", name), own[0], "{name}");
        assert_eq!(lookup("ahostsv6", name), own[1], "{name}");
    }
    for address in &web {
        let found = world.kubectl(&["exec", "db-0", "--", "getent", "hosts", address]);
        assert!(
            found.contains("web.default.svc.cluster.local"),
            "{address}: {found}"
        );
    }
    let resolver = world.kubectl(&["exec", "db-0", "--", "cat", "/etc/resolv.conf"]);
    let servers: Vec<&str> = resolver
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver "))
        .collect();
    assert_eq!(servers, ["10.0.128.10", "fd64::a00:800a"]);
}

#[test]
fn pods_of_a_cluster_without_ipv4_find_the_api_and_each_other() {
    let world = world(Stack::V6);
    let secrets = "/var/run/secrets/kubernetes.io/serviceaccount";
    for url in [
        "https://kubernetes.default/version",
        "https://[$KUBERNETES_SERVICE_HOST]:$KUBERNETES_SERVICE_PORT/version",
    ] {
        let command = format!("curl -sS --max-time 5 --cacert {secrets}/ca.crt {url}");
        let answer = world.kubectl(&["exec", "db-0", "--", "sh", "-c", &command]);
        assert!(answer.contains("gitVersion"), "{url}: {answer}");
    }
    let answer = world.kubectl(&["exec", "db-0", "--", "curl", "-sS", "http://web/client"]);
    assert!(answer.contains("You've hit db-0"), "{answer}");
    let logs = world.kubectl(&["logs", "db-0"]);
    assert_eq!(logs, "");
}

/// A router's advertisement (RFC 4861 section 4.2): "I am a default router, for half an hour."
fn advertise(router: &Netns, link: &str) {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    const HOPS: i32 = 255;
    let link = link.to_owned();
    router.run(move || {
        let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6);
        let fd = socket(AddressFamily::Inet6, kind.0, kind.1, kind.2).expect("a raw socket");
        setsockopt(&fd.as_fd(), sockopt::Ipv6MulticastHops, &HOPS).expect("a hop limit");
        let index = nix::net::if_::if_nametoindex(link.as_str()).expect("a link");
        let to = std::net::SocketAddrV6::new(ALL_NODES, 0, 0, index);
        let sent = UdpSocket::from(fd).send_to(&ADVERTISEMENT, to);
        sent.expect("an advertisement");
    });
}

#[test]
fn a_host_keeps_the_default_route_that_its_router_advertises() {
    let mut world = World::with(Layout::OneLink, Stack::Dual, 1);
    let setting = |world: &World, key: &str| {
        world.nodes[0]
            .netns
            .sh(&format!("sysctl -n net.ipv6.conf.{key}"))
            .trim()
            .to_owned()
    };
    let node = &world.nodes[0].netns;
    node.sh("ip -6 route del default");
    node.sh("sysctl -qw net.ipv6.conf.eth0.accept_ra=1");
    // A link that forwarded before goes on when knarr is gone.
    node.sh("sysctl -qw net.ipv6.conf.lo.forwarding=1");
    let is_advertised = |world: &World| {
        let routes = world.nodes[0].netns.sh("ip -6 route show default");
        if routes.contains("proto ra") {
            Ok(())
        } else {
            Err(routes)
        }
    };
    wait::until("the first advertisement", WAIT_MAX, || {
        advertise(&world.router, "lan");
        is_advertised(&world)
    });
    world.start();
    assert_eq!(setting(&world, "all.forwarding"), "1");
    is_advertised(&world).expect("the route survives forwarding");
    world.nodes[0].netns.sh("ip -6 route del default");
    wait::until("a later advertisement", WAIT_MAX, || {
        advertise(&world.router, "lan");
        is_advertised(&world)
    });
    world.nodes[0].stop(Signal::SIGTERM);
    world.nodes[0].knarr(&["down"]);
    for (key, expected) in [
        ("all.forwarding", "0"),
        ("eth0.accept_ra", "1"),
        ("eth0.forwarding", "0"),
        ("lo.forwarding", "1"),
    ] {
        assert_eq!(setting(&world, key), expected, "{key}");
    }
}
