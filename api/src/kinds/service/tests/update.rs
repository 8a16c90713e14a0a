use super::*;

fn load_balancer() -> Value {
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "example.com/lb",
        "healthCheckNodePort": 30_500, "ports": [{"name": "a", "port": 80, "nodePort": 30_400}],
    });
    let mut stored = created(spec, &IPV4_ONLY).expect("is valid");
    stored["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}});
    stored
}

fn plain() -> Value {
    created(json!({"ports": [{"port": 80}]}), &IPV4_ONLY).expect("is valid")
}

fn edited(service: &Value, edit: impl FnOnce(&mut Value)) -> Value {
    let mut spec = service["spec"].clone();
    edit(&mut spec);
    spec
}

#[test]
fn what_was_allocated_survives_a_bare_update() {
    let old = load_balancer();
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "example.com/lb",
        "ports": [{"name": "a", "port": 81}],
    });
    let new = updated(&old, spec).expect("is valid");
    assert_eq!(new["spec"]["clusterIP"], "10.0.128.9");
    assert_eq!(new["spec"]["healthCheckNodePort"], 30_500);
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30_400);
    assert_eq!(new["status"], old["status"]);
}

#[test]
fn a_node_port_stays_with_the_name_unless_another_port_took_it() {
    let old = created(
        json!({"type": "NodePort", "ports": [{"name": "a", "port": 80, "nodePort": 30_400}, {"name": "b", "port": 81, "nodePort": 30_401}]}),
        &IPV4_ONLY,
    )
    .expect("is valid");
    let mut new = service(json!({"type": "NodePort", "ports": [
        {"name": "b", "port": 80},
        {"name": "a", "port": 81},
        {"name": "c", "port": 82},
    ]}));
    patch_allocated_values(&mut new, &old);
    let ports: Vec<Value> = (0..3)
        .map(|i| new["spec"]["ports"][i]["nodePort"].clone())
        .collect();
    assert_eq!(ports, [json!(30_401), json!(30_400), Value::Null]);
    let mut swapped = service(json!({"type": "NodePort", "ports": [
        {"name": "a", "port": 80},
        {"name": "c", "port": 82, "nodePort": 30_400},
    ]}));
    patch_allocated_values(&mut swapped, &old);
    assert_eq!(swapped["spec"]["ports"][0]["nodePort"], Value::Null);
}

#[test]
fn changing_the_type_drops_what_only_the_old_type_had() {
    let old = load_balancer();
    let to_cluster_ip = edited(&old, |spec| spec["type"] = json!("ClusterIP"));
    let new = updated(&old, to_cluster_ip).expect("is valid");
    assert_eq!(
        new["spec"],
        json!({
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "clusterIP": "10.0.128.9", "clusterIPs": ["10.0.128.9"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "a", "port": 80, "protocol": "TCP", "targetPort": 80}],
        })
    );
    assert_eq!(new["status"], json!({"loadBalancer": {}}));

    let to_node_port = edited(&old, |spec| spec["type"] = json!("NodePort"));
    let new = updated(&old, to_node_port).expect("is valid");
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30_400);
    assert_eq!(new["spec"]["externalTrafficPolicy"], "Local");
    assert_eq!(new["spec"]["healthCheckNodePort"], Value::Null);

    let to_name = edited(&old, |spec| {
        spec["type"] = json!("ExternalName");
        spec["externalName"] = json!("a.example");
    });
    let new = updated(&old, to_name).expect("is valid");
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        assert_eq!(new["spec"][field], Value::Null, "{field}");
    }
    assert_eq!(new["spec"]["internalTrafficPolicy"], "Cluster", "is hidden");
}

#[test]
fn what_the_client_changed_along_with_the_type_is_refused_not_dropped() {
    let old = load_balancer();
    let spec = edited(&old, |spec| {
        spec["type"] = json!("ClusterIP");
        spec["ports"][0]["nodePort"] = json!(30_499);
        spec["loadBalancerClass"] = json!("example.com/other");
    });
    check_refused(
        updated(&old, spec),
        &[
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ],
    );
}

#[test]
fn addresses_stay() {
    let fixed = |ip: &str| {
        format!("spec.clusterIPs[0]: Invalid value: [\"{ip}\"]: may not change once set")
    };
    for ip in ["10.0.128.10", "None"] {
        let spec = edited(&plain(), |spec| spec["clusterIP"] = json!(ip));
        check_refused(updated(&plain(), spec), &[&fixed(ip)]);
    }
    let cleared = edited(&plain(), |spec| spec["clusterIP"] = json!(""));
    assert_eq!(updated(&plain(), cleared), Ok(plain()));
    let only_list = edited(&plain(), |spec| spec["clusterIPs"] = json!(["10.0.128.10"]));
    check_refused(
        updated(&plain(), only_list),
        &["spec.clusterIPs: Invalid value: [\"10.0.128.10\"]: first value must match `clusterIP`"],
    );
}

#[test]
fn a_name_may_become_headless_and_get_an_address() {
    let name =
        json!({"type": "ExternalName", "externalName": "a.example", "ports": [{"port": 80}]});
    let old = created(name, &IPV4_ONLY).expect("is valid");
    let headless = edited(&old, |spec| {
        spec["type"] = json!("ClusterIP");
        spec["clusterIP"] = json!("None");
    });
    let new = updated(&old, headless).expect("is valid");
    assert_eq!(new["spec"]["clusterIPs"], json!(["None"]));
    let addressed = edited(&old, |spec| spec["type"] = json!("ClusterIP"));
    let new = updated(&old, addressed).expect("is valid");
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.128.9"]));
    assert_eq!(new["spec"]["externalName"], "a.example");
}

#[test]
fn classes_and_health_check_ports_stay_while_in_use() {
    let old = load_balancer();
    let spec = edited(&old, |spec| {
        spec["loadBalancerClass"] = json!("example.com/other");
        spec["healthCheckNodePort"] = json!(30_501);
    });
    check_refused(
        updated(&old, spec),
        &[
            "spec.loadBalancerClass: Invalid value: \"example.com/other\": may not change once set",
            "spec.healthCheckNodePort: Forbidden: field is immutable",
        ],
    );
    let cluster = edited(&old, |spec| {
        spec["externalTrafficPolicy"] = json!("Cluster")
    });
    let new = updated(&old, cluster).expect("is valid");
    assert_eq!(new["spec"]["healthCheckNodePort"], Value::Null);
}

#[test]
fn the_second_family_is_released_only_by_saying_so() {
    let old = created(
        json!({"ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]}),
        &DUAL_STACK,
    )
    .expect("is valid");
    let single = edited(&old, |spec| spec["ipFamilyPolicy"] = json!("SingleStack"));
    let new = updated(&old, single).expect("is valid");
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.128.9"]));
    assert_eq!(new["spec"]["ipFamilies"], json!(["IPv4"]));
    let fewer = edited(&old, |spec| spec["clusterIPs"] = json!(["10.0.128.9"]));
    check_refused(
        updated(&old, fewer),
        &[
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary cluster IP",
        ],
    );
}

#[test]
fn a_settled_preference_is_not_upgraded_later() {
    let old = created(
        json!({"ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]}),
        &IPV4_ONLY,
    )
    .expect("is valid");
    let mut new = service(old["spec"].clone());
    assert_eq!(normalise_families(&mut new, Some(&old), &DUAL_STACK), []);
    assert_eq!(new["spec"]["ipFamilies"], json!(["IPv4"]));
}

#[test]
fn addresses_stored_under_older_rules_are_left_alone() {
    let mut old = plain();
    put(
        fields_mut(&mut old, "spec"),
        "externalIPs",
        json!(["192.0.2.01"]),
    );
    put(
        fields_mut(&mut old, "spec"),
        "externalTrafficPolicy",
        json!("Cluster"),
    );
    let same = old["spec"].clone();
    assert!(updated(&old, same).is_ok());
    let more = edited(&old, |spec| {
        spec["externalIPs"] = json!(["192.0.2.01", "192.0.2.02"])
    });
    check_refused(
        updated(&old, more),
        &["spec.externalIPs[1]: Invalid value: \"192.0.2.02\": must not have leading 0s"],
    );
}

fn status_errors(service: &Value, ingress: Value) -> Vec<String> {
    let mut new = service.clone();
    new["status"] = json!({"loadBalancer": {"ingress": ingress}});
    new["spec"] = json!({"type": "Ignored"});
    (SERVICE.strategy.default)(&mut new);
    SERVICE.prepare_status(&mut new, service);
    assert_eq!(new["spec"], service["spec"]);
    texts_of(&SERVICE.validate_status(&new, service))
}

#[test]
fn status_holds_addresses_of_load_balancers_only() {
    assert_eq!(
        status_errors(&plain(), json!([{"ip": "192.0.2.1"}])),
        [
            "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
        ],
    );
    assert_eq!(
        status_errors(
            &load_balancer(),
            json!([
                {"ip": "192.0.2.01", "ipMode": "VIP"},
                {"hostname": "192.0.2.1", "ipMode": "Proxy"},
                {"ip": "192.0.2.2", "ipMode": "Magic"},
            ])
        ),
        [
            "status.loadBalancer.ingress[0].ip: Invalid value: \"192.0.2.01\": must not have leading 0s",
            "status.loadBalancer.ingress[1].ipMode: Forbidden: may not be specified when `ip` is not set",
            "status.loadBalancer.ingress[1].hostname: Invalid value: \"192.0.2.1\": must be a DNS name, not an IP address",
            "status.loadBalancer.ingress[2].ipMode: Unsupported value: \"Magic\": supported values: \"Proxy\", \"VIP\"",
        ],
    );
}

#[test]
fn an_ip_of_a_load_balancer_is_a_vip_unless_said() {
    let mut new = load_balancer();
    new["status"] =
        json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "a.example"}]}});
    (SERVICE.strategy.default)(&mut new);
    assert_eq!(
        new["status"]["loadBalancer"]["ingress"],
        json!([{"ip": "192.0.2.1", "ipMode": "VIP"}, {"hostname": "a.example"}])
    );
}

#[test]
fn rows_show_addresses_and_ports() {
    let row = |service: &Value| (SERVICE.cells)(service, 0);
    assert_eq!(
        row(&load_balancer()),
        [
            json!("web"),
            json!("LoadBalancer"),
            json!("10.0.128.9"),
            json!("192.0.2.1"),
            json!("80:30400/TCP"),
            json!("<unknown>"),
            json!("<none>"),
        ]
    );
    let pending = edited_status(load_balancer());
    assert_eq!(row(&pending)[3], "<pending>");
    let name = service(json!({"type": "ExternalName", "externalName": "a.example"}));
    assert_eq!(
        row(&name)[2..5],
        [json!("<none>"), json!("a.example"), json!("<none>")]
    );
}

fn edited_status(mut service: Value) -> Value {
    service["status"] = json!({"loadBalancer": {}});
    service
}
