//! Who is let in, as whom, and what tokens and reviews say.

use super::*;
use crate::accounts;

const POD: &str = "/api/v1/namespaces/shop/pods/web";
const ACCOUNT: &str = "/api/v1/namespaces/shop/serviceaccounts/till";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1";

fn node(name: &str) -> User {
    User::new(format!("system:node:{name}"), &["system:nodes"])
}

impl World {
    /// A shop with the account `till` and two pods that run as it: `web` on node `a`, `back` on node `b`.
    async fn with_pods() -> World {
        let world = World::new().await;
        for (path, name) in [
            ("serviceaccounts", "till"),
            ("secrets", "web-key"),
            ("secrets", "other"),
        ] {
            let path = format!("/api/v1/namespaces/shop/{path}");
            let made = world.post(&path, json!({"metadata": {"name": name}})).await;
            assert_eq!(made.code, StatusCode::CREATED, "{}", made.message());
        }
        for (name, on) in [("web", "a"), ("back", "b")] {
            let made = world
                .post("/api/v1/nodes", json!({"metadata": {"name": on}}))
                .await;
            assert_eq!(made.code, StatusCode::CREATED, "{}", made.message());
            let pod = json!({
                "metadata": {"name": name},
                "spec": {
                    "serviceAccountName": "till",
                    "nodeName": on,
                    "containers": [{"name": "c", "command": ["true"]}],
                    "volumes": [{"name": "v", "secret": {"secretName": format!("{name}-key")}}],
                },
            });
            let made = world.post("/api/v1/namespaces/shop/pods", pod).await;
            assert_eq!(made.code, StatusCode::CREATED, "{}", made.message());
        }
        world
    }

    async fn as_user(&mut self, user: User) -> &Self {
        self.user = user;
        self
    }

    async fn impersonate(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request, "").await
    }
}

#[tokio::test]
async fn the_unauthorized_are_told_what_they_may_not() {
    let mut world = World::with_pods().await;
    world.as_user(User::new("jane", &[])).await;
    let cases = [
        (
            "/api/v1/namespaces/default/pods",
            "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" \
             in the namespace \"default\"",
        ),
        (
            "/api/v1/nodes/a",
            "nodes \"a\" is forbidden: User \"jane\" cannot get resource \"nodes\" in API group \"\" \
             at the cluster scope",
        ),
        (
            "/apis/apps/v1/namespaces/shop/deployments/web/scale",
            "deployments.apps \"web\" is forbidden: User \"jane\" cannot get resource \
             \"deployments/scale\" in API group \"apps\" in the namespace \"shop\"",
        ),
        (
            "/metrics",
            "forbidden: User \"jane\" cannot get path \"/metrics\"",
        ),
    ];
    for (path, message) in cases {
        let answer = world.get(path).await;
        assert_eq!((answer.code.as_u16(), answer.message()), (403, message));
        assert_eq!(answer.at("/reason"), "Forbidden");
    }
    for path in ["/version", "/api", "/apis/apps/v1", "/readyz"] {
        assert_eq!(world.get(path).await.code, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn a_node_agent_is_kept_to_its_own_node() {
    let mut world = World::with_pods().await;
    world.as_user(node("a")).await;
    let shop = "/api/v1/namespaces/shop";
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = |name: &str| json!({"metadata": {"name": name}});
    let bound = |pod: &str| json!({"spec": {"audiences": ["x"], "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod}}});
    let none = Value::Null;
    let status = json!({"status": {"message": "fine"}});
    let cases = [
        ("GET", format!("{shop}/pods/web"), none.clone(), 200),
        ("GET", format!("{shop}/pods/back"), none.clone(), 403),
        ("GET", format!("{shop}/pods"), none.clone(), 403),
        (
            "GET",
            format!("{shop}/pods?fieldSelector=spec.nodeName%3Da"),
            none.clone(),
            200,
        ),
        (
            "GET",
            format!("{shop}/pods?fieldSelector=spec.nodeName%3Db"),
            none.clone(),
            403,
        ),
        ("GET", format!("{shop}/secrets/web-key"), none.clone(), 200),
        ("GET", format!("{shop}/secrets/back-key"), none.clone(), 403),
        ("GET", format!("{shop}/secrets"), none.clone(), 403),
        (
            "GET",
            "/api/v1/namespaces/kube-system/configmaps/knarr".into(),
            none.clone(),
            200,
        ),
        ("GET", "/api/v1/services".into(), none.clone(), 200),
        ("GET", "/api/v1/nodes".into(), none.clone(), 200),
        (
            "GET",
            "/apis/discovery.k8s.io/v1/endpointslices".into(),
            none.clone(),
            200,
        ),
        (
            "PATCH",
            format!("{shop}/pods/web/status"),
            status.clone(),
            200,
        ),
        (
            "PATCH",
            format!("{shop}/pods/back/status"),
            status.clone(),
            403,
        ),
        ("PATCH", format!("{shop}/pods/web"), status.clone(), 403),
        ("PATCH", "/api/v1/nodes/a/status".into(), json!({}), 200),
        ("PATCH", "/api/v1/nodes/b/status".into(), json!({}), 403),
        ("POST", "/api/v1/nodes".into(), lease("c"), 403),
        ("POST", leases.into(), lease("a"), 201),
        ("POST", leases.into(), lease("b"), 403),
        ("PATCH", format!("{leases}/b"), json!({}), 403),
        (
            "POST",
            format!("{shop}/serviceaccounts/till/token"),
            bound("web"),
            201,
        ),
        (
            "POST",
            format!("{shop}/serviceaccounts/till/token"),
            bound("back"),
            403,
        ),
        (
            "POST",
            format!("{shop}/serviceaccounts/till/token"),
            json!({"spec": {"audiences": ["x"]}}),
            403,
        ),
        (
            "POST",
            format!("{shop}/serviceaccounts/default/token"),
            bound("web"),
            403,
        ),
        ("DELETE", "/api/v1/nodes/b".into(), none.clone(), 403),
        ("DELETE", format!("{shop}/pods/back"), none.clone(), 403),
        ("DELETE", format!("{shop}/pods/web"), none.clone(), 200),
    ];
    for (method, path, body, code) in cases {
        let content_type = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let answer = world.call(method, &path, content_type, body).await;
        assert_eq!(
            answer.code.as_u16(),
            code,
            "{method} {path} {}",
            answer.message()
        );
    }
}

#[tokio::test]
async fn a_token_is_bound_and_opens_what_its_account_may() {
    let world = World::with_pods().await;
    let uid = world.get(POD).await.at("/metadata/uid").clone();
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": uid});
    let request = json!({"spec": {"boundObjectRef": bound, "expirationSeconds": 900}});
    let answer = world.post(&format!("{ACCOUNT}/token"), request).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.message());
    let token = answer.at("/status/token").as_str().expect("a token");
    let state = world.server.state();
    let audience = state.authenticator.accounts.audience();
    let user = state
        .authenticator
        .bearer(token, &[audience])
        .map(|b| b.user);
    let user = user.expect("a good token");
    assert_eq!(
        accounts::split_user_name(&user.name),
        Some(("shop", "till"))
    );
    let node_name = &user.extra["authentication.kubernetes.io/node-name"];
    assert_eq!(*node_name, ["a"]);

    let review = json!({"spec": {"token": token}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let answer = world.post(reviews, review.clone()).await;
    assert_eq!(answer.at("/status/authenticated"), true);
    assert_eq!(
        answer.at("/status/user/username"),
        "system:serviceaccount:shop:till"
    );
    assert_eq!(answer.at("/status/audiences/0"), audience);
    let gone = world.delete(POD, json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(gone.code, StatusCode::OK);
    let answer = world.post(reviews, review).await;
    assert_eq!(answer.at("/status/authenticated"), &Value::Null);
}

#[tokio::test]
async fn token_requests_are_checked() {
    let world = World::with_pods().await;
    let pod = |name: &str, uid: &str| json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}}});
    let cases = [
        (
            json!({"spec": {"expirationSeconds": 60}}),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: \
             Invalid value: 60: may not specify a duration less than 10 minutes",
        ),
        (pod("gone", ""), 404, "pods \"gone\" not found"),
        (
            pod("web", "other"),
            409,
            "Operation cannot be fulfilled on Pod \"web\": the UID in the bound object reference \
             (other) does not match the UID in record. The object might have been deleted and then \
             recreated",
        ),
        (
            json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Service", "name": "x"}}}),
            400,
            "cannot bind token to object of type /v1, Kind=Service",
        ),
    ];
    for (body, code, message) in cases {
        let answer = world.post(&format!("{ACCOUNT}/token"), body).await;
        assert_eq!((answer.code.as_u16(), answer.message()), (code, message));
    }
    let missing = "/api/v1/namespaces/shop/serviceaccounts/nobody/token";
    let answer = world.post(missing, json!({})).await;
    assert_eq!(answer.message(), "serviceaccounts \"nobody\" not found");
}

#[tokio::test]
async fn impersonation_needs_permission_for_every_part() {
    let mut world = World::with_pods().await;
    let pods = "/api/v1/namespaces/shop/pods";
    let jane = [("Impersonate-User", "jane")];
    let denied = world.impersonate(pods, &jane).await;
    assert_eq!(
        denied.message(),
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" \
         in the namespace \"shop\""
    );
    let masters = [
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "system:masters"),
    ];
    assert_eq!(world.impersonate(pods, &masters).await.code, StatusCode::OK);
    assert_eq!(
        world.impersonate(pods, &masters[1..]).await.code,
        StatusCode::INTERNAL_SERVER_ERROR
    );

    let role = json!({
        "metadata": {"name": "juggler"},
        "rules": [{"apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"], "verbs": ["impersonate"]}],
    });
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    world.post(&format!("{rbac}/clusterroles"), role).await;
    let binding = json!({
        "metadata": {"name": "juggler"},
        "roleRef": {"kind": "ClusterRole", "name": "juggler"},
        "subjects": [{"kind": "User", "name": "bob"}],
    });
    world
        .post(&format!("{rbac}/clusterrolebindings"), binding)
        .await;
    world.as_user(User::new("bob", &[])).await;
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&jane, ""),
        (
            &masters,
            "groups \"system:masters\" is forbidden: User \"bob\" cannot impersonate resource \
             \"groups\" in API group \"\" at the cluster scope",
        ),
        (
            &[("Impersonate-User", "system:serviceaccount:shop:till")],
            "serviceaccounts \"till\" is forbidden: User \"bob\" cannot impersonate resource \
             \"serviceaccounts\" in API group \"\" in the namespace \"shop\"",
        ),
        (
            &[
                ("Impersonate-User", "jane"),
                ("Impersonate-Extra-Scope", "all"),
            ],
            "userextras.authentication.k8s.io \"all\" is forbidden: User \"bob\" cannot impersonate \
             resource \"userextras/scope\" in API group \"authentication.k8s.io\" at the cluster scope",
        ),
    ];
    for (headers, message) in cases {
        assert_eq!(
            world.impersonate("/version", headers).await.message(),
            message
        );
    }
}

#[tokio::test]
async fn reviews_answer_from_the_roles() {
    let mut world = World::with_pods().await;
    let ask = |user: &str, verb: &str| json!({"spec": {"user": user, "resourceAttributes": {"namespace": "shop", "verb": verb, "resource": "pods"}}});
    let binding = json!({
        "metadata": {"name": "viewers"},
        "roleRef": {"kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": "jane"}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings";
    world.post(bindings, binding).await;
    let reviews = format!("{REVIEWS}/subjectaccessreviews");
    for (user, verb, allowed) in [
        ("jane", "list", true),
        ("jane", "delete", false),
        ("bob", "list", false),
    ] {
        let answer = world.post(&reviews, ask(user, verb)).await;
        assert_eq!(answer.at("/status/allowed"), allowed, "{user} {verb}");
    }
    let answer = world.post(&reviews, ask("jane", "list")).await;
    assert_eq!(
        answer.at("/status/reason"),
        "RBAC: allowed by RoleBinding \"viewers/shop\" of ClusterRole \"view\" to User \"jane\""
    );
    world.as_user(User::new("jane", &[])).await;
    let own = world
        .post(
            &format!("{REVIEWS}/selfsubjectrulesreviews"),
            json!({"spec": {"namespace": "shop"}}),
        )
        .await;
    let rules = own.at("/status/resourceRules").to_string();
    assert!(
        rules.contains("selfsubjectaccessreviews") && rules.contains("pods/log"),
        "{rules}"
    );
    let paths = own.at("/status/nonResourceRules").to_string();
    assert!(paths.contains("/version"), "{paths}");
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let mut world = World::new().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop";
    let bind = |name: &str, role: &str, user: &str| {
        json!({
            "metadata": {"name": name},
            "roleRef": {"kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": user}],
        })
    };
    let role = |name: &str, verbs: &[&str]| {
        json!({
            "metadata": {"name": name},
            "rules": [{"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": verbs}],
        })
    };
    let bindings = format!("{rbac}/rolebindings");
    let roles = format!("{rbac}/roles");
    world.post(&bindings, bind("jane", "admin", "jane")).await;
    world.as_user(User::new("jane", &[])).await;
    let beyond = "roles.rbac.authorization.k8s.io \"b\" is forbidden: user \"jane\" \
                  (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions \
                  not currently held:\n\
                  {APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"list\"]}";
    let own = json!({
        "metadata": {"name": "a"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "delete"]}],
    });
    let cases = [
        (&roles, own, 201, ""),
        (&roles, role("b", &["get", "list"]), 403, beyond),
        (&bindings, bind("view", "view", "bob"), 201, ""),
        (
            &bindings,
            bind("gone", "nothing", "bob"),
            404,
            "clusterroles.rbac.authorization.k8s.io \"nothing\" not found",
        ),
    ];
    for (path, body, code, message) in cases {
        let answer = world.post(path, body).await;
        assert_eq!((answer.code.as_u16(), answer.message()), (code, message));
    }
    let answer = world
        .post(&bindings, bind("all", "cluster-admin", "jane"))
        .await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN);
    let more = json!({"rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]});
    let answer = world.merge(&format!("{roles}/a"), more).await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN);
    let label = json!({"metadata": {"labels": {"x": "y"}}});
    let answer = world.merge(&format!("{roles}/a"), label).await;
    assert_eq!(answer.code, StatusCode::OK);
}
