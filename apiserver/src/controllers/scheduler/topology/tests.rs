//! Placements of one pod among others in two zones: `a` (nodes a1 and a2) and `b` (node b1), and a node without a zone.

use serde_json::{Value, json};

use super::*;

fn node(name: &str, zone: Option<&str>) -> Node {
    let labels = json!({"host": name, "zone": zone});
    let node = json!({"metadata": {"name": name, "labels": without_nulls(labels)}});
    serde_json::from_value(node).expect("a Node")
}

fn without_nulls(mut map: Value) -> Value {
    if let Some(map) = map.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    map
}

fn pod(namespace: &str, app: &str, spec: Value) -> Pod {
    let mut full = json!({"containers": []});
    for (key, value) in spec.as_object().into_iter().flatten() {
        full[key] = value.clone();
    }
    let pod = json!({"metadata": {"namespace": namespace, "labels": {"app": app}}, "spec": full});
    serde_json::from_value(pod).expect("a Pod")
}

fn term(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

fn must(kind: &str, terms: &[Value]) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

/// Where `pod` may go with `others` by node; `-` for fitting, else the misfit.
fn check(pod: &Pod, others: &[(&str, Pod)], expected: &[(&str, Option<Misfit>)]) {
    let (judged, _) = judge(pod, others);
    let judged: Vec<(&str, Option<Misfit>)> = judged
        .iter()
        .map(|(name, misfit)| (name.as_str(), *misfit))
        .collect();
    assert_eq!(judged, expected, "{:?}", pod.spec);
}

type Judged = Vec<(String, Option<Misfit>)>;

fn judge(pod: &Pod, others: &[(&str, Pod)]) -> (Judged, Vec<i64>) {
    let nodes = [
        node("a1", Some("a")),
        node("a2", Some("a")),
        node("b1", Some("b")),
        node("none", None),
    ];
    let on = |name: &str| -> Vec<Arc<Pod>> {
        let there = others.iter().filter(|(node, _)| *node == name);
        there.map(|(_, pod)| Arc::new(pod.clone())).collect()
    };
    let name = |node: &Node| node.metadata.name.clone().unwrap_or_default();
    let pods: Vec<Vec<Arc<Pod>>> = nodes.iter().map(|node| on(&name(node))).collect();
    let places: Vec<Place<'_>> = nodes
        .iter()
        .zip(&pods)
        .map(|(node, pods)| Place { node, pods })
        .collect();
    let namespace = json!({"metadata": {"name": "other", "labels": {"team": "x"}}});
    let namespace: Namespace = serde_json::from_value(namespace).expect("a Namespace");
    let around = Surroundings {
        places: &places,
        namespaces: &[Arc::new(namespace)],
    };
    let company = Company::of(pod, &around);
    let judged = nodes
        .iter()
        .map(|node| (name(node), company.admits(node).err()));
    let scores = nodes.iter().map(|node| company.score(node));
    (judged.collect(), scores.collect())
}

const FITS: Option<Misfit> = None;

#[test]
fn affinity_seeks_the_domain_of_others() {
    let apart = Some(Misfit::Affinity);
    let seeking = pod("ns", "shop", must("podAffinity", &[term("web", "zone")]));
    let web = |namespace: &str| pod(namespace, "web", json!({}));
    check(
        &seeking,
        &[("a1", web("ns"))],
        &[("a1", FITS), ("a2", FITS), ("b1", apart), ("none", apart)],
    );
    let nowhere = [("a1", apart), ("a2", apart), ("b1", apart), ("none", apart)];
    check(&seeking, &[("a1", web("other"))], &nowhere);
    check(&seeking, &[], &nowhere);
    let mut elsewhere = term("web", "zone");
    elsewhere["namespaceSelector"] = json!({"matchLabels": {"team": "x"}});
    check(
        &pod("ns", "shop", must("podAffinity", &[elsewhere])),
        &[("b1", web("other"))],
        &[("a1", apart), ("a2", apart), ("b1", FITS), ("none", apart)],
    );
}

#[test]
fn the_first_of_its_own_kind_may_start_anywhere_with_the_label() {
    let own = pod("ns", "web", must("podAffinity", &[term("web", "zone")]));
    check(
        &own,
        &[],
        &[
            ("a1", FITS),
            ("a2", FITS),
            ("b1", FITS),
            ("none", Some(Misfit::Affinity)),
        ],
    );
}

#[test]
fn anti_affinity_holds_for_both_sides() {
    let shy = pod(
        "ns",
        "shop",
        must("podAntiAffinity", &[term("web", "host")]),
    );
    let web = pod("ns", "web", json!({}));
    check(
        &shy,
        &[("a1", web.clone())],
        &[
            ("a1", Some(Misfit::AntiAffinity)),
            ("a2", FITS),
            ("b1", FITS),
            ("none", FITS),
        ],
    );
    check(
        &web,
        &[("a1", shy)],
        &[
            ("a1", Some(Misfit::ExistingAntiAffinity)),
            ("a2", FITS),
            ("b1", FITS),
            ("none", FITS),
        ],
    );
}

#[test]
fn constraints_keep_domains_even() {
    let constraint = |when: &str| {
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": when,
            "labelSelector": {"matchLabels": {"app": "web"}}}]})
    };
    let spread = pod("ns", "web", constraint("DoNotSchedule"));
    let web = || pod("ns", "web", json!({}));
    let (uneven, unlabelled) = (Some(Misfit::Spread), Some(Misfit::SpreadLabel));
    check(
        &spread,
        &[("a1", web())],
        &[
            ("a1", uneven),
            ("a2", uneven),
            ("b1", FITS),
            ("none", unlabelled),
        ],
    );
    check(
        &spread,
        &[
            ("a1", web()),
            ("b1", web()),
            ("b1", pod("other", "web", json!({}))),
        ],
        &[
            ("a1", FITS),
            ("a2", FITS),
            ("b1", FITS),
            ("none", unlabelled),
        ],
    );
    let (judged, scores) = judge(
        &pod("ns", "web", constraint("ScheduleAnyway")),
        &[("a1", web())],
    );
    assert!(judged.iter().all(|(_, misfit)| misfit.is_none()));
    assert_eq!(scores, [-1, -1, 0, 0]);
    let mut wide = constraint("DoNotSchedule");
    wide["topologySpreadConstraints"][0]["minDomains"] = json!(3);
    check(
        &pod("ns", "web", wide),
        &[("a1", web()), ("b1", web())],
        &[
            ("a1", uneven),
            ("a2", uneven),
            ("b1", uneven),
            ("none", unlabelled),
        ],
    );
}

#[test]
fn preferences_only_rank() {
    let preferred = |kind: &str, weight: i32| {
        let terms = json!([{"weight": weight, "podAffinityTerm": term("web", "zone")}]);
        json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": terms}}})
    };
    let others = [("a1", pod("ns", "web", json!({})))];
    let (_, scores) = judge(&pod("ns", "shop", preferred("podAffinity", 5)), &others);
    assert_eq!(scores, [5, 5, 0, 0]);
    let (_, scores) = judge(&pod("ns", "shop", preferred("podAntiAffinity", 5)), &others);
    assert_eq!(scores, [-5, -5, 0, 0]);
}
