//! The allocator against requests whose outcome is known, and against a model that keeps a plain set.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use knarr_api::kinds::{self, service::SERVICE};
use serde_json::json;

use super::*;
use crate::bootstrap;

struct World {
    store: Store,
    allocator: Allocator,
    directory: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl World {
    async fn new(ranges: &[&str]) -> World {
        let directory =
            std::env::temp_dir().join(format!("knarr-allocate-{}", uuid::Uuid::new_v4()));
        let config = Config {
            service_cidrs: ranges.iter().map(|r| r.parse().unwrap()).collect(),
            ..Config::for_tests(directory.clone())
        };
        let store = Store::open(&directory, kinds::ALL).await.unwrap();
        bootstrap::ensure(&store, &config).await.unwrap();
        let seed = AtomicU64::new(7);
        let random = move |below: u64| {
            let next = seed
                .load(Ordering::Relaxed)
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1);
            seed.store(next, Ordering::Relaxed);
            (next >> 33) % below
        };
        let allocator = Allocator::new(store.clone(), &config, Box::new(random));
        World {
            store,
            allocator,
            directory,
        }
    }

    /// Creates a Service from its spec and returns it as stored.
    async fn create(&self, name: &str, spec: Value) -> Result<Value, Status> {
        let mut service = service(name, spec);
        (SERVICE.strategy.default)(&mut service);
        let mut writes = self.allocator.create(&mut service, Mode::Real)?;
        writes.insert(0, put(&service));
        let stored = self.store.commit(writes).await.map_err(|e| e.status())?;
        Ok(stored[0].object())
    }

    async fn update(&self, name: &str, spec: Value) -> Result<Value, Status> {
        let key = Key::new(&SERVICE, "default", name);
        let old = self.store.get(&key).unwrap().object();
        let mut service = service(name, spec);
        (SERVICE.strategy.default)(&mut service);
        let mut writes = self.allocator.update(&mut service, &old, Mode::Real)?;
        (SERVICE.strategy.prepare_update)(&mut service, &old);
        writes.insert(0, put(&service));
        let stored = self.store.commit(writes).await.map_err(|e| e.status())?;
        Ok(stored[0].object())
    }

    async fn delete(&self, name: &str) {
        let key = Key::new(&SERVICE, "default", name);
        let old = self.store.get(&key).unwrap().object();
        let mut writes = self.allocator.release(&old);
        writes.insert(
            0,
            Write::Delete {
                key,
                expect: Expect::Any,
            },
        );
        self.store.commit(writes).await.unwrap();
    }

    fn held(&self) -> usize {
        self.store.claims().iter().count()
    }

    fn ip_address(&self, address: &str) -> bool {
        self.store
            .get(&Key::new(&IP_ADDRESS, "", address))
            .is_some()
    }
}

fn service(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "default", "uid": name },
        "spec": spec,
    })
}

fn put(service: &Value) -> Write {
    Write::Put {
        key: Key::new(&SERVICE, "default", meta::name(service)),
        expect: Expect::Any,
        object: service.clone(),
    }
}

fn ports(ports: &[(u16, &str, i64)]) -> Value {
    ports
        .iter()
        .map(|(port, protocol, node_port)| {
            let name = format!("{}-{port}", protocol.to_lowercase());
            json!({ "name": name, "port": port, "protocol": protocol, "nodePort": node_port })
        })
        .collect()
}

fn node_ports(service: &Value) -> Vec<u64> {
    let ports = service["spec"]["ports"].as_array().unwrap();
    ports
        .iter()
        .map(|p| p["nodePort"].as_u64().unwrap_or(0))
        .collect()
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_in_kubernetes_words() {
    let world = World::new(&["10.0.128.0/17"]).await;
    world.create("taken", json!({ "type": "NodePort", "clusterIP": "10.0.128.30", "ports": ports(&[(80, "TCP", 30015)]) })).await.unwrap();
    let before = world.held();
    let check = async |spec: Value, code: u16, expected: &str| {
        let status = world.create("s", spec).await.unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (code, expected));
    };
    let port = ports(&[(80, "TCP", 0)]);
    check(
        json!({ "clusterIP": "10.0.128.30", "ports": port }), 422,
        "Service \"s\" is invalid: spec.clusterIPs: Invalid value: [\"10.0.128.30\"]: failed to allocate IP 10.0.128.30: provided IP is already allocated",
    ).await;
    for outside in ["192.0.2.1", "10.0.128.0", "10.0.255.255"] {
        check(
            json!({ "clusterIP": outside, "ports": port }), 422,
            &format!("Service \"s\" is invalid: spec.clusterIPs: Invalid value: [\"{outside}\"]: failed to allocate IP {outside}: the provided network does not match the current range"),
        ).await;
    }
    check(
        json!({ "type": "NodePort", "ports": ports(&[(80, "TCP", 30015)]) }), 422,
        "Service \"s\" is invalid: spec.ports[0].nodePort: Invalid value: 30015: provided port is already allocated",
    ).await;
    check(
        json!({ "type": "NodePort", "ports": ports(&[(80, "TCP", -1)]) }), 422,
        "Service \"s\" is invalid: spec.ports[0].nodePort: Invalid value: -1: provided port is not in the valid range. The range of valid ports is 30000-32767",
    ).await;
    check(
        json!({ "type": "NodePort", "ports": ports(&[(80, "TCP", 80)]) }), 422,
        "Service \"s\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
    ).await;
    check(
        json!({ "type": "NodePort", "ports": ports(&[(53, "TCP", 30020), (54, "UDP", 30020)]) }), 422,
        "Service \"s\" is invalid: spec.ports[1].nodePort: Invalid value: 30020: provided port is already allocated",
    ).await;
    check(
        json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30015, "ports": port }), 500,
        "Internal error occurred: failed to allocate requested HealthCheck NodePort 30015: provided port is already allocated",
    ).await;
    check(
        json!({ "ipFamilyPolicy": "RequireDualStack", "ports": port }), 422,
        "Service \"s\" is invalid: spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
    ).await;
    assert_eq!(world.held(), before, "a refused request kept something");
}

#[tokio::test]
async fn ports_of_one_number_share_a_node_port_on_create_only() {
    let world = World::new(&["10.0.128.0/17"]).await;
    let both = ports(&[(53, "TCP", 0), (53, "UDP", 0)]);
    let created = world
        .create("dns", json!({ "type": "NodePort", "ports": both }))
        .await
        .unwrap();
    let numbers = node_ports(&created);
    assert_eq!(numbers[0], numbers[1]);
    assert!((30086..=32767).contains(&numbers[0]));
    let asked = ports(&[(53, "TCP", 30011), (53, "UDP", 30011)]);
    let created = world
        .create("dns2", json!({ "type": "NodePort", "ports": asked }))
        .await
        .unwrap();
    assert_eq!(node_ports(&created), [30011, 30011]);
    world
        .create(
            "u",
            json!({ "type": "NodePort", "ports": ports(&[(53, "TCP", 30014)]) }),
        )
        .await
        .unwrap();
    let updated = world
        .update("u", json!({ "type": "NodePort", "ports": both }))
        .await
        .unwrap();
    let numbers = node_ports(&updated);
    assert_eq!(numbers[0], 30014);
    assert_ne!(numbers[1], 30014);
    let shared = ports(&[(53, "TCP", 30014), (54, "UDP", 30014)]);
    let updated = world
        .update("u", json!({ "type": "NodePort", "ports": shared }))
        .await
        .unwrap();
    assert_eq!(node_ports(&updated), [30014, 30014]);
}

#[tokio::test]
async fn changing_the_type_gives_back_what_the_new_one_does_not_use() {
    let world = World::new(&["10.0.128.0/17"]).await;
    let start = world.held();
    let local = json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local", "clusterIP": "10.0.128.33", "ports": ports(&[(80, "TCP", 0)]) });
    let created = world.create("t", local).await.unwrap();
    assert_eq!(
        world.held(),
        start + 3,
        "address, node port and health-check port"
    );
    assert!(created["spec"]["healthCheckNodePort"].as_u64().is_some());
    assert!(world.ip_address("10.0.128.33"));
    let port = ports(&[(80, "TCP", 0)]);
    let updated = world
        .update("t", json!({ "type": "NodePort", "ports": port }))
        .await
        .unwrap();
    assert_eq!(node_ports(&updated), node_ports(&created));
    assert_eq!(world.held(), start + 2);
    let updated = world.update("t", json!({ "ports": port })).await.unwrap();
    assert_eq!(updated["spec"]["clusterIP"], "10.0.128.33");
    assert_eq!(world.held(), start + 1);
    let named = json!({ "type": "ExternalName", "externalName": "x.example.com" });
    world.update("t", named).await.unwrap();
    assert_eq!(world.held(), start);
    assert!(!world.ip_address("10.0.128.33"));
    world
        .update("t", json!({ "clusterIP": "10.0.128.34", "ports": port }))
        .await
        .unwrap();
    assert!(world.ip_address("10.0.128.34"));
    world.delete("t").await;
    assert_eq!(world.held(), start);
    assert!(!world.ip_address("10.0.128.34"));
}

#[tokio::test]
async fn a_dry_run_shows_the_network_and_keeps_nothing() {
    let world = World::new(&["10.0.128.0/17"]).await;
    let before = world.held();
    let dry = |spec: Value| {
        let mut service = service("d", spec);
        (SERVICE.strategy.default)(&mut service);
        let writes = world.allocator.create(&mut service, Mode::Dry)?;
        assert!(writes.is_empty());
        Ok::<_, Status>(service)
    };
    let shown = dry(json!({ "ports": ports(&[(80, "TCP", 0)]) })).unwrap();
    assert_eq!(shown["spec"]["clusterIPs"], json!(["10.0.128.0"]));
    let shown =
        dry(json!({ "clusterIP": "10.0.128.1", "ports": ports(&[(80, "TCP", 0)]) })).unwrap();
    assert_eq!(shown["spec"]["clusterIP"], "10.0.128.1");
    let refused = dry(json!({ "clusterIP": "192.0.2.1" })).unwrap_err();
    assert!(refused.message.ends_with("failed to allocate IP 192.0.2.1: the provided IP (192.0.2.1) is not in the valid range. The range of valid IPs is 10.0.128.0/17"));
    assert_eq!(world.held(), before);
}

#[tokio::test]
async fn a_dual_stack_cluster_adds_and_drops_the_second_address() {
    let world = World::new(&["10.0.128.0/17", "fd00:10::/112"]).await;
    let start = world.held();
    let port = ports(&[(80, "TCP", 0)]);
    let created = world.create("d", json!({ "ports": port })).await.unwrap();
    assert_eq!(created["spec"]["ipFamilies"], json!(["IPv4"]));
    let updated = world
        .update(
            "d",
            json!({ "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4"], "ports": port }),
        )
        .await
        .unwrap();
    let addresses = updated["spec"]["clusterIPs"].as_array().unwrap();
    assert_eq!(addresses[0], created["spec"]["clusterIP"]);
    assert!(addresses[1].as_str().unwrap().starts_with("fd00:10::"));
    assert_eq!(world.held(), start + 2);
    let single =
        json!({ "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"], "ports": port });
    let updated = world.update("d", single).await.unwrap();
    assert_eq!(
        updated["spec"]["clusterIPs"],
        json!([created["spec"]["clusterIP"]])
    );
    assert_eq!(world.held(), start + 1);
}

#[tokio::test]
async fn a_refusal_shows_the_addresses_as_they_were_asked_for() {
    let world = World::new(&["10.0.0.0/24", "fd00:10::/112"]).await;
    let spec = json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"], "clusterIP": "fd00:10::9",
        "clusterIPs": ["fd00:10::9", "10.0.0.1"], "ports": ports(&[(80, "TCP", 0)])});
    let taken = world.create("d", spec).await.unwrap_err();
    assert_eq!(
        taken.message,
        "Service \"d\" is invalid: spec.clusterIPs: Invalid value: [\"fd00:10::9\",\"10.0.0.1\"]: \
         failed to allocate IP 10.0.0.1: provided IP is already allocated"
    );
    let second = json!({"ipFamilyPolicy": "RequireDualStack", "clusterIP": "10.0.0.9", "ports": ports(&[(80, "TCP", 0)])});
    world.create("e", second.clone()).await.unwrap();
    let taken = world.create("f", second).await.unwrap_err();
    assert_eq!(
        taken.message,
        "Service \"f\" is invalid: spec.clusterIPs: Invalid value: [\"10.0.0.9\",\"\"]: \
         failed to allocate IP 10.0.0.9: provided IP is already allocated"
    );
}

#[tokio::test]
async fn a_start_shows_a_held_address_again() {
    let world = World::new(&["10.0.0.0/24"]).await;
    let spec = json!({"clusterIP": "10.0.0.9", "ports": ports(&[(80, "TCP", 0)])});
    world.create("s", spec).await.unwrap();
    let key = ip_address_key("10.0.0.9".parse().unwrap());
    let gone = Write::Delete {
        key: key.clone(),
        expect: Expect::Any,
    };
    world.store.commit(vec![gone]).await.unwrap();
    world.store.commit(repairs(&world.store)).await.unwrap();
    let shown = world.store.get(&key).unwrap().object();
    assert_eq!(shown["spec"]["parentRef"]["name"], "s");
    assert!(repairs(&world.store).is_empty());
    world.delete("s").await;
    assert!(world.store.get(&key).is_none());
}

#[tokio::test]
async fn a_full_range_says_so_and_frees_as_services_go() {
    let world = World::new(&["10.0.0.0/28"]).await;
    // 14 addresses, two of which belong to default/kubernetes and kube-system/kube-dns.
    for n in 0..12 {
        world
            .create(
                &format!("s{n}"),
                json!({ "ports": ports(&[(80, "TCP", 0)]) }),
            )
            .await
            .unwrap();
    }
    let full = world
        .create("s", json!({ "ports": ports(&[(80, "TCP", 0)]) }))
        .await
        .unwrap_err();
    assert_eq!(
        (full.code, full.message.as_str()),
        (
            500,
            "Internal error occurred: failed to allocate a serviceIP for Service \"s\": range is full"
        ),
    );
    world.delete("s4").await;
    world
        .create("s", json!({ "ports": ports(&[(80, "TCP", 0)]) }))
        .await
        .unwrap();
}

#[tokio::test]
async fn claims_always_follow_services() {
    let world = World::new(&["10.0.0.0/26"]).await;
    let mut model: BTreeMap<String, Value> = BTreeMap::new();
    let mut seed = 1_u64;
    let mut random = |below: u64| {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    for _ in 0..400 {
        let name = format!("s{}", random(40));
        let spec = random_spec(&mut random);
        match (model.contains_key(&name), random(3)) {
            (true, 0) => {
                world.delete(&name).await;
                model.remove(&name);
            }
            (true, _) => {
                if let Ok(updated) = world.update(&name, spec).await {
                    model.insert(name, updated);
                }
            }
            (false, _) => {
                if let Ok(created) = world.create(&name, spec).await {
                    model.insert(name, created);
                }
            }
        }
        assert!(
            repairs(&world.store).is_empty(),
            "{:?}",
            repairs(&world.store)
        );
    }
    assert!(model.len() > 5, "the model never grew");
}

fn random_spec(random: &mut impl FnMut(u64) -> u64) -> Value {
    let node_port = if random(2) == 0 {
        0
    } else {
        30000 + random(20) as u16
    };
    let second = if random(2) == 0 {
        0
    } else {
        30000 + random(20) as u16
    };
    let list = ports(&[
        (80, "TCP", node_port.into()),
        (80 + random(2) as u16, "UDP", second.into()),
    ]);
    let plain = ports(&[(80, "TCP", 0)]);
    match random(5) {
        0 => json!({ "type": "ExternalName", "externalName": "x.example.com" }),
        1 => json!({ "type": "NodePort", "ports": list }),
        2 => json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": list }),
        3 => {
            json!({ "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": list })
        }
        _ => json!({ "ports": plain }),
    }
}
