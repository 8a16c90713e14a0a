//! Who gets which address, as tables.

use serde_json::{Value, json};

use super::super::pool::POOL_ANNOTATION;
use super::*;

fn service(name: &str, spec: Value, ips: &[&str]) -> Arc<Service> {
    let mut full = json!({"type": "LoadBalancer", "ipFamilies": ["IPv4"]});
    for (key, value) in spec.as_object().into_iter().flatten() {
        full[key] = value.clone();
    }
    let ingress: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    let finalizers: &[&str] = if ips.is_empty() {
        &[]
    } else {
        &[LOAD_BALANCER_FINALIZER]
    };
    let service = json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "finalizers": finalizers},
        "spec": full, "status": {"loadBalancer": {"ingress": ingress}}});
    Arc::new(serde_json::from_value(service).expect("a Service"))
}

fn pools(text: &str) -> Pools {
    Pools::new(&AddressRange::parse_list(text).expect("a pool"), [])
}

fn check(services: &[Arc<Service>], expected: &[&str]) {
    let steps = plan(
        services,
        &pools("192.0.2.1-192.0.2.3, fd00::1"),
        Answering::Somebody,
    );
    let name = |service: &Service| service.metadata.name.clone().unwrap_or_default();
    let seen: Vec<String> = steps
        .iter()
        .map(|step| match step {
            Step::Give {
                service,
                addresses,
                ignored,
            } => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                let ignored = ignored.as_ref().map_or("", |_| " instead");
                format!("{} {}{ignored}", name(service), addresses.join(","))
            }
            Step::Take { service } => format!("{} free", name(service)),
            Step::Refuse { service, why } => format!("{} {why}", name(service)),
        })
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn services_get_the_first_free_address_and_keep_it() {
    let kept = service("kept", json!({}), &["192.0.2.1"]);
    let new = || service("new", json!({}), &[]);
    check(&[kept.clone(), new()], &["new 192.0.2.2"]);
    check(std::slice::from_ref(&kept), &[]);
    let dual = service("dual", json!({"ipFamilies": ["IPv6", "IPv4"]}), &[]);
    check(&[dual], &["dual fd00::1,192.0.2.1"]);
    let full: Vec<_> = (1..=3)
        .map(|i| service("x", json!({}), &[&format!("192.0.2.{i}")]))
        .collect();
    check(
        &[&full[..], &[new()]].concat(),
        &["new no free IP in the pool"],
    );
}

#[test]
fn a_requested_address_is_given_when_it_can_be() {
    let wants = |ip: &str| service("wants", json!({"loadBalancerIP": ip}), &[]);
    let kept = service("kept", json!({}), &["192.0.2.1"]);
    check(&[wants("192.0.2.3")], &["wants 192.0.2.3"]);
    check(&[wants("192.0.2.9")], &["wants 192.0.2.1 instead"]);
    check(&[wants("anything")], &["wants 192.0.2.1 instead"]);
    check(
        &[kept, wants("192.0.2.1")],
        &["wants requested IP 192.0.2.1 is already in use"],
    );
    let modest = service("modest", json!({}), &[]);
    check(
        &[modest, wants("192.0.2.1")],
        &["wants 192.0.2.1", "modest 192.0.2.2"],
    );
    let moved = service(
        "moved",
        json!({"loadBalancerIP": "192.0.2.3"}),
        &["192.0.2.1"],
    );
    check(&[moved], &["moved 192.0.2.3"]);
}

#[test]
fn addresses_are_taken_back_and_those_of_other_classes_left_alone() {
    let changed = service("changed", json!({"type": "ClusterIP"}), &["192.0.2.1"]);
    check(
        &[changed, service("new", json!({}), &[])],
        &["changed free", "new 192.0.2.2"],
    );
    check(
        &[service(
            "theirs",
            json!({"loadBalancerClass": "example.com/x"}),
            &["192.0.2.1"],
        )],
        &[],
    );
}

#[test]
fn nothing_is_given_while_nobody_would_answer() {
    let pool = pools("192.0.2.1");
    assert!(plan(&[service("new", json!({}), &[])], &pool, Answering::Nobody).is_empty());
    let changed = service("changed", json!({"type": "ClusterIP"}), &["192.0.2.1"]);
    assert_eq!(plan(&[changed], &pool, Answering::Nobody).len(), 1);
    let theirs = service("theirs", json!({"type": "ClusterIP"}), &["192.0.2.7"]);
    assert!(plan(&[theirs], &pool, Answering::Nobody).is_empty());
}

#[test]
fn knarrs_own_class_is_served_like_none() {
    let class = json!({"loadBalancerClass": "knarr.io/load-balancer"});
    check(&[service("ours", class.clone(), &[])], &["ours 192.0.2.1"]);
    let mut changed = class;
    changed["type"] = "ClusterIP".into();
    check(&[service("left", changed, &["192.0.2.1"])], &["left free"]);
}

fn narrowed(name: &str, pool: &str, ips: &[&str]) -> Arc<Service> {
    let mut service = service(name, json!({}), ips);
    Arc::make_mut(&mut service).metadata.annotations =
        Some([(POOL_ANNOTATION.to_owned(), pool.to_owned())].into());
    service
}

#[test]
fn an_annotated_service_draws_from_its_own_part() {
    check(
        &[narrowed("web", "192.0.2.2-192.0.2.3", &[])],
        &["web 192.0.2.2"],
    );
    check(
        &[narrowed("web", "192.0.2.3", &["192.0.2.1"])],
        &["web 192.0.2.3"],
    );
}

#[test]
fn a_wrong_annotation_is_refused_and_costs_nobody_an_address() {
    let refusal =
        "web knarr.io/load-balancer-pool: 10.0.0.1-10.0.0.1 is not in the pool of namespace \"ns\"";
    check(&[narrowed("web", "10.0.0.1", &[])], &[refusal]);
    check(
        &[
            narrowed("web", "10.0.0.1", &["192.0.2.1"]),
            service("new", json!({}), &[]),
        ],
        &[refusal, "new 192.0.2.2"],
    );
}

#[test]
fn who_was_refused_gets_the_address_that_is_freed() {
    let waiting = || narrowed("waiting", "192.0.2.1", &[]);
    let holder = service("holder", json!({}), &["192.0.2.1"]);
    check(&[holder, waiting()], &["waiting no free IP in the pool"]);
    let left = service("left", json!({"type": "ClusterIP"}), &["192.0.2.1"]);
    check(
        &[left, waiting()],
        &["left free", "waiting no free IP in the pool"],
    );
    check(&[waiting()], &["waiting 192.0.2.1"]);
}
