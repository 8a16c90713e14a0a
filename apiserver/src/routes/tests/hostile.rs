//! Requests that no honest client sends: each gets the answer Kubernetes gives, and costs little.

use super::*;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

async fn send(world: &World, content_type: &str, accept: &str, body: String) -> Answer {
    let request = Request::builder()
        .method("POST")
        .uri(CONFIG_MAPS)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::ACCEPT, accept);
    world.send(request, body).await
}

/// Nine aliases in each of nine lists, in each of nine lists…
fn alias_bomb() -> String {
    let names = "abcdefghi";
    let mut text = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (before, name) in names.chars().zip(names.chars().skip(1)) {
        let aliases = vec![format!("*{before}"); 9].join(", ");
        text += &format!("{name}: &{name} [{aliases}]\n");
    }
    text
}

#[tokio::test]
async fn bodies_that_are_bombs_are_refused() {
    let world = World::new().await;
    let cases = [
        ("aliases", YAML, alias_bomb(), 400),
        ("aliases in JSON's clothes", JSON, alias_bomb(), 400),
        ("lists", JSON, "[".repeat(1 << 20), 400),
        ("mappings", JSON, "{\"a\":".repeat(1 << 18), 400),
        ("flow lists", YAML, "[".repeat(1 << 20), 400),
        ("block lists", YAML, "- ".repeat(1 << 19), 400),
        (
            "indentation",
            YAML,
            (0..1000).map(|n| " ".repeat(n) + "a:\n").collect(),
            400,
        ),
        (
            "a long number",
            JSON,
            format!("{{\"data\":{}}}", "9".repeat(1 << 20)),
            400,
        ),
        ("too much", JSON, " ".repeat((3 << 20) + 1), 413),
        ("nothing", JSON, String::new(), 400),
        (
            "half an object",
            JSON,
            "{\"metadata\": {\"name\": ".into(),
            400,
        ),
        ("two objects", JSON, "{} {}".into(), 400),
        (
            "protobuf that is none",
            "application/vnd.kubernetes.protobuf",
            "k8s".into(),
            400,
        ),
    ];
    for (what, content_type, body, code) in cases {
        let answer = send(&world, content_type, JSON, body).await;
        assert_eq!(answer.code.as_u16(), code, "{what}: {}", answer.message());
        assert_eq!(answer.at("/kind"), "Status", "{what}");
    }
}

#[tokio::test]
async fn media_types_that_are_not_spoken_are_refused() {
    let world = World::new().await;
    let body = || config_map("a").to_string();
    for (content_type, accept, code) in [
        ("text/html", JSON, 415),
        ("application/json;charset=utf-8", "text/html", 406),
        ("application/", JSON, 415),
        (JSON, "application/json;as=Chair;g=meta.k8s.io;v=v1", 406),
        (JSON, "*/*", 201),
    ] {
        let answer = send(&world, content_type, accept, body()).await;
        assert_eq!(answer.code.as_u16(), code, "{content_type} {accept}");
    }
}

#[tokio::test]
async fn parameters_that_make_no_sense_are_refused() {
    let world = World::new().await;
    for (query, code) in [
        ("watch=true&resourceVersion=x", 500),
        ("watch=true&resourceVersion=-1", 500),
        ("watch=true&resourceVersion=99999999999999999999", 500),
        ("watch=true&timeoutSeconds=soon", 400),
        ("watch=true&labelSelector=a%20in%20(", 400),
        ("watch=true&labelSelector=%FF%FE", 400),
        ("watch=true&fieldSelector=spec.nothing%3D1", 400),
        ("watch=true&sendInitialEvents=true", 422),
        (
            "watch=true&resourceVersionMatch=Exact&resourceVersion=1",
            422,
        ),
        ("resourceVersionMatch=NotOlderThan", 422),
        ("resourceVersionMatch=Never&resourceVersion=1", 422),
        ("continue=%7B%7D", 400),
        ("continue=bm9uc2Vuc2U", 400),
        ("limit=many", 400),
        ("sendInitialEvents=true", 422),
    ] {
        let answer = world.get(&format!("{CONFIG_MAPS}?{query}")).await;
        assert_eq!(answer.code.as_u16(), code, "{query}: {}", answer.message());
    }
}

#[tokio::test]
async fn requests_over_the_bound_are_asked_to_come_back() {
    use crate::inflight::Load;
    let mut world = World::new().await;
    let administrator = std::mem::replace(&mut world.user, User::new("jo", &[]));
    let taken = {
        let State {
            config, inflight, ..
        } = &**world.server.state();
        let seats = |count: usize, load: Load| -> Vec<_> {
            (0..count)
                .map(|_| inflight.seat(load, &world.user).expect("a seat"))
                .collect()
        };
        [
            seats(config.requests_inflight_max, Load::Reading),
            seats(config.mutating_requests_inflight_max, Load::Mutating),
        ]
    };
    for (method, path, code) in [
        ("GET", CONFIG_MAPS, 429),
        ("GET", "/version", 429),
        ("POST", CONFIG_MAPS, 429),
        ("DELETE", CONFIG_MAPS, 429),
        ("GET", "/livez", 200),
        ("GET", "/api/v1/namespaces/shop/pods/p/log", 403),
        ("GET", "/api/v1/configmaps?watch=true", 403),
    ] {
        let answer = world.call(method, path, JSON, Value::Null).await;
        assert_eq!(answer.code.as_u16(), code, "{method} {path}");
        if code == 429 {
            let text = "Too many requests, please try again later.\n";
            assert_eq!(answer.body, Value::from(text));
            assert_eq!(answer.headers[header::RETRY_AFTER], "1");
            let plain = "text/plain; charset=utf-8";
            assert_eq!(answer.headers[header::CONTENT_TYPE], plain);
        }
    }
    world.user = administrator;
    assert_eq!(world.get(CONFIG_MAPS).await.code, StatusCode::OK);
    drop(taken);
    world.user = User::new("jo", &[]);
    assert_eq!(world.get("/version").await.code, StatusCode::OK);
}
