//! Service-account tokens: what they claim, and whether the claims still hold. Signed here, stored nowhere.

mod key;
pub(crate) mod secrets;

#[cfg(test)]
mod tests;

use knarr_api::{
    kind::Kind,
    kinds::{node::NODE, pod::POD, secret::SECRET, serviceaccount::SERVICE_ACCOUNT},
    meta,
    value::{str_of, texts},
};
use serde_json::{Value, json};

pub(crate) use self::key::Key as SigningKey;
use crate::{
    Config, User,
    storage::{Key, Store},
};

/// A lifetime that in-cluster clients ask for by default; those who asked for it may be late to fetch the next token.
const LIFETIME_OF_INJECTED_SECONDS: i64 = 3607;
const LIFETIME_EXTENDED_SECONDS: i64 = 365 * 24 * 60 * 60;
/// What an object that is being deleted keeps its tokens for, beyond its grace period.
const DELETION_LEEWAY_SECONDS: i64 = 60;
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Issues tokens and judges them by what the store holds.
pub(crate) struct Accounts {
    store: Store,
    key: SigningKey,
    issuer: String,
}

/// What a token is to say.
pub(crate) struct Grant<'a> {
    pub(crate) account: &'a Value,
    /// What the token lives and dies with: a pod, a secret or a node.
    pub(crate) bound_to: Option<(&'static Kind, &'a Value)>,
    /// The node of the pod that the token is bound to.
    pub(crate) node: Option<&'a Value>,
    pub(crate) audiences: &'a [String],
    pub(crate) lifetime_seconds: i64,
    pub(crate) now_seconds: i64,
}

/// What a good token says of its bearer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) user: User,
    pub(crate) audiences: Vec<String>,
}

impl Accounts {
    pub(crate) fn new(store: Store, key: SigningKey, config: &Config) -> Accounts {
        Accounts {
            store,
            key,
            issuer: format!("https://kubernetes.default.svc.{}", config.cluster_domain),
        }
    }

    /// Whom tokens for this server itself are addressed to.
    pub(crate) fn audience(&self) -> &str {
        &self.issuer
    }

    /// The token for `grant`; `None` if it cannot be signed.
    pub(crate) fn issue(&self, grant: &Grant<'_>) -> Option<String> {
        self.key.sign(&self.claims(grant))
    }

    fn claims(&self, grant: &Grant<'_>) -> Value {
        let Grant {
            account,
            bound_to,
            node,
            audiences,
            lifetime_seconds,
            now_seconds,
        } = grant;
        let (namespace, name) = (meta::namespace(account), meta::name(account));
        let mut private = json!({
            "namespace": namespace,
            "serviceaccount": reference(account),
        });
        let is_for_pod = bound_to.is_some_and(|(kind, _)| std::ptr::eq(kind, &POD));
        if let Some((kind, object)) = bound_to {
            private[kind.singular] = reference(object);
        }
        if let Some(node) = node {
            private[NODE.singular] = reference(node);
        }
        let is_extended = is_for_pod
            && *lifetime_seconds == LIFETIME_OF_INJECTED_SECONDS
            && audiences.iter().all(|audience| audience == &self.issuer);
        let lifetime_seconds = if is_extended {
            private["warnafter"] = (now_seconds + lifetime_seconds).into();
            LIFETIME_EXTENDED_SECONDS
        } else {
            *lifetime_seconds
        };
        json!({
            "iss": self.issuer,
            "sub": user_name(namespace, name),
            "aud": audiences,
            "iat": now_seconds,
            "nbf": now_seconds,
            "exp": now_seconds + lifetime_seconds,
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": private,
        })
    }

    /// Who bears `token`, if it is good at `now_seconds` for one of `audiences`.
    pub(crate) fn bearer(
        &self,
        token: &str,
        audiences: &[&str],
        now_seconds: i64,
    ) -> Option<Bearer> {
        let claims = self.key.verify(token)?;
        if let Some(bearer) = self.bearer_of_secret(token, &claims, audiences) {
            return Some(bearer);
        }
        let is_in_time = claims["nbf"].as_i64()? <= now_seconds
            && claims["exp"].as_i64()? > now_seconds
            && claims["iss"] == self.issuer.as_str();
        let audiences: Vec<String> = texts(&claims["aud"])
            .into_iter()
            .filter(|audience| audiences.contains(audience))
            .map(str::to_owned)
            .collect();
        if !is_in_time || audiences.is_empty() {
            return None;
        }
        let private = &claims["kubernetes.io"];
        let namespace = str_of(&private["namespace"]);
        let holds = |kind, namespace| {
            let kind: &'static Kind = kind;
            let claim = &private[kind.singular];
            claim.is_null() || self.is_there(kind, namespace, claim, now_seconds)
        };
        let account = &private["serviceaccount"];
        let is_bound_to_node = private["pod"].is_null();
        let all_hold = self.is_there(&SERVICE_ACCOUNT, namespace, account, now_seconds)
            && holds(&POD, namespace)
            && holds(&SECRET, namespace)
            && (!is_bound_to_node || holds(&NODE, ""));
        all_hold.then(|| Bearer {
            user: user(namespace, &claims),
            audiences,
        })
    }

    /// Whether the object that a token names is still the one it was.
    fn is_there(&self, kind: &'static Kind, namespace: &str, claim: &Value, now: i64) -> bool {
        let key = Key::new(kind, namespace, str_of(&claim["name"]));
        let Some(stored) = self.store.get(&key) else {
            return false;
        };
        let object = stored.object();
        if meta::uid(&object) != str_of(&claim["uid"]) {
            return false;
        }
        let Some(deleted) = meta::deletion_timestamp(&object) else {
            return true;
        };
        deleted
            .parse::<jiff::Timestamp>()
            .is_ok_and(|deleted| now <= deleted.as_second() + DELETION_LEEWAY_SECONDS)
    }

    /// What `/.well-known/openid-configuration` says.
    pub(crate) fn openid_configuration(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}/openid/v1/jwks", self.issuer),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// What `/openid/v1/jwks` says.
    pub(crate) fn keys(&self) -> Value {
        json!({ "keys": [self.key.public()] })
    }
}

/// How claims name an object.
fn reference(object: &Value) -> Value {
    json!({ "name": meta::name(object), "uid": meta::uid(object) })
}

fn user_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The groups of every service account of a namespace.
pub(crate) fn groups(namespace: &str) -> [String; 2] {
    [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ]
}

/// Namespace and name in a service account's user name.
pub(crate) fn split_user_name(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user
        .strip_prefix("system:serviceaccount:")?
        .split_once(':')?;
    let is_whole = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
    is_whole.then_some((namespace, name))
}

fn user(namespace: &str, claims: &Value) -> User {
    let private = &claims["kubernetes.io"];
    let account = &private["serviceaccount"];
    let [all, own] = groups(namespace);
    let mut user = User::new(
        user_name(namespace, str_of(&account["name"])),
        &[&all, &own],
    );
    str_of(&account["uid"]).clone_into(&mut user.uid);
    let credential = format!("JTI={}", str_of(&claims["jti"]));
    user.extra.insert(CREDENTIAL_ID.into(), vec![credential]);
    for kind in [&POD, &NODE] {
        let claim = &private[kind.singular];
        for field in ["name", "uid"] {
            if let Some(text) = claim[field].as_str() {
                let key = format!("authentication.kubernetes.io/{}-{field}", kind.singular);
                user.extra.insert(key, vec![text.to_owned()]);
            }
        }
    }
    user
}
