//! Fetches the ConfigMaps, Secrets and tokens that a pod's environment and volumes are made from.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec, Secret, ServiceAccount, Volume};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};

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
    let references = references(spec);
    let mut sources = Sources::default();
    let config_maps = Api::<ConfigMap>::namespaced(client.clone(), &identity.namespace);
    for name in references.config_maps {
        let found = config_maps
            .get_opt(&name)
            .await
            .map_err(failed("ConfigMap", &name))?;
        sources
            .config_maps
            .extend(found.map(|found| (found.name_any(), found)));
    }
    let secrets = Api::<Secret>::namespaced(client.clone(), &identity.namespace);
    for name in references.secrets {
        let found = secrets
            .get_opt(&name)
            .await
            .map_err(failed("Secret", &name))?;
        sources
            .secrets
            .extend(found.map(|found| (found.name_any(), found)));
    }
    for key in references.tokens {
        let token = token(client, identity, spec, &key).await?;
        sources.tokens.extend(token.map(|token| (key, token)));
    }
    Ok(sources)
}

async fn token(
    client: &Client,
    identity: &Identity,
    spec: &PodSpec,
    key: &TokenKey,
) -> Result<Option<String>, Error> {
    let account = spec.service_account_name.as_deref().unwrap_or("default");
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &identity.namespace);
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
