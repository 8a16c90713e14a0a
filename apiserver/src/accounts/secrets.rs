//! Token Secrets: one of type `kubernetes.io/service-account-token` gets its account's token, the cluster's CA and its namespace.
//!
//! Such a token has no end of its own: it is good while the Secret holds it and the account is there.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use knarr_api::{
    kinds::{secret::SECRET, serviceaccount::SERVICE_ACCOUNT},
    meta,
    value::str_of,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Accounts, Bearer, groups, reference, user_name};
use crate::{
    State, User,
    storage::{Expect, Expired, Key, Stored, Write},
    write::{self, Changed},
};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// Who issues tokens that name a Secret, in Kubernetes' words.
const ISSUER: &str = "kubernetes/serviceaccount";
const CLAIM: &str = "kubernetes.io/serviceaccount";

/// What is to become of a Secret.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Keep,
    /// Something that it should hold is missing.
    Fill,
    /// Its account is gone, or never was.
    Delete,
}

/// Fills Secrets until `shutdown`.
pub(crate) async fn run(state: Arc<State>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            // Too far behind to be told every change: look at all of them.
            Expired = follow(&state) => {}
        }
    }
}

/// Looks at every Secret, then at those that change or whose account does.
async fn follow(state: &State) -> Expired {
    let from = state.store.revision();
    let watches = (
        state.store.watch(&SECRET, from),
        state.store.watch(&SERVICE_ACCOUNT, from),
    );
    let (Ok(mut secrets), Ok(mut accounts)) = watches else {
        return Expired;
    };
    settle_all(state, None).await;
    loop {
        tokio::select! {
            event = secrets.next() => match event {
                Ok(event) => settle(state, &event.object.key).await,
                Err(expired) => return expired,
            },
            event = accounts.next() => match event {
                Ok(event) => settle_all(state, Some(&event.object.key.namespace)).await,
                Err(expired) => return expired,
            },
        }
    }
}

async fn settle_all(state: &State, namespace: Option<&str>) {
    for stored in state.store.list(&SECRET, namespace).objects {
        settle(state, &stored.key).await;
    }
}

async fn settle(state: &State, key: &Key) {
    let Some(stored) = state.store.get(key).filter(|stored| is_meant(stored)) else {
        return;
    };
    let secret = stored.object();
    let account = account_of(state, &secret);
    let ca = state.pki.authority.pem();
    let outcome = match plan(&secret, account.as_ref(), ca) {
        Plan::Keep => return,
        Plan::Fill => {
            let account = account.unwrap_or_default();
            let fill = |secret: &mut Value| {
                let token = state.authenticator.accounts.token_of(secret, &account);
                fill(secret, &account, ca, token.as_deref());
                Ok(Changed::Yes)
            };
            write::mutate(state, key, fill).await.map(drop)
        }
        Plan::Delete => {
            let delete = Write::Delete {
                key: key.clone(),
                expect: Expect::Revision(stored.revision),
            };
            let deleted = state.store.commit(vec![delete]).await;
            deleted.map(drop).map_err(|error| error.status())
        }
    };
    // A Secret that changed meanwhile is told of again.
    if let Err(status) = outcome
        && ![404, 409].contains(&status.code)
    {
        tracing::warn!(secret = %key, message = status.message, "filling in a token");
    }
}

/// Spares parsing every Secret of another type.
fn is_meant(stored: &Stored) -> bool {
    let document = stored.document.as_ref();
    document
        .windows(TYPE.len())
        .any(|window| window == TYPE.as_bytes())
}

fn account_of(state: &State, secret: &Value) -> Option<Value> {
    let name = meta::annotation(secret, ACCOUNT_NAME);
    let key = Key::new(&SERVICE_ACCOUNT, meta::namespace(secret), name);
    state.store.get(&key).map(|stored| stored.object())
}

fn plan(secret: &Value, account: Option<&Value>, ca: &str) -> Plan {
    if secret["type"] != TYPE || meta::deletion_timestamp(secret).is_some() {
        return Plan::Keep;
    }
    let uid = meta::annotation(secret, ACCOUNT_UID);
    let account = account.filter(|account| uid.is_empty() || uid == meta::uid(account));
    if account.is_none() {
        return Plan::Delete;
    }
    let data = &secret["data"];
    let is_whole = !uid.is_empty()
        && !str_of(&data["token"]).is_empty()
        && data["ca.crt"] == BASE64.encode(ca)
        && data["namespace"] == BASE64.encode(meta::namespace(secret));
    if is_whole { Plan::Keep } else { Plan::Fill }
}

fn fill(secret: &mut Value, account: &Value, ca: &str, token: Option<&str>) {
    let namespace = meta::namespace(secret).to_owned();
    secret["metadata"]["annotations"][ACCOUNT_UID] = meta::uid(account).into();
    let data = &mut secret["data"];
    if let Some(token) = token.filter(|_| str_of(&data["token"]).is_empty()) {
        data["token"] = BASE64.encode(token).into();
    }
    data["ca.crt"] = BASE64.encode(ca).into();
    data["namespace"] = BASE64.encode(namespace).into();
}

impl Accounts {
    /// The token that lives as long as `secret`.
    pub(super) fn token_of(&self, secret: &Value, account: &Value) -> Option<String> {
        let (namespace, name) = (meta::namespace(account), meta::name(account));
        self.key.sign(&json!({
            "iss": ISSUER,
            "sub": user_name(namespace, name),
            format!("{CLAIM}/namespace"): namespace,
            format!("{CLAIM}/secret.name"): meta::name(secret),
            format!("{CLAIM}/service-account.name"): name,
            format!("{CLAIM}/service-account.uid"): meta::uid(account),
        }))
    }

    /// Who bears a token that a Secret holds.
    pub(super) fn bearer_of_secret(
        &self,
        token: &str,
        claims: &Value,
        audiences: &[&str],
    ) -> Option<Bearer> {
        let claim = |name: &str| str_of(&claims[format!("{CLAIM}/{name}")]);
        let namespace = claim("namespace");
        if claims["iss"] != ISSUER || !audiences.contains(&self.issuer.as_str()) {
            return None;
        }
        let found = |kind, name| Some(self.store.get(&Key::new(kind, namespace, name))?.object());
        let secret = found(&SECRET, claim("secret.name"))?;
        let account = found(&SERVICE_ACCOUNT, claim("service-account.name"))?;
        let holds = secret["data"]["token"] == BASE64.encode(token)
            && meta::deletion_timestamp(&secret).is_none()
            && meta::uid(&account) == claim("service-account.uid");
        if !holds {
            return None;
        }
        let [all, own] = groups(namespace);
        let mut user = User::new(user_name(namespace, meta::name(&account)), &[&all, &own]);
        str_of(&reference(&account)["uid"]).clone_into(&mut user.uid);
        Some(Bearer {
            user,
            audiences: vec![self.issuer.clone()],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(annotations: Value, data: Value) -> Value {
        let metadata = json!({"name": "t", "namespace": "shop", "annotations": annotations});
        json!({"metadata": metadata, "type": TYPE, "data": data})
    }

    #[test]
    fn a_secret_is_filled_once_and_goes_with_its_account() {
        let account = json!({"metadata": {"name": "till", "namespace": "shop", "uid": "a-1"}});
        let mut named = secret(json!({ACCOUNT_NAME: "till"}), Value::Null);
        assert_eq!(plan(&named, Some(&account), "CA"), Plan::Fill);
        assert_eq!(plan(&named, None, "CA"), Plan::Delete);
        fill(&mut named, &account, "CA", Some("a.b.c"));
        assert_eq!(named["data"]["token"], BASE64.encode("a.b.c"));
        assert_eq!(named["data"]["namespace"], BASE64.encode("shop"));
        assert_eq!(plan(&named, Some(&account), "CA"), Plan::Keep);
        assert_eq!(plan(&named, Some(&account), "another CA"), Plan::Fill);
        let again = json!({"metadata": {"name": "till", "namespace": "shop", "uid": "a-2"}});
        assert_eq!(plan(&named, Some(&again), "CA"), Plan::Delete);
        let opaque = json!({"metadata": {"name": "o"}, "type": "Opaque"});
        assert_eq!(plan(&opaque, None, "CA"), Plan::Keep);
    }
}
