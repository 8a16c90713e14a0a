use std::{collections::BTreeMap, sync::Arc};

use knarr_netproxy_plan::{Family, FrontNode, Settings, Snapshot, Standing, plan};
use serde_json::{Value, json};

use super::{Explanation, Facts, Front, Kernel, Observation, Renewal, explain};
use crate::nftables::{Ruleset, wire::Observed};

/// A Service and its surroundings that route; each test breaks one thing.
struct World {
    service: Value,
    pods: Vec<Value>,
    slices: Vec<Value>,
    refusing: Vec<&'static str>,
    front: Option<Front>,
}

impl World {
    fn routing() -> Self {
        let ports = json!([{ "port": 80, "protocol": "TCP", "targetPort": "http" }]);
        let spec = json!({
            "type": "ClusterIP", "clusterIP": "10.0.128.7", "clusterIPs": ["10.0.128.7"],
            "selector": { "app": "web" }, "ports": ports,
        });
        let metadata = json!({ "name": "web", "namespace": "default" });
        Self {
            service: json!({ "metadata": metadata, "spec": spec }),
            pods: vec![
                pod("web-1", "web", "10.42.0.5"),
                pod("shop-1", "shop", "10.42.0.6"),
            ],
            slices: vec![slice("10.42.0.5", "node-1", true)],
            refusing: Vec::new(),
            front: None,
        }
    }

    fn balanced(mut self) -> Self {
        self.service["spec"]["type"] = "LoadBalancer".into();
        self.port()["nodePort"] = 30_080.into();
        let ingress = json!([{ "ip": "192.168.7.200" }]);
        self.service["status"] = json!({ "loadBalancer": { "ingress": ingress } });
        self
    }

    fn with_front(mut self, renewal: Renewal, passing: &[&str]) -> Self {
        let node = |last| FrontNode {
            addresses: vec![[192, 168, 7, last].into()],
            standing: Standing::Staying,
        };
        let passing = passing
            .iter()
            .map(|check| check.parse().expect("an address"));
        self.front = Some(Front {
            name: "front-1".to_owned(),
            renewal,
            nodes: [
                ("node-1".to_owned(), node(1)),
                ("node-2".to_owned(), node(2)),
            ]
            .into(),
            passing: passing.collect(),
            kernel: Kernel::Unread("this machine is not front-1".to_owned()),
        });
        self
    }

    fn facts(self, kernel: impl FnOnce(&Snapshot) -> Kernel) -> Facts {
        let read = |value: &Value| serde_json::from_value(value.clone());
        let settings = Settings {
            node_name: "node-1".to_owned(),
            node_ips: vec!["192.168.7.1".parse().expect("an address")],
            cluster_cidrs: ["10.42.0.0/16".parse().expect("a range")].into(),
            service_cidrs: ["10.0.128.0/17".parse().expect("a range")].into(),
            ..Settings::default()
        };
        let service = Arc::new(serde_json::from_value(self.service.clone()).expect("a Service"));
        let slices: Vec<_> = self
            .slices
            .iter()
            .map(|slice| Arc::new(serde_json::from_value(slice.clone()).expect("a slice")))
            .collect();
        let key = knarr_netproxy_plan::ServiceKey::new("default", "web");
        let services = BTreeMap::from([(key, (Arc::clone(&service), slices.clone()))]);
        let snapshot = Snapshot {
            settings: settings.clone(),
            services,
        };
        Facts {
            service,
            pods: self
                .pods
                .iter()
                .map(|pod| read(pod).expect("a pod"))
                .collect(),
            slices,
            settings,
            others: Vec::new(),
            kernel: kernel(&snapshot),
            refusing: self
                .refusing
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect(),
            ready_nodes: ["node-1".to_owned(), "node-2".to_owned()].into(),
            front: self.front,
        }
    }

    fn explained(self) -> Explanation {
        explain(&self.facts(in_step))
    }

    fn port(&mut self) -> &mut Value {
        &mut self.service["spec"]["ports"][0]
    }
}

/// A kernel that has what is planned.
fn in_step(snapshot: &Snapshot) -> Kernel {
    let (plan, _) = plan(snapshot);
    let table = |family| (family, Observed::Table(Ruleset::of(&plan, family)));
    read(Family::BOTH.map(table))
}

fn read(tables: [(Family, Observed); 2]) -> Kernel {
    Kernel::Read(Box::new(Observation {
        tables: tables.into(),
        ..Observation::default()
    }))
}

fn pod(name: &str, app: &str, ip: &str) -> Value {
    let ports = json!([{ "name": "http", "containerPort": 8080, "protocol": "TCP" }]);
    json!({
        "metadata": { "name": name, "labels": { "app": app } },
        "spec": { "nodeName": "node-1", "containers": [{ "name": "main", "ports": ports }] },
        "status": {
            "phase": "Running", "podIP": ip,
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

fn slice(ip: &str, node: &str, ready: bool) -> Value {
    json!({
        "metadata": { "name": "web-abcde" }, "addressType": "IPv4",
        "endpoints": [{
            "addresses": [ip], "nodeName": node,
            "conditions": { "ready": ready, "serving": ready, "terminating": false },
        }],
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
    })
}

#[test]
fn a_service_that_routes_is_told_step_by_step() {
    let explanation = World::routing().explained();
    assert!(explanation.routes);
    let expected = "\
service   ClusterIP 10.0.128.7
          port 80/TCP, target port http
selector  app=web
pods      web-1: ready, 10.42.0.5 on node-1
          not chosen: shop-1: app is shop, not web
slices    web-abcde: 1 of 1 endpoints ready, ports 8080
plan      on node-1
          10.0.128.7:80/tcp is answered by 10.42.0.5:8080
kernel    table ip knarr has all 3 elements of the plan
packets   10.0.128.7:80/tcp from a pod: answered by 10.42.0.5:8080
          10.0.128.7:80/tcp from this node: answered by 10.42.0.5:8080
verdict   default/web routes
";
    assert_eq!(explanation.to_string(), expected);
}

#[track_caller]
fn check_explanation(explanation: &Explanation, expected: &str) {
    let text = explanation.to_string();
    let (_, verdict) = text.split_once("verdict   ").expect("a verdict");
    assert_eq!(verdict, expected, "{text}");
    assert!(!explanation.routes);
}

#[track_caller]
fn check(broken: impl FnOnce(&mut World), expected: &str) {
    let mut world = World::routing();
    broken(&mut world);
    let expected = format!("default/web does not route\n{expected}");
    check_explanation(&world.explained(), &expected);
}

#[test]
fn a_selector_that_matches_nothing_is_the_cause() {
    check(
        |world| {
            world.service["spec"]["selector"] = json!({ "app": "wev" });
            world.slices =
                vec![json!({ "metadata": { "name": "web-abcde" }, "addressType": "IPv4" })];
        },
        "cause     no pod has the labels app=wev\n\
         hint      compare the labels of web-1: app is web, not wev\n",
    );
}

#[test]
fn pods_that_are_not_ready_are_the_cause() {
    check(
        |world| {
            world.slices = vec![slice("10.42.0.5", "node-1", false)];
            world.pods[0]["status"]["conditions"][0] = json!({ "type": "Ready", "status": "False", "message": "containers with unready status: [main]" });
        },
        "cause     the only pod that matches is not fit: web-1 is not ready (containers with unready status: [main])\n\
         hint      look at `kubectl describe pod web-1` and `kubectl logs web-1`\n",
    );
}

#[test]
fn a_target_port_that_no_pod_names_is_the_cause() {
    check(
        |world| {
            world.port()["targetPort"] = json!("web");
            world.slices[0]["ports"] = json!([]);
        },
        "cause     port 80 leads to web/TCP, and no pod has a port of that name\n\
         hint      the pods name these: http\n",
    );
}

#[test]
fn a_slice_whose_port_has_another_name_is_the_cause() {
    check(
        |world| {
            world.service["spec"]["selector"] = Value::Null;
            world.port()["name"] = json!("web");
            world.slices[0]["ports"][0]["name"] = json!("http");
        },
        "cause     no slice has a port named \"web\": ports are joined by name, not by number\n\
         hint      the slices name these: \"http\"\n",
    );
}

#[test]
fn a_local_policy_without_local_endpoint_is_the_cause() {
    check(
        |world| {
            world.service["spec"]["internalTrafficPolicy"] = json!("Local");
            world.slices = vec![slice("10.42.1.5", "node-2", true)];
        },
        "cause     internalTrafficPolicy is Local, and no endpoint is on node-1\n\
         hint      run a pod on this node, or set internalTrafficPolicy: Cluster\n",
    );
}

#[test]
fn a_closed_target_port_is_the_cause() {
    check(
        |world| world.refusing = vec!["10.42.0.5:8080"],
        "cause     packets arrive, and 10.42.0.5:8080 refuses the connection: nothing listens there\n\
         hint      set targetPort to the port that the process in the pod listens on, on all its addresses\n",
    );
}

#[test]
fn an_empty_kernel_is_the_cause() {
    let absent = |_: &Snapshot| read(Family::BOTH.map(|family| (family, Observed::Absent)));
    let explanation = explain(&World::routing().facts(absent));
    check_explanation(
        &explanation,
        "default/web does not route\n\
         cause     the kernel's rules are not as planned: 10.0.128.7:80/tcp from a pod is taken by no rule\n\
         hint      see with `knarr status` whether the netproxy of this node runs; it repairs its rules by itself\n",
    );
}

#[test]
fn a_service_without_selector_and_slices_is_the_cause() {
    check(
        |world| {
            world.service["spec"]["selector"] = Value::Null;
            world.slices.clear();
        },
        "cause     the Service has no selector, and nobody wrote an EndpointSlice for it\n\
         hint      set spec.selector, or create a slice with the label kubernetes.io/service-name\n",
    );
}

/// What is said of who announces, and the cause.
fn check_announced(world: World, expected: &str) {
    let explanation = world.balanced().explained();
    let text = explanation.to_string();
    let (_, after) = text.split_once("announced ").expect("somebody announces");
    let (announced, _) = after.split_once("verdict").expect("a verdict");
    let cause = explanation
        .cause
        .map_or_else(String::new, |cause| cause.sentence);
    assert_eq!(format!("{announced}{cause}"), expected, "{text}");
}

#[test]
fn who_announces_a_load_balancer_ip_is_told() {
    let well = ["192.168.7.1:10256", "192.168.7.2:10256"];
    check_announced(
        World::routing(),
        "192.168.7.200 by node-2; should it be lost, by node-1\n",
    );
    check_announced(
        World::routing().with_front(Renewal::Renewed, &well),
        "192.168.7.200 by front front-1\n          \
         192.168.7.200:80/tcp: node-1 gets connections at 192.168.7.1:30080\n          \
         192.168.7.200:80/tcp: node-2 gets connections at 192.168.7.2:30080\n",
    );
    check_announced(
        World::routing().with_front(Renewal::Renewed, &well[..1]),
        "192.168.7.200 by front front-1\n          \
         192.168.7.200:80/tcp: node-1 gets connections at 192.168.7.1:30080\n          \
         192.168.7.200:80/tcp: node-2 does not say at 192.168.7.2:10256 that it is well\n",
    );
    check_announced(
        World::routing().with_front(Renewal::Lapsed, &well),
        "192.168.7.200 by node-2; should it be lost, by node-1\n          \
         not by front front-1: it does not renew its Lease\n",
    );
    check_announced(
        World::routing().with_front(Renewal::Renewed, &[]),
        "192.168.7.200 by front front-1\n          \
         192.168.7.200:80/tcp: node-1 does not say at 192.168.7.1:10256 that it is well\n          \
         192.168.7.200:80/tcp: node-2 does not say at 192.168.7.2:10256 that it is well\n\
         front front-1 has no node to send 192.168.7.200:80/tcp to: node-1 does not say at 192.168.7.1:10256 that it is well",
    );
}
