//! The roles and bindings that every cluster starts with, as far as they concern kinds served here.

use knarr_api::kinds::rbac::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING};
use serde_json::{Value, json};

use super::{Keep, Wanted};
use crate::user::{FRONTS, NODES};

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
pub(super) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const GROUP: &str = "rbac.authorization.k8s.io";

/// Groups and resources that users of a namespace work with.
const WORKLOADS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "configmaps",
            "endpoints",
            "events",
            "pods",
            "pods/log",
            "pods/status",
            "serviceaccounts",
            "services",
            "services/status",
        ],
    ),
    (
        "apps",
        &[
            "controllerrevisions",
            "daemonsets",
            "daemonsets/status",
            "deployments",
            "deployments/scale",
            "deployments/status",
            "replicasets",
            "replicasets/scale",
            "replicasets/status",
            "statefulsets",
            "statefulsets/scale",
            "statefulsets/status",
        ],
    ),
    (
        "batch",
        &["cronjobs", "cronjobs/status", "jobs", "jobs/status"],
    ),
    ("discovery.k8s.io", &["endpointslices"]),
];
/// What of it they also change; the rest is written by controllers and node agents.
const CHANGEABLE: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "configmaps",
            "events",
            "pods",
            "serviceaccounts",
            "services",
        ],
    ),
    (
        "apps",
        &[
            "daemonsets",
            "deployments",
            "deployments/rollback",
            "deployments/scale",
            "replicasets",
            "replicasets/scale",
            "statefulsets",
            "statefulsets/scale",
        ],
    ),
    ("batch", &["cronjobs", "jobs"]),
];
/// What only those see who may also change things.
const SENSITIVE: &[(&str, &[&str])] = &[(
    "",
    &[
        "pods/attach",
        "pods/exec",
        "pods/portforward",
        "pods/proxy",
        "secrets",
        "services/proxy",
    ],
)];
const RBAC: &[(&str, &[&str])] = &[("rbac.authorization.k8s.io", &["rolebindings", "roles"])];
const SELF_REVIEWS: &[(&str, &[&str])] = &[
    (
        "authorization.k8s.io",
        &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
    ),
    ("authentication.k8s.io", &["selfsubjectreviews"]),
];
const REVIEWS: &[(&str, &[&str])] = &[
    ("authentication.k8s.io", &["tokenreviews"]),
    ("authorization.k8s.io", &["subjectaccessreviews"]),
];
const HEALTH_PATHS: &[&str] = &["/healthz", "/livez", "/readyz"];

pub(super) fn objects() -> Vec<Wanted> {
    let mut objects = users_roles();
    objects.extend(system_roles());
    objects.extend(bindings());
    objects.extend(shared());
    objects
}

/// Roles for people: each of the last three gathers what is labelled for it.
fn users_roles() -> Vec<Wanted> {
    let everything = json!([
        { "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] },
        { "nonResourceURLs": ["*"], "verbs": ["*"] },
    ]);
    let mut view = rules(WORKLOADS, READ);
    view.push(json!({ "apiGroups": [""], "resources": ["namespaces"], "verbs": READ }));
    let mut edit = rules(SENSITIVE, READ);
    edit.extend(rules(SENSITIVE, WRITE));
    edit.extend(rules(CHANGEABLE, WRITE));
    let create = json!({ "apiGroups": [""], "resources": ["pods/eviction", "serviceaccounts/token"], "verbs": ["create"] });
    edit.push(create);
    edit.push(
        json!({ "apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"] }),
    );
    let mut admin = rules(RBAC, READ);
    admin.extend(rules(RBAC, WRITE));
    let local = [("authorization.k8s.io", &["localsubjectaccessreviews"][..])];
    admin.extend(rules(&local, &["create"]));
    vec![
        cluster_role("cluster-admin", None, everything),
        cluster_role("system:aggregate-to-view", Some("view"), view.into()),
        cluster_role("system:aggregate-to-edit", Some("edit"), edit.into()),
        cluster_role("system:aggregate-to-admin", Some("admin"), admin.into()),
        gathering_role("view", Some("edit")),
        gathering_role("edit", Some("admin")),
        gathering_role("admin", None),
    ]
}

/// Roles for parts of the cluster and for everybody.
fn system_roles() -> Vec<Wanted> {
    let paths = |lists: &[&[&str]]| {
        let list: Vec<&str> = lists.iter().copied().flatten().copied().collect();
        json!([{ "nonResourceURLs": list, "verbs": ["get"] }])
    };
    let version = &["/version", "/version/"][..];
    let discovery = &[
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/openapi",
        "/openapi/*",
    ][..];
    let details = &["/healthz/*", "/livez/*", "/metrics", "/readyz/*"][..];
    let openid = &["/.well-known/openid-configuration", "/openid/v1/jwks"][..];
    let system = |name: &str, rules: Value| cluster_role(&format!("system:{name}"), None, rules);
    vec![
        system("basic-user", rules(SELF_REVIEWS, &["create"]).into()),
        system("auth-delegator", rules(REVIEWS, &["create"]).into()),
        system("discovery", paths(&[discovery, HEALTH_PATHS, version])),
        system("public-info-viewer", paths(&[HEALTH_PATHS, version])),
        system("monitoring", paths(&[HEALTH_PATHS, details])),
        system("service-account-issuer-discovery", paths(&[openid])),
        system("node", node_rules().into()),
        system("node-proxier", proxy_rules().into()),
        cluster_role("knarr:front", None, front_rules().into()),
    ]
}

/// What a node agent does; to which objects is not for roles to say.
pub(crate) fn node_rules() -> Vec<Value> {
    let change = ["create", "delete", "get", "patch", "update"];
    let core = |resources: &[&str], verbs: &[&str]| json!({ "apiGroups": [""], "resources": resources, "verbs": verbs });
    let mut all = vec![
        core(&["services"], READ),
        core(
            &["nodes"],
            &["create", "get", "list", "patch", "update", "watch"],
        ),
        core(&["nodes/status", "pods/status"], &["patch", "update"]),
        core(&["pods"], &["create", "delete", "get", "list", "watch"]),
        core(&["pods/eviction", "serviceaccounts/token"], &["create"]),
        core(&["configmaps", "secrets"], READ),
        core(&["serviceaccounts"], &["get"]),
        json!({ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": change }),
    ];
    all.extend(rules(EVENTS, &["create", "patch", "update"]));
    all.extend(rules(REVIEWS, &["create"]));
    all
}

const EVENTS: &[(&str, &[&str])] = &[("", &["events"]), ("events.k8s.io", &["events"])];

/// What a proxy follows; namespaces for the names that it answers.
fn proxy_rules() -> Vec<Value> {
    let mut all = rules(
        &[
            ("", &["endpoints", "namespaces", "nodes", "services"]),
            ("discovery.k8s.io", &["endpointslices"]),
            ("networking.k8s.io", &["servicecidrs"]),
        ],
        READ,
    );
    all.extend(rules(EVENTS, &["create", "patch", "update"]));
    all
}

/// What a front follows.
fn front_rules() -> Vec<Value> {
    let followed = [
        ("", &["nodes", "services"][..]),
        ("discovery.k8s.io", &["endpointslices"]),
    ];
    let mut all = rules(&followed, READ);
    all.extend(rules(EVENTS, &["create", "patch", "update"]));
    all
}

fn rules(table: &[(&str, &[&str])], verbs: &[&str]) -> Vec<Value> {
    let rule = |(group, resources): &(&str, &[&str])| json!({ "apiGroups": [group], "resources": resources, "verbs": verbs });
    table.iter().map(rule).collect()
}

/// The label of a role whose rules `role` gathers.
fn label(role: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}")
}

/// `feeds` is the role that gathers this one.
fn cluster_role(name: &str, feeds: Option<&str>, rules: Value) -> Wanted {
    let mut metadata = metadata(name);
    if let Some(role) = feeds {
        metadata["labels"][label(role)] = "true".into();
    }
    Wanted {
        kind: &CLUSTER_ROLE,
        keep: Keep::WithMore("rules"),
        object: json!({ "metadata": metadata, "rules": rules }),
    }
}

/// A role whose rules are those of others.
fn gathering_role(name: &str, feeds: Option<&str>) -> Wanted {
    let mut role = cluster_role(name, feeds, json!([]));
    let selector = json!({ "matchLabels": { label(name): "true" } });
    role.object["aggregationRule"] = json!({ "clusterRoleSelectors": [selector] });
    role
}

fn bindings() -> Vec<Wanted> {
    let group = |name: &str| json!([subject("Group", name)]);
    let everybody = json!([
        subject("Group", "system:authenticated"),
        subject("Group", "system:unauthenticated"),
    ]);
    // A node's agent and its proxy share an identity.
    let proxies = json!([
        subject("User", "system:kube-proxy"),
        subject("Group", NODES),
    ]);
    [
        ("cluster-admin", group("system:masters")),
        ("system:basic-user", group("system:authenticated")),
        ("system:discovery", group("system:authenticated")),
        ("system:monitoring", group("system:monitoring")),
        ("knarr:front", group(FRONTS)),
        ("system:node", Value::Null),
        ("system:node-proxier", proxies),
        ("system:public-info-viewer", everybody),
        (
            "system:service-account-issuer-discovery",
            group("system:serviceaccounts"),
        ),
    ]
    .map(|(name, subjects)| Wanted {
        kind: &CLUSTER_ROLE_BINDING,
        keep: Keep::WithMore("subjects"),
        object: binding(metadata(name), "ClusterRole", name, subjects),
    })
    .into()
}

/// Every node reads the cluster's settings and sees whether a front announces; fronts settle which of them does.
fn shared() -> Vec<Wanted> {
    let core = |resources: &[&str], name: &str, verbs: &[&str]| json!({ "apiGroups": [""], "resources": resources, "resourceNames": [name], "verbs": verbs });
    let lease = |verbs: &[&str]| json!({ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["knarr-front"], "verbs": verbs });
    let create = json!({ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] });
    let table = [
        (
            "knarr:settings",
            NODES,
            json!([core(&["configmaps"], "knarr", READ), lease(READ)]),
        ),
        (
            "knarr:front",
            FRONTS,
            json!([lease(&["get", "patch", "update"]), create]),
        ),
    ];
    let objects = table.map(|(name, group, rules)| {
        let mut metadata = metadata(name);
        metadata["namespace"] = "kube-system".into();
        let role = json!({ "metadata": metadata, "rules": rules });
        let subjects = json!([subject("Group", group)]);
        [
            Wanted {
                kind: &ROLE,
                keep: Keep::WithMore("rules"),
                object: role,
            },
            Wanted {
                kind: &ROLE_BINDING,
                keep: Keep::WithMore("subjects"),
                object: binding(metadata, "Role", name, subjects),
            },
        ]
    });
    objects.into_iter().flatten().collect()
}

fn binding(metadata: Value, kind: &str, role: &str, subjects: Value) -> Value {
    let mut binding = json!({
        "metadata": metadata,
        "roleRef": { "apiGroup": GROUP, "kind": kind, "name": role },
    });
    if subjects.is_array() {
        binding["subjects"] = subjects;
    }
    binding
}

fn subject(kind: &str, name: &str) -> Value {
    json!({ "apiGroup": GROUP, "kind": kind, "name": name })
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
        "annotations": { AUTOUPDATE: "true" },
    })
}
