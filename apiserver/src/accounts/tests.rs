//! Tokens from their signing to the end of what they are bound to.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};
use knarr_api::kinds;

use super::*;
use crate::storage::{Expect, Write};

struct World {
    accounts: Accounts,
    directory: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

const NOW: i64 = 1_700_000_000;
const AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

impl World {
    async fn new() -> World {
        let directory =
            std::env::temp_dir().join(format!("knarr-accounts-{}", uuid::Uuid::new_v4()));
        let config = Config::for_tests(directory.clone());
        let store = Store::open(&directory, kinds::ALL).await.unwrap();
        let key = crate::keys::Keys::open(&config).unwrap().accounts;
        let world = World {
            accounts: Accounts::new(store, key, &config),
            directory,
        };
        world.put(&SERVICE_ACCOUNT, account()).await;
        world.put(&POD, pod("p-1")).await;
        world
    }

    async fn put(&self, kind: &'static Kind, object: Value) {
        let key = Key::new(kind, "shop", meta::name(&object));
        let expect = Expect::Any;
        let put = Write::Put {
            key,
            expect,
            object,
        };
        self.accounts.store.commit(vec![put]).await.unwrap();
    }

    async fn delete(&self, kind: &'static Kind, name: &str) {
        let key = Key::new(kind, "shop", name);
        let expect = Expect::Any;
        let delete = Write::Delete { key, expect };
        self.accounts.store.commit(vec![delete]).await.unwrap();
    }

    fn token(&self) -> String {
        self.token_for(600)
    }

    fn token_for(&self, lifetime_seconds: i64) -> String {
        let grant = Grant {
            account: &account(),
            bound_to: Some((&POD, &pod("p-1"))),
            node: None,
            audiences: &[AUDIENCE.to_owned()],
            lifetime_seconds,
            now_seconds: NOW,
        };
        self.accounts.issue(&grant).unwrap()
    }

    fn is_good(&self, token: &str, at: i64) -> bool {
        self.accounts.bearer(token, &[AUDIENCE], at).is_some()
    }
}

fn account() -> Value {
    json!({"metadata": {"name": "till", "namespace": "shop", "uid": "a-1"}})
}

fn pod(uid: &str) -> Value {
    json!({"metadata": {"name": "web", "namespace": "shop", "uid": uid}})
}

#[tokio::test]
async fn a_token_says_who_its_bearer_is() {
    let world = World::new().await;
    let bearer = world.accounts.bearer(&world.token(), &[AUDIENCE], NOW);
    let user = bearer.expect("a good token").user;
    assert_eq!(user.name, "system:serviceaccount:shop:till");
    assert_eq!(user.uid, "a-1");
    assert_eq!(
        user.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:shop",
            "system:authenticated"
        ]
    );
    let pod = &user.extra["authentication.kubernetes.io/pod-name"];
    assert_eq!(*pod, ["web"]);
}

#[tokio::test]
async fn a_token_is_good_in_its_time_for_its_audience_only() {
    let world = World::new().await;
    let token = world.token();
    for (at, good) in [
        (NOW - 1, false),
        (NOW, true),
        (NOW + 599, true),
        (NOW + 600, false),
    ] {
        assert_eq!(world.is_good(&token, at), good, "{at}");
    }
    assert_eq!(world.accounts.bearer(&token, &["vault"], NOW), None);
}

#[tokio::test]
async fn a_changed_token_is_nobodys() {
    let world = World::new().await;
    let token = world.token();
    let (head, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = head.split_once('.').unwrap();
    let none = "eyJhbGciOiJub25lIn0";
    for forged in [
        format!("{header}.{claims}."),
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{header}.{claims}x.{signature}"),
        format!("{header}.{claims}.{}", &signature[..20]),
        "a.b.c".into(),
        String::new(),
    ] {
        assert!(!world.is_good(&forged, NOW), "{forged}");
    }
    assert!(world.is_good(&token, NOW));
}

#[tokio::test]
async fn a_token_dies_with_its_pod_or_account() {
    let world = World::new().await;
    let token = world.token();
    world.put(&POD, pod("p-2")).await;
    assert!(!world.is_good(&token, NOW), "another pod has the name");
    world.put(&POD, pod("p-1")).await;
    assert!(world.is_good(&token, NOW));
    let mut leaving = pod("p-1");
    leaving["metadata"]["deletionTimestamp"] = "2023-11-14T22:13:20Z".into();
    world.put(&POD, leaving).await;
    assert!(world.is_good(&token, NOW + 60));
    assert!(!world.is_good(&token, NOW + 61));
    world.delete(&POD, "web").await;
    assert!(!world.is_good(&token, NOW));
    world.put(&POD, pod("p-1")).await;
    world.delete(&SERVICE_ACCOUNT, "till").await;
    assert!(!world.is_good(&token, NOW));
}

#[tokio::test]
async fn the_lifetime_that_injected_volumes_ask_for_is_stretched() {
    let world = World::new().await;
    let token = world.token_for(LIFETIME_OF_INJECTED_SECONDS);
    assert!(world.is_good(&token, NOW + LIFETIME_OF_INJECTED_SECONDS + 1));
    assert!(!world.is_good(&token, NOW + LIFETIME_EXTENDED_SECONDS));
}

#[tokio::test]
async fn tokens_outlive_the_process_that_signed_them() {
    let world = World::new().await;
    let token = world.token();
    let config = Config::for_tests(world.directory.clone());
    let key = crate::keys::Keys::open(&config).unwrap().accounts;
    let again = Accounts::new(world.accounts.store.clone(), key, &config);
    assert!(again.bearer(&token, &[AUDIENCE], NOW).is_some());
}

#[tokio::test]
async fn a_token_of_a_secret_is_good_while_the_secret_holds_it() {
    let world = World::new().await;
    let account = account();
    let mut secret = json!({"metadata": {"name": "t", "namespace": "shop"}});
    let token = world.accounts.token_of(&secret, &account).unwrap();
    assert!(!world.is_good(&token, NOW), "nobody holds it yet");
    secret["data"] = json!({"token": STANDARD.encode(&token)});
    world.put(&SECRET, secret.clone()).await;
    let forever = NOW + 20 * 365 * 24 * 60 * 60;
    let bearer = world.accounts.bearer(&token, &[AUDIENCE], forever);
    let user = bearer.expect("a good token").user;
    assert_eq!(
        (user.name.as_str(), user.uid.as_str()),
        ("system:serviceaccount:shop:till", "a-1")
    );
    assert_eq!(world.accounts.bearer(&token, &["vault"], NOW), None);
    secret["data"] = json!({"token": STANDARD.encode("another")});
    world.put(&SECRET, secret).await;
    assert!(!world.is_good(&token, NOW));
}
