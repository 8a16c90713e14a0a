//! Who may do what on a fresh cluster, and after bindings change.

use std::path::PathBuf;

use knarr_api::kinds;
use serde_json::json;

use super::*;
use crate::{
    bootstrap,
    config::Config,
    storage::{Expect, Key, Write},
};

struct World {
    store: Store,
    authorizer: Authorizer,
    directory: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl World {
    async fn new() -> World {
        let directory = std::env::temp_dir().join(format!("knarr-rbac-{}", uuid::Uuid::new_v4()));
        let config = Config::for_tests(directory.clone());
        let store = Store::open(&directory, kinds::ALL).await.unwrap();
        bootstrap::ensure(&store, &config).await.unwrap();
        let authorizer = Authorizer::new(store.clone());
        World {
            store,
            authorizer,
            directory,
        }
    }

    fn check(&self, user: &User, wanted: &str, allowed: bool) {
        let decision = self.authorizer.authorize(user, &action(wanted));
        assert_eq!(
            decision == Decision::Allowed,
            allowed,
            "{} {wanted}",
            user.name
        );
    }

    async fn bind(&self, user: &str, role: &str, namespace: &str) {
        let object = json!({
            "metadata": { "name": user, "namespace": namespace },
            "roleRef": { "kind": "ClusterRole", "name": role },
            "subjects": [{ "kind": "User", "name": user }],
        });
        let key = Key::new(&ROLE_BINDING, namespace, user);
        let put = Write::Put {
            key,
            expect: Expect::Any,
            object,
        };
        self.store.commit(vec![put]).await.unwrap();
    }
}

/// `get pods/log in default`, `create deployments.apps in a`, or `get /version`.
fn action(text: &str) -> Action<'_> {
    let (request, namespace) = text.split_once(" in ").unwrap_or((text, ""));
    let (verb, target) = request.split_once(' ').unwrap();
    if target.starts_with('/') {
        return Action::Path { verb, path: target };
    }
    let (target, subresource) = target.split_once('/').unwrap_or((target, ""));
    let (resource, group) = target.split_once('.').unwrap_or((target, ""));
    Action::Resource {
        verb,
        group,
        resource,
        subresource,
        namespace,
        name: "x",
        field_selector: "",
    }
}

#[tokio::test]
async fn a_fresh_cluster_has_the_usual_roles() {
    let world = World::new().await;
    let admin = User::new("system:admin", &["system:masters"]);
    let node = User::new("system:node:a", &["system:nodes"]);
    let nobody = User::new("nobody", &[]);
    let anonymous = User::anonymous();
    let check = |user, wanted, allowed| world.check(user, wanted, allowed);
    check(&admin, "delete namespaces", true);
    check(&node, "patch pods/status in default", false);
    check(&node, "create events in default", true);
    check(&node, "watch endpointslices.discovery.k8s.io", true);
    check(&node, "watch namespaces", true);
    check(&node, "delete namespaces", false);
    check(&node, "create deployments.apps in default", false);
    check(&nobody, "get pods in default", false);
    check(&nobody, "get /apis/apps/v1", true);
    check(
        &nobody,
        "create selfsubjectaccessreviews.authorization.k8s.io",
        true,
    );
    check(&anonymous, "get /version", true);
    check(&anonymous, "get /api", false);
}

#[tokio::test]
async fn a_role_binding_holds_in_its_namespace_and_at_once() {
    let world = World::new().await;
    let jane = User::new("jane", &[]);
    world.check(&jane, "list pods in a", false);
    world.bind("jane", "edit", "a").await;
    world.check(&jane, "list pods in a", true);
    world.check(&jane, "create pods/exec in a", true);
    world.check(&jane, "list pods in b", false);
    world.check(&jane, "list pods", false);
    world.check(
        &jane,
        "create rolebindings.rbac.authorization.k8s.io in a",
        false,
    );
    world.bind("jane", "view", "a").await;
    world.check(&jane, "list pods in a", true);
    world.check(&jane, "get secrets in a", false);
    world.check(&jane, "delete pods in a", false);
    world.bind("jane", "missing", "a").await;
    world.check(&jane, "list pods in a", false);
}
