use serde_json::{Value, json};

use super::*;

fn zone() -> Zone {
    let mut zone = Zone::new("Cluster.Local.");
    zone.set_namespaces(["default", "shop", "empty"].map(str::to_owned).into());
    for service in [
        json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIPs": ["10.0.128.7", "fd01::7"], "ports": [
            {"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"port": 81}]}}),
        json!({"metadata": {"name": "db", "namespace": "shop"}, "spec": {"clusterIP": "None", "clusterIPs": ["None"]}}),
        json!({"metadata": {"name": "idle", "namespace": "shop"}, "spec": {"clusterIP": "None", "clusterIPs": ["None"]}}),
        json!({"metadata": {"name": "out", "namespace": "shop"}, "spec": {"type": "ExternalName", "externalName": "Example.com."}}),
    ] {
        zone.set_service(&from(service));
    }
    zone.set_slice(&from(slice()));
    zone
}

fn slice() -> Value {
    json!({"metadata": {"name": "db-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}}, "addressType": "IPv4",
        "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["10.42.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.42.1.6"]},
            {"addresses": ["10.42.1.7"], "conditions": {"ready": false}}]})
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

/// Answers as `dig +short` would print them.
fn ask(zone: &Zone, name: &str, question: Question) -> String {
    match zone.lookup(name, question) {
        Answer::NoData => "nodata".into(),
        Answer::NoName => "nxdomain".into(),
        Answer::NotOurs => "not ours".into(),
        Answer::Records {
            answers,
            additional: _,
        } => {
            let show = |record: &Record| match record {
                Record::Address(ip) => ip.to_string(),
                Record::Cname(name) | Record::Ptr(name) => name.clone(),
                Record::Srv { port, target } => format!("{port} {target}"),
                Record::Txt(text) => (*text).to_owned(),
            };
            answers.iter().map(show).collect::<Vec<_>>().join(", ")
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_specification_is_answered_name_by_name() {
    let zone = zone();
    for (name, question, expected) in [
        ("web.shop.svc.cluster.local", Question::A, "10.0.128.7"),
        ("WEB.Shop.SVC.cluster.LOCAL.", Question::Aaaa, "fd01::7"),
        ("web.shop.svc.cluster.local", Question::Txt, "nodata"),
        ("web.default.svc.cluster.local", Question::A, "nxdomain"),
        (
            "_http._tcp.web.shop.svc.cluster.local",
            Question::Srv,
            "80 web.shop.svc.cluster.local",
        ),
        (
            "_http._tcp.web.shop.svc.cluster.local",
            Question::A,
            "nodata",
        ),
        (
            "_http._udp.web.shop.svc.cluster.local",
            Question::Srv,
            "nxdomain",
        ),
        (
            "_dns._udp.web.shop.svc.cluster.local",
            Question::Srv,
            "53 web.shop.svc.cluster.local",
        ),
        ("_tcp.web.shop.svc.cluster.local", Question::A, "nodata"),
        (
            "7.128.0.10.in-addr.arpa",
            Question::Ptr,
            "web.shop.svc.cluster.local",
        ),
        (
            "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.d.f.ip6.arpa.",
            Question::Ptr,
            "web.shop.svc.cluster.local",
        ),
        ("8.128.0.10.in-addr.arpa", Question::Ptr, "not ours"),
        (
            "db.shop.svc.cluster.local",
            Question::A,
            "10.42.0.5, 10.42.1.6",
        ),
        ("db.shop.svc.cluster.local", Question::Aaaa, "nodata"),
        ("db-0.db.shop.svc.cluster.local", Question::A, "10.42.0.5"),
        (
            "10-42-1-6.db.shop.svc.cluster.local",
            Question::A,
            "10.42.1.6",
        ),
        (
            "10-42-1-7.db.shop.svc.cluster.local",
            Question::A,
            "nxdomain",
        ),
        (
            "_sql._tcp.db.shop.svc.cluster.local",
            Question::Srv,
            "5432 db-0.db.shop.svc.cluster.local, 5432 10-42-1-6.db.shop.svc.cluster.local",
        ),
        (
            "5.0.42.10.in-addr.arpa",
            Question::Ptr,
            "db-0.db.shop.svc.cluster.local",
        ),
        ("idle.shop.svc.cluster.local", Question::A, "nxdomain"),
        ("out.shop.svc.cluster.local", Question::A, "example.com"),
        ("out.shop.svc.cluster.local", Question::Cname, "example.com"),
        ("out.shop.svc.cluster.local", Question::Srv, "nodata"),
        ("dns-version.cluster.local", Question::Txt, "1.1.0"),
        ("empty.svc.cluster.local", Question::A, "nodata"),
        ("missing.svc.cluster.local", Question::A, "nxdomain"),
        ("svc.cluster.local", Question::A, "nodata"),
        ("cluster.local", Question::A, "nodata"),
        (
            "web.shop.svc.default.svc.cluster.local",
            Question::A,
            "nxdomain",
        ),
        ("10-42-0-5.shop.pod.cluster.local", Question::A, "10.42.0.5"),
        ("10-42-0-5.shop.pod.cluster.local", Question::Aaaa, "nodata"),
        (
            "fd00-42--5.shop.pod.cluster.local",
            Question::Aaaa,
            "fd00:42::5",
        ),
        (
            "10-42-0-5.missing.pod.cluster.local",
            Question::A,
            "nxdomain",
        ),
        ("web.shop.pod.cluster.local", Question::A, "nxdomain"),
        ("shop.pod.cluster.local", Question::A, "nodata"),
        ("example.com", Question::A, "not ours"),
        ("notcluster.local", Question::A, "not ours"),
        ("", Question::A, "not ours"),
    ] {
        assert_eq!(ask(&zone, name, question), expected, "{name} {question:?}");
    }
}

#[test]
fn what_is_removed_is_forgotten_in_every_direction() {
    let mut zone = zone();
    zone.remove_slice(&from(slice()));
    assert_eq!(
        ask(&zone, "db.shop.svc.cluster.local", Question::A),
        "nxdomain"
    );
    assert_eq!(
        ask(&zone, "5.0.42.10.in-addr.arpa", Question::Ptr),
        "not ours"
    );
    zone.remove_service(&ServiceKey::new("shop", "web"));
    assert_eq!(
        ask(&zone, "web.shop.svc.cluster.local", Question::A),
        "nxdomain"
    );
    assert_eq!(
        ask(&zone, "7.128.0.10.in-addr.arpa", Question::Ptr),
        "not ours"
    );
    assert!(zone.addresses.is_empty());
}

#[test]
fn srv_answers_carry_the_addresses_of_their_targets() {
    let Answer::Records { additional, .. } =
        zone().lookup("_sql._tcp.db.shop.svc.cluster.local", Question::Srv)
    else {
        panic!("no records")
    };
    let first = (
        "db-0.db.shop.svc.cluster.local".to_owned(),
        "10.42.0.5".parse().expect("an address"),
    );
    assert_eq!(additional.first(), Some(&first));
}

#[test]
fn an_endpoint_of_both_families_is_one_host() {
    let mut zone = zone();
    let mut other = slice();
    other["metadata"]["name"] = "db-2".into();
    other["addressType"] = "IPv6".into();
    other["endpoints"] = json!([{"addresses": ["fd42::5"], "hostname": "db-0"}]);
    zone.set_slice(&from(other));
    let name = "_sql._tcp.db.shop.svc.cluster.local";
    let expected = "5432 db-0.db.shop.svc.cluster.local, 5432 10-42-1-6.db.shop.svc.cluster.local";
    assert_eq!(ask(&zone, name, Question::Srv), expected);
    let Answer::Records { additional, .. } = zone.lookup(name, Question::Srv) else {
        panic!("no records")
    };
    let ips: Vec<String> = additional.iter().map(|(_, ip)| ip.to_string()).collect();
    assert_eq!(ips, ["10.42.0.5", "10.42.1.6", "fd42::5"]);
    for (question, expected) in [(Question::A, "10.42.0.5"), (Question::Aaaa, "fd42::5")] {
        let name = "db-0.db.shop.svc.cluster.local";
        assert_eq!(ask(&zone, name, question), expected);
    }
}

#[test]
fn the_revision_tells_when_an_answer_may_differ() {
    let mut zone = zone();
    let web = |ip: &str| {
        from(
            json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIPs": [ip]}}),
        )
    };
    let mut slice = from::<EndpointSlice>(slice());
    let (first, other): (Service, Service) = (web("10.0.128.7"), web("10.0.128.8"));
    let key = ServiceKey::new("shop", "web");
    zone.replace(&key, Some(&first), std::iter::once(&slice));
    let mut revision = zone.revision();
    let mut differs = |zone: &Zone| {
        let before = std::mem::replace(&mut revision, zone.revision());
        before != zone.revision()
    };
    zone.replace(&key, Some(&first), std::iter::empty());
    assert!(!differs(&zone), "nobody sees endpoints behind a cluster IP");
    zone.replace(&key, Some(&other), std::iter::empty());
    assert!(differs(&zone));
    let key = ServiceKey::new("shop", "db");
    let headless: Service = from(
        json!({"metadata": {"name": "db", "namespace": "shop"}, "spec": {"clusterIPs": ["None"]}}),
    );
    zone.replace(&key, Some(&headless), std::iter::once(&slice));
    assert!(!differs(&zone), "it was there before");
    slice.endpoints = slice.endpoints.map(|all| all[..1].to_vec());
    zone.replace(&key, Some(&headless), std::iter::once(&slice));
    assert!(differs(&zone));
    zone.set_namespaces(["default", "shop", "empty"].map(str::to_owned).into());
    assert!(!differs(&zone));
    zone.set_namespaces(BTreeSet::new());
    assert!(differs(&zone));
    zone.replace(&key, None, std::iter::empty());
    assert!(differs(&zone));
    zone.rename("cluster.test");
    assert!(differs(&zone));
}
