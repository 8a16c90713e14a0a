//! How a machine gets its certificates: it proves the join token, checks the server's CA against it, and has keys signed.

use std::{
    collections::BTreeSet, net::IpAddr, os::unix::fs::DirBuilderExt, path::Path, sync::Arc,
    time::SystemTime,
};

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use knarr_client::Identity;
use kube::Client;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::{
    client::{self, Proof, Server, Trust},
    durable,
    exit::{Code, Failure},
};

/// What a machine needs to speak to the server; its certificates may be replaced meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) ca: String,
    pub(crate) client: Arc<Identity>,
    /// What a node shows to the server.
    pub(crate) serving: Option<Arc<Identity>>,
}

/// The same as the server signed it, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issued {
    pub(crate) ca: String,
    pub(crate) client_certificate: String,
    pub(crate) client_key: String,
    /// What a node needs to be spoken to.
    pub(crate) serving: Option<Serving>,
}

/// What a node shows to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Serving {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Credentials {
    pub(crate) fn new(issued: &Issued) -> Result<Self> {
        let Issued {
            ca,
            client_certificate,
            client_key,
            serving,
        } = issued;
        let client = Identity::new(client_certificate, client_key)?;
        let serving = match serving {
            Some(Serving { certificate, key }) => Some(Arc::new(Identity::new(certificate, key)?)),
            None => None,
        };
        Ok(Credentials {
            ca: ca.clone(),
            client: Arc::new(client),
            serving,
        })
    }

    /// Shows other certificates from here on; connections that are open stay as they are.
    pub(crate) fn replace(&self, issued: &Issued) -> Result<()> {
        let client = (&issued.client_certificate, &issued.client_key);
        self.client.replace(client.0, client.1)?;
        if let Some((shown, Serving { certificate, key })) =
            self.serving.as_ref().zip(issued.serving.as_ref())
        {
            shown.replace(certificate, key)?;
        }
        Ok(())
    }

    /// Whether what a node shows names these addresses; what shows nothing need not.
    pub(crate) fn are_good_for(&self, ips: &[IpAddr]) -> bool {
        let serving = self.serving.as_ref();
        serving.is_none_or(|serving| serving.names_all(ips))
    }

    /// When the first of the next certificates is due.
    pub(crate) fn due(&self) -> SystemTime {
        let serving = self.serving.as_ref().map(|serving| serving.due());
        let client = self.client.due();
        serving.map_or(client, |serving| serving.min(client))
    }
}

/// What a machine joins as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    Node,
    Front,
}

/// Who joins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newcomer<'a> {
    pub(crate) part: Part,
    pub(crate) name: &'a str,
    pub(crate) ips: &'a [IpAddr],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JoinRequest<'a> {
    part: Part,
    node_name: &'a str,
    #[serde(rename = "nodeIPs")]
    node_ips: &'a [IpAddr],
    #[serde(rename = "clientCSR")]
    client_csr: String,
    #[serde(rename = "servingCSR", skip_serializing_if = "Option::is_none")]
    serving_csr: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JoinAnswer {
    ca: String,
    client_certificate: String,
    serving_certificate: Option<String>,
}

/// `K1<sha256 of the CA certificate>::<secret>`.
#[derive(Debug, PartialEq, Eq)]
struct Token<'a> {
    ca_sha256: &'a str,
    secret: &'a str,
}

fn parse_token(text: &str) -> Result<Token<'_>> {
    let parts = text
        .trim()
        .strip_prefix("K1")
        .and_then(|rest| rest.split_once("::"));
    match parts {
        Some((ca_sha256, secret)) if ca_sha256.len() == 64 && !secret.is_empty() => {
            Ok(Token { ca_sha256, secret })
        }
        _ => Err(Failure::new(Code::Unreadable, "that is no join token")
            .hint("run `knarr token` on the server")
            .into()),
    }
}

/// Joins, or finds the credentials of an earlier join.
pub(crate) async fn credentials(
    dir: &Path,
    server: &str,
    token: &str,
    newcomer: Newcomer<'_>,
) -> Result<Credentials> {
    let token = parse_token(token)?;
    let ca = trusted_ca(server, token.ca_sha256).await;
    if let Some(kept) =
        load(dir, newcomer.part).filter(|kept| ca.as_ref().map_or(true, |ca| *ca == kept.ca))
    {
        return Credentials::new(&kept);
    }
    let joined = join(server, &ca?, token.secret, None, newcomer).await?;
    save(dir, &joined)?;
    Credentials::new(&joined)
}

/// Joins again, as the machine that `credentials` are for, and keeps what it gets.
pub(crate) async fn again(
    dir: &Path,
    server: &str,
    token: &str,
    credentials: &Credentials,
    newcomer: Newcomer<'_>,
) -> Result<Issued> {
    let secret = parse_token(token)?.secret;
    let ca = &credentials.ca;
    let own = Some(credentials.client.clone());
    let issued = match join(server, ca, secret, own, newcomer).await {
        Ok(issued) => issued,
        // A certificate that has ended proves nothing; the token still does, once the node's lease has run out.
        Err(_) => join(server, ca, secret, None, newcomer).await?,
    };
    save(dir, &issued)?;
    Ok(issued)
}

/// Fetches the CA unverified, and believes it only if its hash is the one the token names.
async fn trusted_ca(server: &str, expected_sha256: &str) -> Result<String> {
    let unproven = Server {
        url: url(server)?,
        trust: Trust::Anybody,
        identity: None,
        token: None,
        local: None,
    };
    let request = http::Request::get("/cacerts").body(kube::client::Body::empty())?;
    let pem =
        String::from_utf8(send(unproven, request, server).await?).context("/cacerts is not PEM")?;
    let der =
        CertificateDer::from_pem_slice(pem.as_bytes()).context("/cacerts holds no certificate")?;
    let found: String = Sha256::digest(&der)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if found == expected_sha256 {
        return Ok(pem);
    }
    Err(Failure::new(
        Code::Failed,
        format!("{server} is not the server that the token is for"),
    )
    .hint("run `knarr token` on that server")
    .into())
}

async fn join(
    server: &str,
    ca: &str,
    secret: &str,
    own: Option<Arc<Identity>>,
    newcomer: Newcomer<'_>,
) -> Result<Issued> {
    let Newcomer { part, name, ips } = newcomer;
    let (client_key, client_csr) = key_and_csr(name)?;
    let (serving_key, serving_csr) = match part {
        Part::Node => key_and_csr(name).map(|(key, csr)| (Some(key), Some(csr)))?,
        Part::Front => (None, None),
    };
    let proven = Server {
        url: url(server)?,
        trust: Trust::Authorities(ca.to_owned()),
        identity: own.map(Proof::Renewed),
        token: Some(secret.to_owned()),
        local: None,
    };
    let body = serde_json::to_vec(&JoinRequest {
        part,
        node_name: name,
        node_ips: ips,
        client_csr,
        serving_csr,
    })?;
    let request = http::Request::post("/knarr/v1/join")
        .header(http::header::CONTENT_TYPE, client::JSON)
        .body(kube::client::Body::from(body))?;
    let answer: JoinAnswer = serde_json::from_slice(&send(proven, request, server).await?)?;
    Ok(Issued {
        ca: answer.ca,
        client_certificate: answer.client_certificate,
        client_key,
        serving: answer
            .serving_certificate
            .zip(serving_key)
            .map(|(certificate, key)| Serving { certificate, key }),
    })
}

/// A client that shows the machine's certificate and trusts only the cluster's CA; connections from addresses that are no
/// longer `local` end.
pub(crate) fn client(
    server: &str,
    credentials: &Credentials,
    local: watch::Receiver<BTreeSet<IpAddr>>,
) -> Result<Client> {
    client::client(Server {
        url: url(server)?,
        trust: Trust::Authorities(credentials.ca.clone()),
        identity: Some(Proof::Renewed(credentials.client.clone())),
        token: None,
        local: Some(local),
    })
}

/// A fresh key as PEM, and a request to have it signed; the server decides what the certificate says.
fn key_and_csr(name: &str) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok((key.serialize_pem(), params.serialize_request(&key)?.pem()?))
}

fn url(server: &str) -> Result<http::Uri> {
    server
        .parse()
        .ok()
        .filter(|uri: &http::Uri| uri.scheme_str() == Some("https"))
        .ok_or_else(|| {
            Failure::new(Code::Unreadable, format!("{server:?} is not an https URL"))
                .hint("as in --server https://192.0.2.1:6443")
                .into()
        })
}

async fn send(
    to: Server,
    request: http::Request<kube::client::Body>,
    server: &str,
) -> Result<Vec<u8>> {
    let client = client::client(to)?;
    let response = client.send(request).await.map_err(|error| {
        Failure::new(Code::Unreachable, format!("cannot reach {server}: {error}"))
            .hint("is `knarr server` running there?")
    })?;
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes().to_vec();
    if status.is_success() {
        return Ok(bytes);
    }
    let said: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let said = said["message"].as_str().unwrap_or(status.as_str());
    let hint = match status {
        http::StatusCode::FORBIDDEN => "a node name belongs to one machine",
        _ => "run `knarr token` on the server for a valid token",
    };
    Err(Failure::new(
        Code::Failed,
        format!("{server} refuses to let this machine join: {said}"),
    )
    .hint(hint)
    .into())
}

const FILES: [&str; 3] = ["ca.crt", "client.crt", "client.key"];
const SERVING_FILES: [&str; 2] = ["serving.crt", "serving.key"];

fn load(dir: &Path, part: Part) -> Option<Issued> {
    let read = |file: &str| std::fs::read_to_string(dir.join(file)).ok();
    let [ca, client_certificate, client_key] = FILES.map(read);
    let [certificate, key] = SERVING_FILES.map(read);
    let serving = certificate
        .zip(key)
        .map(|(certificate, key)| Serving { certificate, key });
    let is_whole = part == Part::Front || serving.is_some();
    is_whole.then_some(Issued {
        ca: ca?,
        client_certificate: client_certificate?,
        client_key: client_key?,
        serving,
    })
}

fn save(dir: &Path, issued: &Issued) -> Result<()> {
    let Issued {
        ca,
        client_certificate,
        client_key,
        serving,
    } = issued;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let texts = [ca, client_certificate, client_key];
    let serving = serving.iter().flat_map(|serving| {
        let Serving { certificate, key } = serving;
        SERVING_FILES.into_iter().zip([certificate, key])
    });
    for (file, text) in FILES.into_iter().zip(texts).chain(serving) {
        let path = dir.join(file);
        durable::write(&path, text, 0o600)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_the_ca_and_hold_a_secret() {
        let hash = "a".repeat(64);
        let text = format!("K1{hash}::s3cret");
        assert_eq!(
            parse_token(&text).expect("a token"),
            Token {
                ca_sha256: &hash,
                secret: "s3cret"
            }
        );
        for bad in [
            "",
            "K1::x",
            "s3cret",
            &format!("K1{hash}::"),
            &format!("K2{hash}::x"),
        ] {
            assert!(parse_token(bad).is_err(), "{bad}");
        }
    }
}
