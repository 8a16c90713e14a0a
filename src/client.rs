//! Speaks to the API server for the client commands: finds the kubeconfig, sends, and turns failures into one line.

mod connection;
mod kubeconfig;

use anyhow::{Context, Result};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use knarr_api::{kind::Kind, kinds};
use kube::{Client, client::Body};
use serde_json::Value;

pub(crate) use self::connection::{Proof, Server, Trust, client};
use crate::{
    exit::{Code, Failure},
    settings::Settings,
};

pub(crate) const JSON: &str = "application/json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// A client for the cluster of `--kubeconfig`, or of the data directory.
pub(crate) fn connect(settings: &Settings) -> Result<Client> {
    let path = settings
        .kubeconfig
        .clone()
        .unwrap_or_else(|| settings.data_dir.join("kubeconfig.yaml"));
    let text = std::fs::read_to_string(&path).map_err(|_| {
        Failure::new(
            Code::Unreachable,
            format!("cannot read a kubeconfig at {}", path.display()),
        )
        .hint("start one with `knarr up`, or name another with --kubeconfig")
    })?;
    let server = kubeconfig::server(&text, &path)
        .with_context(|| format!("cannot use the kubeconfig at {}", path.display()))?;
    client(server)
}

/// rustls asks for one provider per process.
pub(crate) fn install_crypto() {
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
}

/// One request; `query` is already encoded and may be empty.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) accept: &'a str,
    pub(crate) body: Vec<u8>,
}

impl Call<'_> {
    pub(crate) fn get(path: String) -> Call<'static> {
        Call {
            method: Method::GET,
            path,
            query: "",
            content_type: JSON,
            accept: JSON,
            body: Vec::new(),
        }
    }
}

/// Sends and gives the answer, whatever its status.
pub(crate) async fn send(client: &Client, call: Call<'_>) -> Result<(StatusCode, Value)> {
    let Call {
        method,
        path,
        query,
        content_type,
        accept,
        body,
    } = call;
    let uri = if query.is_empty() {
        path
    } else {
        format!("{path}?{query}")
    };
    let request = Request::builder()
        .method(method)
        .uri(&uri)
        .header(http::header::ACCEPT, accept)
        .header(http::header::CONTENT_TYPE, content_type)
        .body(Body::from(body))?;
    let response = client.send(request).await.map_err(unreachable)?;
    let status = response.status();
    let bytes = response
        .into_body()
        .collect()
        .await
        .map_err(unreachable)?
        .to_bytes();
    let value = serde_json::from_slice(&bytes)
        .with_context(|| format!("{uri} answered {status} with something that is not JSON"))?;
    Ok((status, value))
}

/// Sends and fails unless the answer is a success.
pub(crate) async fn ask(client: &Client, call: Call<'_>) -> Result<Value> {
    let (status, value) = send(client, call).await?;
    if status.is_success() {
        Ok(value)
    } else {
        Err(refusal(&value))
    }
}

/// A `Status` body as kubectl words it.
pub(crate) fn refusal(status: &Value) -> anyhow::Error {
    let text = |key: &str| status[key].as_str().unwrap_or_default();
    let line = match text("reason") {
        "" => format!("error from server: {}", text("message")),
        reason => format!("error from server ({reason}): {}", text("message")),
    };
    Failure::new(Code::Failed, line).into()
}

fn unreachable(error: impl std::error::Error + 'static) -> anyhow::Error {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Failure::new(
        Code::Unreachable,
        format!("cannot reach the API server: {cause}"),
    )
    .hint("is `knarr up` or `knarr server` running?")
    .into()
}

/// Finds a kind by any of the names kubectl takes: `svc`, `services`, `service`, `deployments.apps`, `Service`.
pub(crate) fn kind_named(name: &str) -> Result<&'static Kind> {
    let lower = name.to_lowercase();
    let named = |k: &Kind| {
        [k.plural, k.singular].contains(&lower.as_str())
            || k.short_names.contains(&lower.as_str())
            || k.group_resource() == lower
    };
    kinds::ALL
        .iter()
        .copied()
        .find(|k| named(k))
        .ok_or_else(|| {
            Failure::new(
                Code::Unreadable,
                format!("the server doesn't have a resource type {name:?}"),
            )
            .hint("`kubectl api-resources` lists what is served")
            .into()
        })
}

/// `/api/v1/namespaces/N/pods` or `/apis/G/V/…`; no namespace lists them all.
pub(crate) fn collection_path(kind: &Kind, namespace: Option<&str>) -> String {
    let root = if kind.group.is_empty() {
        "/api".to_owned()
    } else {
        format!("/apis/{}", kind.group)
    };
    match namespace {
        Some(namespace) if kind.is_namespaced() => {
            format!(
                "{root}/{}/namespaces/{namespace}/{}",
                kind.version, kind.plural
            )
        }
        _ => format!("{root}/{}/{}", kind.version, kind.plural),
    }
}

pub(crate) fn object_path(kind: &Kind, namespace: &str, name: &str) -> String {
    format!("{}/{name}", collection_path(kind, Some(namespace)))
}

/// Percent-encodes a query value.
pub(crate) fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte as char)
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
