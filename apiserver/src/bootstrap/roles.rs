//! The roles and bindings that every cluster starts with, as far as they concern kinds served here.

use knarr_api::kinds::rbac::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING};
use serde_json::{Value, json};

use super::{Keep, Wanted};

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const ALL: &[&str] = &["*"];

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
/// What only those see who may also change things.
const SENSITIVE: &[(&str, &[&str])] = &[(
    "",
    &[
        "pods/attach",
        "pods/eviction",
        "pods/exec",
        "pods/portforward",
        "pods/proxy",
        "secrets",
        "services/proxy",
    ],
)];
const RBAC: &[(&str, &[&str])] = &[("rbac.authorization.k8s.io", &["rolebindings", "roles"])];
const REVIEWS: &[(&str, &[&str])] = &[
    (
        "authorization.k8s.io",
        &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
    ),
    ("authentication.k8s.io", &["selfsubjectreviews"]),
];

pub(super) fn objects() -> Vec<Wanted> {
    let mut objects = cluster_roles();
    objects.extend(bindings());
    objects
}

fn cluster_roles() -> Vec<Wanted> {
    let everything = json!([
        { "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] },
        { "nonResourceURLs": ["*"], "verbs": ["*"] },
    ]);
    let mut view = rules(WORKLOADS, READ);
    view.push(json!({ "apiGroups": [""], "resources": ["namespaces"], "verbs": READ }));
    let mut edit = rules(SENSITIVE, READ);
    edit.extend(rules(SENSITIVE, WRITE));
    edit.extend(rules(WORKLOADS, WRITE));
    let mut admin = rules(RBAC, READ);
    admin.extend(rules(RBAC, WRITE));
    let paths = |list: &[&str]| vec![json!({ "nonResourceURLs": list, "verbs": ["get"] })];
    vec![
        cluster_role("cluster-admin", &[], &[], everything),
        cluster_role("view", &["edit"], &["view"], view.into()),
        cluster_role("edit", &["admin"], &["edit"], edit.into()),
        cluster_role("admin", &[], &["admin"], admin.into()),
        cluster_role(
            "system:basic-user",
            &[],
            &[],
            rules(REVIEWS, &["create"]).into(),
        ),
        cluster_role(
            "system:discovery",
            &[],
            &[],
            paths(&[
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
                "/healthz",
                "/livez",
                "/openapi",
                "/openapi/*",
                "/readyz",
                "/version",
                "/version/",
            ])
            .into(),
        ),
        cluster_role(
            "system:public-info-viewer",
            &[],
            &[],
            paths(&["/healthz", "/livez", "/readyz", "/version", "/version/"]).into(),
        ),
        cluster_role("system:node", &[], &[], node().into()),
    ]
}

/// What a node agent and a proxy do.
fn node() -> Vec<Value> {
    let core_read = [
        "configmaps",
        "endpoints",
        "namespaces",
        "nodes",
        "pods",
        "secrets",
        "serviceaccounts",
        "services",
    ];
    let core_write = [
        "events",
        "nodes",
        "nodes/status",
        "pods",
        "pods/status",
        "services/status",
    ];
    vec![
        json!({ "apiGroups": [""], "resources": core_read, "verbs": READ }),
        json!({ "apiGroups": [""], "resources": core_write, "verbs": ["create", "delete", "get", "patch", "update"] }),
        json!({ "apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"] }),
        json!({ "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": READ }),
        json!({ "apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"] }),
        json!({ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ALL }),
    ]
}

fn rules(table: &[(&str, &[&str])], verbs: &[&str]) -> Vec<Value> {
    let rule = |(group, resources): &(&str, &[&str])| json!({ "apiGroups": [group], "resources": resources, "verbs": verbs });
    table.iter().map(rule).collect()
}

/// `feeds` are the roles that gather this one, `gathers` the label by which this one gathers others.
fn cluster_role(name: &str, feeds: &[&str], gathers: &[&str], rules: Value) -> Wanted {
    let label = |role: &str| format!("rbac.authorization.k8s.io/aggregate-to-{role}");
    let mut metadata = metadata(name);
    for role in feeds {
        metadata["labels"][label(role)] = "true".into();
    }
    let mut object = json!({ "metadata": metadata, "rules": rules });
    if let Some(role) = gathers.first() {
        let selector = json!({ "matchLabels": { label(role): "true" } });
        object["aggregationRule"] = json!({ "clusterRoleSelectors": [selector] });
    }
    Wanted {
        kind: &CLUSTER_ROLE,
        keep: Keep::AsItIs,
        object,
    }
}

fn bindings() -> Vec<Wanted> {
    [
        ("cluster-admin", "cluster-admin", "system:masters"),
        (
            "system:basic-user",
            "system:basic-user",
            "system:authenticated",
        ),
        (
            "system:discovery",
            "system:discovery",
            "system:authenticated",
        ),
        (
            "system:public-info-viewer",
            "system:public-info-viewer",
            "system:authenticated",
        ),
        (
            "system:public-info-viewer:anonymous",
            "system:public-info-viewer",
            "system:unauthenticated",
        ),
        ("system:node", "system:node", "system:nodes"),
    ]
    .map(|(name, role, group)| Wanted {
        kind: &CLUSTER_ROLE_BINDING,
        keep: Keep::AsItIs,
        object: json!({
            "metadata": metadata(name),
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": role,
            },
            "subjects": [{
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Group",
                "name": group,
            }],
        }),
    })
    .into()
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
        "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "true" },
    })
}
