//! Client certificates that are good, and those that are not.

use std::time::SystemTime;

use super::*;
use crate::pki::{Role, Span};

#[tokio::test]
async fn a_certificate_that_is_not_good_proves_nothing_and_a_token_still_does() {
    let (running, elsewhere) = (run().await, run().await);
    let kubeconfig = std::fs::read_to_string(crate::kubeconfig_path(&running.directory)).unwrap();
    let token = kubeconfig
        .lines()
        .find_map(|line| line.trim().strip_prefix("token: "))
        .unwrap();
    let role = Role::Client {
        user: "system:admin".into(),
        groups: vec!["system:masters".into()],
    };
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    let now = SystemTime::now();
    let issued = |by: &Running, from: SystemTime, to: SystemTime| {
        let authority = &by.server.state().pki.authority;
        authority.issue_within(&role, Span { from, to }).unwrap()
    };
    let get = |path: &str| Request::get(path.to_owned());
    let bearing = |path: &str| get(path).header("authorization", format!("Bearer {token}"));
    for (what, certificate, is_good) in [
        ("a good one", issued(&running, now - year, now + year), true),
        ("ended", issued(&running, now - year * 2, now - year), false),
        (
            "not begun",
            issued(&running, now + year, now + year * 2),
            false,
        ),
        (
            "of another cluster",
            issued(&elsewhere, now - year, now + year),
            false,
        ),
    ] {
        let shown = Some(&certificate);
        let alone = running.send(shown, get("/api/v1/nothing"), "").await.0;
        assert_eq!(alone != 401, is_good, "{what}");
        let with_token = running.send(shown, bearing("/api/v1/nothing"), "").await.0;
        assert_ne!(with_token, 401, "{what}");
        assert_ne!(
            running.send(shown, get("/livez"), "").await.0,
            401,
            "{what}"
        );
    }
}
