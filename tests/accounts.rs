//! Service accounts as tools outside of pods use them: by a token that a Secret holds.

use std::time::Duration;

use crate::lab::{wait, world::World};

const TIME_MAX: Duration = Duration::from_secs(20);
const TOKEN_SECRET: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: { name: robot }
---
apiVersion: v1
kind: Secret
metadata:
  name: robot-token
  annotations: { kubernetes.io/service-account.name: robot }
type: kubernetes.io/service-account-token
"#;

#[test]
fn a_secret_gets_a_token_that_says_who_its_bearer_is() {
    let mut world = World::new(1);
    world.nodes[0].start(&["server"]);
    world.wait_for_api();
    world.apply(TOKEN_SECRET);
    let template = r#"go-template={{range $key, $value := .data}}{{$key}} {{end}}{{.data.token | base64decode}}"#;
    let token = wait::until("the Secret is filled", TIME_MAX, || {
        let shown = world.try_kubectl(&["get", "secret/robot-token", "-o", template]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        match shown.strip_prefix("ca.crt namespace token ") {
            Some(token) => Ok(token.to_owned()),
            None => Err(shown),
        }
    });
    let authority = world.nodes[0].data_dir().join("pki/ca.crt");
    let who = [
        "auth",
        "whoami",
        "--output=jsonpath={.status.userInfo.username}",
        "--kubeconfig=/dev/null",
        &format!("--certificate-authority={}", authority.display()),
        &format!("--server=https://{}:6443", world.nodes[0].ip),
        &format!("--token={token}"),
    ];
    assert_eq!(world.kubectl(&who), "system:serviceaccount:default:robot");
    world.kubectl(&["delete", "serviceaccount/robot"]);
    wait::until("the Secret goes with its account", TIME_MAX, || {
        let found = world.try_kubectl(&["get", "secret/robot-token"]);
        if found.status.success() {
            Err("it is there")
        } else {
            Ok(())
        }
    });
    let refused = world.try_kubectl(&who);
    assert!(!refused.status.success(), "the token is good no more");
}
