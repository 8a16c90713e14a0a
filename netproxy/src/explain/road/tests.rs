use knarr_netproxy_plan::{FrontNode, NodePortAddresses, PROXY_HEALTH_PORT, Standing};
use serde_json::{Value, json};

use super::*;
use crate::{
    explain::{
        announcer::Renewal,
        question::{Client, Destination},
    },
    nftables::wire::{Deed, ForeignChain, Keeper, Observed, Point, Policy},
};

/// A cluster in which packets arrive; each test breaks one thing.
struct World {
    service: Value,
    pods: Vec<Value>,
    slice: Value,
    foreign: Vec<ForeignChain>,
    refusing: Vec<&'static str>,
    /// Whether the kernel has what is planned.
    kernel: KernelHas,
    front: Option<(Renewal, NodeIs)>,
}

/// The node, as its health port says.
#[derive(Clone, Copy, PartialEq)]
enum NodeIs {
    Well,
    Ill,
}

#[derive(PartialEq)]
enum KernelHas {
    ThePlan,
    Nothing,
}

impl World {
    fn routing() -> Self {
        let ports =
            json!([{ "port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30080 }]);
        let spec = json!({
            "type": "LoadBalancer", "clusterIP": "10.0.128.7", "clusterIPs": ["10.0.128.7"],
            "selector": { "app": "web" }, "ports": ports,
        });
        let status = json!({ "loadBalancer": { "ingress": [{ "ip": "192.168.7.200" }] } });
        let metadata = json!({ "name": "web", "namespace": "default" });
        let endpoint = json!({
            "addresses": ["10.42.0.5"], "nodeName": "node-1",
            "conditions": { "ready": true, "serving": true, "terminating": false },
        });
        Self {
            service: json!({ "metadata": metadata, "spec": spec, "status": status }),
            pods: vec![
                pod("web-1", "web", "10.42.0.5"),
                pod("shop-1", "shop", "10.42.0.6"),
            ],
            slice: json!({
                "metadata": {
                    "name": "web-abcde", "namespace": "default",
                    "labels": { "kubernetes.io/service-name": "web" },
                },
                "addressType": "IPv4", "endpoints": [endpoint],
                "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
            }),
            foreign: Vec::new(),
            refusing: Vec::new(),
            kernel: KernelHas::ThePlan,
            front: None,
        }
    }

    fn front(&self) -> Option<Front> {
        let (renewal, node) = self.front?;
        let ip: IpAddr = "192.168.7.1".parse().expect("an address");
        let own = FrontNode {
            addresses: vec![ip],
            standing: Standing::Staying,
        };
        let check = SocketAddr::new(ip, PROXY_HEALTH_PORT);
        Some(Front {
            name: Front::name_of("front-1_18c2f0").to_owned(),
            renewal,
            nodes: [("node-1".to_owned(), own)].into(),
            passing: Some(check)
                .filter(|_| node == NodeIs::Well)
                .into_iter()
                .collect(),
            kernel: Kernel::Unread("this machine is not front-1".to_owned()),
        })
    }

    fn around(&self) -> Surroundings {
        let settings = Settings {
            node_name: "node-1".to_owned(),
            node_ips: vec!["192.168.7.1".parse().expect("an address")],
            cluster_cidrs: ["10.42.0.0/16".parse().expect("a range")].into(),
            service_cidrs: ["10.0.128.0/17".parse().expect("a range")].into(),
            node_port_addresses: NodePortAddresses::Primary,
            ..Settings::default()
        };
        let read = |value: &Value| serde_json::from_value(value.clone()).expect("an object");
        let slice = serde_json::from_value(self.slice.clone()).expect("a slice");
        let own = (
            Arc::new(serde_json::from_value(self.service.clone()).expect("a Service")),
            vec![Arc::new(slice)],
        );
        let services = BTreeMap::from([(ServiceKey::new("default", "web"), own)]);
        let (plan, _) = plan(&Snapshot {
            settings: settings.clone(),
            services: services.clone(),
        });
        let table = |family| match self.kernel {
            KernelHas::ThePlan => (family, Observed::Table(Ruleset::of(&plan, family))),
            KernelHas::Nothing => (family, Observed::Absent),
        };
        let observation = Observation {
            tables: Family::BOTH.map(table).into(),
            foreign: self.foreign.clone(),
            ..Observation::default()
        };
        Surroundings {
            nodes: [("node-1".to_owned(), settings)].into(),
            ready_nodes: ["node-1".to_owned()].into(),
            services,
            pods: self.pods.iter().map(read).collect(),
            namespaces: ["default".to_owned()].into(),
            domain: "cluster.local".to_owned(),
            elsewhere: Vec::new(),
            here: "node-1".to_owned(),
            kernel: Kernel::Read(Box::new(observation)),
            front: self.front(),
        }
    }

    fn told(&self, from: &str, to: &str) -> Explanation {
        let question = Question {
            from: Client::parse(from, "default").expect("a client"),
            to: Destination::parse(to).expect("a destination"),
        };
        let refusing = self
            .refusing
            .iter()
            .map(|text| text.parse().expect("an address"));
        let journey = self.around().travel(&question);
        journey.told(&refusing.collect())
    }
}

fn pod(name: &str, app: &str, ip: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "default", "labels": { "app": app } },
        "spec": { "nodeName": "node-1", "containers": [{ "name": "main" }] },
        "status": {
            "phase": "Running", "podIP": ip,
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

#[test]
fn a_packet_that_arrives_is_told_step_by_step() {
    let explanation = World::routing().told("pod/shop-1", "http://web");
    assert!(explanation.routes);
    let expected = "\
from      pod default/shop-1, ready, 10.42.0.6 on node-1
name      web is web.default.svc.cluster.local: 10.0.128.7
to        10.0.128.7:80/tcp is cluster IP of default/web
rules     as read from the kernel of node-1
          nat-prerouting > services > cluster-ip-pick-1 > pick-1 > nat-postrouting > masquerading: to 10.42.0.5:8080, which sees 10.42.0.6
answers   10.42.0.5:8080, pod default/web-1, ready on node-1
verdict   pod default/shop-1 to web:80/tcp arrives
";
    assert_eq!(explanation.to_string(), expected);
}

#[track_caller]
fn check(world: &World, from: &str, to: &str, expected: &str) {
    let explanation = world.told(from, to);
    let text = explanation.to_string();
    let cause = explanation
        .cause
        .map(|cause| format!("{}; {}", cause.sentence, cause.hint));
    assert_eq!(cause.as_deref().unwrap_or("arrives"), expected, "{text}");
    assert_eq!(explanation.routes, cause.is_none());
}

#[test]
fn every_client_of_a_service_that_routes_arrives() {
    let world = World::routing();
    for (from, to) in [
        ("pod/shop-1", "http://10.0.128.7"),
        ("pod/web-1", "http://web.default.svc.cluster.local"),
        ("node/node-1", "http://10.0.128.7"),
        ("outside", "http://192.168.7.1:30080"),
        ("outside/203.0.113.9", "http://192.168.7.200"),
        ("pod/shop-1", "10.42.0.5:8080"),
        ("pod/shop-1", "198.51.100.1:443"),
    ] {
        check(&world, from, to, "arrives");
    }
}

#[test]
fn addresses_and_names_that_are_nobodys_are_the_cause() {
    let world = World::routing();
    for (from, to, expected) in [
        (
            "pod/gone",
            "http://web",
            "there is no pod gone in namespace default; `knarr get pods -n default` lists those there are",
        ),
        (
            "node/n2",
            "http://10.0.128.7",
            "there is no node n2; the nodes are node-1",
        ),
        (
            "pod/shop-1",
            "http://10.0.128.7:81",
            "default/web has no port 81/tcp; its ports there are 80/tcp",
        ),
        (
            "pod/shop-1",
            "10.0.128.7:80/udp",
            "default/web has no port 80/udp; its ports there are 80/tcp",
        ),
        (
            "pod/shop-1",
            "http://10.0.128.99",
            "10.0.128.99 is in the range of Services, and no Service has it; `knarr get services -A` lists the cluster IPs",
        ),
        (
            "pod/shop-1",
            "http://10.42.0.77",
            "10.42.0.77 is in the range of pods, and no pod has it; ask for a Service's name or address: pods come and go",
        ),
        (
            "outside",
            "http://192.168.7.1:30081",
            "no Service has node port 30081/tcp; only a process of the node itself could answer; there is 30080/tcp of default/web",
        ),
        (
            "outside",
            "http://web.default.svc.cluster.local",
            "web.default.svc.cluster.local is a name inside the cluster, and means nothing outside; ask for 10.0.128.7, or for a load-balancer IP or node port",
        ),
        (
            "pod/shop-1",
            "http://web.other",
            "web.other is neither a Service's name nor one that this host's resolvers know; there is web.default",
        ),
        (
            "pod/shop-1",
            "http://web.other.svc.cluster.local",
            "web.other.svc.cluster.local is not a Service's name; there is web.default",
        ),
    ] {
        check(&world, from, to, expected);
    }
}

#[test]
fn a_service_that_nobody_answers_is_the_cause() {
    let mut world = World::routing();
    world.service["spec"]["selector"] = json!({ "app": "wev" });
    world.slice["endpoints"] = json!([]);
    let expected =
        "no pod has the labels app=wev; compare the labels of web-1: app is web, not wev";
    check(&world, "pod/shop-1", "http://web", expected);
}

#[test]
fn source_ranges_that_do_not_hold_the_client_are_the_cause() {
    let mut world = World::routing();
    world.service["spec"]["loadBalancerSourceRanges"] = json!(["203.0.113.0/24"]);
    check(
        &world,
        "outside/203.0.113.9",
        "http://192.168.7.200",
        "arrives",
    );
    let expected = "192.168.7.200:80/tcp is dropped from outside (198.51.100.9): loadBalancerSourceRanges does not hold 198.51.100.9; \
                    add the client's range to spec.loadBalancerSourceRanges";
    check(
        &world,
        "outside/198.51.100.9",
        "http://192.168.7.200",
        expected,
    );
    check(
        &world,
        "outside/198.51.100.9",
        "http://192.168.7.1:30080",
        "arrives",
    );
}

#[test]
fn rules_that_are_not_as_planned_are_the_cause() {
    let mut world = World::routing();
    world.kernel = KernelHas::Nothing;
    let expected = "the kernel's rules are not as planned: 10.0.128.7:80/tcp from pod default/shop-1 is taken by no rule, and should be answered by 10.42.0.5:8080; \
                    see with `knarr status` whether the netproxy of this node runs; it repairs its rules by itself";
    check(&world, "pod/shop-1", "http://web", expected);
}

#[test]
fn a_foreign_chain_that_drops_all_is_the_cause() {
    let mut world = World::routing();
    let wall = ForeignChain {
        keeper: Keeper::Nftables,
        family: "inet",
        table: "wall".to_owned(),
        name: "gate".to_owned(),
        point: Point::Forward,
        policy: Policy::Drop,
        rules: Vec::new(),
    };
    world.foreign = vec![wall.clone()];
    let expected = "chain gate of table inet wall drops all that passes through this node; \
                    knarr leaves other tables alone: let packets of pods and Services through there";
    check(&world, "pod/shop-1", "http://web", expected);
    world.foreign = vec![ForeignChain {
        rules: vec![Deed::Depends],
        ..wall
    }];
    check(&world, "pod/shop-1", "http://web", "arrives");
}

#[test]
fn an_endpoint_that_refuses_is_the_cause() {
    let mut world = World::routing();
    world.refusing = vec!["10.42.0.5:8080"];
    let expected = "packets arrive, and 10.42.0.5:8080 refuses the connection: nothing listens there; \
                    set targetPort to the port that the process in the pod listens on, on all its addresses";
    check(&world, "pod/shop-1", "http://web", expected);
}

#[test]
fn a_packet_is_followed_through_the_front_to_the_node_and_the_pod() {
    let mut world = World::routing();
    world.front = Some((Renewal::Renewed, NodeIs::Well));
    let told = world.told("outside/203.0.113.9", "http://192.168.7.200");
    let expected = "\
from      outside (203.0.113.9)
to        192.168.7.200:80/tcp is load-balancer IP of default/web
front     front-1 announces it; as planned: this machine is not front-1
          192.168.7.200:80/tcp: node-1 gets connections at 192.168.7.1:30080
          192.168.7.200:80/tcp is answered by 192.168.7.1:30080
then to   192.168.7.1:30080/tcp is node port of default/web
";
    let text = told.to_string();
    assert!(text.starts_with(expected), "{text}");
    assert!(told.routes, "{text}");
    for (from, to) in [
        ("pod/shop-1", "http://192.168.7.200"),
        ("outside", "http://192.168.7.1:30080"),
    ] {
        let text = world.told(from, to).to_string();
        assert!(!text.contains("front-1"), "{text}");
    }
}

#[test]
fn what_stops_packets_at_the_front_is_the_cause() {
    let mut world = World::routing();
    world.front = Some((Renewal::Renewed, NodeIs::Ill));
    check(
        &world,
        "outside",
        "http://192.168.7.200",
        "front front-1 has no node to send 192.168.7.200:80/tcp to: node-1 does not say at 192.168.7.1:10256 that it is well; \
         see with `knarr status` whether the netproxy runs there, and whether this port can be reached from the front",
    );
    world.front = Some((Renewal::Lapsed, NodeIs::Ill));
    check(&world, "outside", "http://192.168.7.200", "arrives");
    world.front = Some((Renewal::Renewed, NodeIs::Well));
    check(
        &world,
        "outside",
        "http://192.168.7.200:81",
        "default/web has no port 81/tcp; its ports there are 80/tcp",
    );
    world.service["spec"]["loadBalancerSourceRanges"] = json!(["203.0.113.0/24"]);
    check(
        &world,
        "outside/198.51.100.9",
        "http://192.168.7.200",
        "192.168.7.200:80/tcp is dropped from outside (198.51.100.9): loadBalancerSourceRanges does not hold 198.51.100.9; \
         add the client's range to spec.loadBalancerSourceRanges",
    );
    world.slice["endpoints"] = json!([]);
    world.service["spec"]["selector"] = json!({ "app": "wev" });
    check(
        &world,
        "outside/203.0.113.9",
        "http://192.168.7.200",
        "no pod has the labels app=wev; compare the labels of web-1: app is web, not wev",
    );
}
