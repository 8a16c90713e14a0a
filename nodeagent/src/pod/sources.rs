//! Fetches the ConfigMaps, Secrets and tokens that a pod's environment and volumes are made from.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::try_join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec, Secret, ServiceAccount, Volume};
use knarr_client::Api;
use kube::api::PostParams;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use super::{Identity, containers};

/// Everything the pod refers to; what is missing is absent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// Tokens by audience and lifetime in seconds.
    pub(crate) tokens: BTreeMap<TokenKey, String>,
}

/// What distinguishes one service account token of a pod from another.
pub(crate) type TokenKey = (Option<String>, i64);

/// A source that could not be fetched.
#[derive(Debug, thiserror::Error)]
#[error("fetching {kind} {name:?}")]
pub(crate) struct Error {
    kind: &'static str,
    name: String,
    source: Box<kube::Error>,
}

/// The names a pod refers to.
#[derive(Debug, Default, PartialEq, Eq)]
struct References {
    config_maps: BTreeSet<String>,
    secrets: BTreeSet<String>,
    tokens: BTreeSet<TokenKey>,
}

/// Fetches what the pod refers to, asking for nothing else.
pub(crate) async fn fetch(
    client: &Client,
    identity: &Identity,
    spec: &PodSpec,
) -> Result<Sources, Error> {
    let References {
        config_maps,
        secrets,
        tokens,
    } = references(spec);
    // A pod waits for these before its first container: all at once.
    let (config_maps, secrets, tokens) = tokio::try_join!(
        try_join_all(
            config_maps
                .into_iter()
                .map(|name| get(client, identity, "ConfigMap", name))
        ),
        try_join_all(
            secrets
                .into_iter()
                .map(|name| get(client, identity, "Secret", name))
        ),
        try_join_all(tokens.into_iter().map(|key| async move {
            let token = token(client, identity, spec, &key).await?;
            Ok::<_, Error>(token.map(|token| (key, token)))
        })),
    )?;
    Ok(Sources {
        config_maps: config_maps.into_iter().flatten().collect(),
        secrets: secrets.into_iter().flatten().collect(),
        tokens: tokens.into_iter().flatten().collect(),
    })
}

async fn get<K>(
    client: &Client,
    identity: &Identity,
    kind: &'static str,
    name: String,
) -> Result<Option<(String, K)>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api = Api::<K>::namespaced(client.clone(), &identity.namespace);
    let found = api.get_opt(&name).await.map_err(failed(kind, &name))?;
    Ok(found.map(|found| (name, found)))
}

async fn token(
    client: &Client,
    identity: &Identity,
    spec: &PodSpec,
    key: &TokenKey,
) -> Result<Option<String>, Error> {
    let account = spec.service_account_name.as_deref().unwrap_or("default");
    let accounts = kube::Api::<ServiceAccount>::namespaced(client.clone(), &identity.namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(key.0.iter().cloned().collect()),
            expiration_seconds: Some(key.1),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(identity.name.clone()),
                uid: Some(identity.uid.clone()),
            }),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    match accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await
    {
        Ok(answer) => Ok(answer.status.and_then(|status| status.token)),
        // A server without tokens will not learn them while the pod waits.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => Ok(None),
        Err(error) => Err(failed("token of ServiceAccount", account)(error)),
    }
}

fn failed(kind: &'static str, name: &str) -> impl Fn(kube::Error) -> Error {
    move |source| Error {
        kind,
        name: name.to_owned(),
        source: Box::new(source),
    }
}

fn references(spec: &PodSpec) -> References {
    let mut references = References::default();
    for (_, container) in containers(spec) {
        references.add_environment(container);
    }
    for volume in spec.volumes.iter().flatten() {
        references.add_volume(volume);
    }
    references
}

impl References {
    fn add_environment(&mut self, container: &Container) {
        for from in container.env_from.iter().flatten() {
            self.config_maps
                .extend(from.config_map_ref.iter().map(|from| from.name.clone()));
            self.secrets
                .extend(from.secret_ref.iter().map(|from| from.name.clone()));
        }
        for from in container
            .env
            .iter()
            .flatten()
            .filter_map(|env| env.value_from.as_ref())
        {
            self.config_maps
                .extend(from.config_map_key_ref.iter().map(|from| from.name.clone()));
            self.secrets
                .extend(from.secret_key_ref.iter().map(|from| from.name.clone()));
        }
    }

    fn add_volume(&mut self, volume: &Volume) {
        self.config_maps
            .extend(volume.config_map.iter().map(|from| from.name.clone()));
        self.secrets.extend(
            volume
                .secret
                .iter()
                .filter_map(|from| from.secret_name.clone()),
        );
        let projected = volume
            .projected
            .iter()
            .flat_map(|from| from.sources.iter().flatten());
        for from in projected {
            self.config_maps
                .extend(from.config_map.iter().map(|from| from.name.clone()));
            self.secrets
                .extend(from.secret.iter().map(|from| from.name.clone()));
            self.tokens
                .extend(from.service_account_token.iter().map(token_key));
        }
    }
}

/// The shortest lifetime of the tokens in a pod's volumes; `None` if it has none.
pub(crate) fn token_lifetime(spec: &PodSpec) -> Option<Duration> {
    let shortest = references(spec).tokens.iter().map(|key| key.1).min()?;
    Some(Duration::from_secs(u64::try_from(shortest).unwrap_or(0)))
}

/// The pod's volumes of ConfigMaps and Secrets that users may change while it runs; `None` if it has none.
pub(crate) fn only_objects(spec: &PodSpec) -> Option<PodSpec> {
    let mut narrowed = spec.clone();
    let volumes = narrowed.volumes.get_or_insert_default();
    volumes.retain(|volume| {
        let mut references = References::default();
        references.add_volume(volume);
        let shows_objects = !references.config_maps.is_empty() || !references.secrets.is_empty();
        shows_objects && references.tokens.is_empty()
    });
    if volumes.is_empty() {
        return None;
    }
    let init = narrowed.init_containers.iter_mut().flatten();
    for container in init.chain(&mut narrowed.containers) {
        (container.env, container.env_from) = (None, None);
    }
    Some(narrowed)
}

/// The key under which a projection's token is fetched.
pub(crate) fn token_key(
    from: &k8s_openapi::api::core::v1::ServiceAccountTokenProjection,
) -> TokenKey {
    let audience = from
        .audience
        .clone()
        .filter(|audience| !audience.is_empty());
    (audience, from.expiration_seconds.unwrap_or(3600))
}
