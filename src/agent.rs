//! `knarr agent`: the node agent and the netproxy of one node. Stopping it leaves pods and packets alone.

use std::time::Duration;

use anyhow::{Context, Result};
use kube::{Client, Config, config::AuthInfo};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_util::sync::CancellationToken;

use crate::{
    cli,
    join::{self, Credentials},
    parts::{self, Parts},
    rundir,
    settings::Settings,
};

const STOP_TIME_MAX: Duration = Duration::from_secs(10);

pub(crate) async fn run(
    args: cli::Join,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<()> {
    let cli::Join { server, token } = args;
    rundir::require_root()?;
    let _held = rundir::hold(&settings)?;
    let node_ips = parts::node_ips(&settings).await?;
    let dir = settings.data_dir.join("agent");
    let credentials =
        join::credentials(&dir, &server, &token, &settings.node_name, &node_ips).await?;
    let client = client(&server, &credentials)?;
    let mut parts = Parts::new(CancellationToken::new());
    parts.start_node(client, &settings, node_ips, credentials);
    tracing::info!("node {} joined {server}", settings.node_name);
    let outcome = tokio::select! {
        failed = parts.failure() => Err(failed),
        () = shutdown.cancelled() => Ok(()),
    };
    parts.stop(STOP_TIME_MAX).await;
    outcome
}

/// A client that shows the node's certificate and trusts only the cluster's CA.
fn client(server: &str, credentials: &Credentials) -> Result<Client> {
    let mut config = Config::new(server.parse().context("the server's URL")?);
    let ca =
        CertificateDer::from_pem_slice(credentials.ca.as_bytes()).context("the CA is not PEM")?;
    config.root_cert = Some(vec![ca.to_vec()]);
    let encode =
        |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    config.auth_info = AuthInfo {
        client_certificate_data: Some(encode(&credentials.client_certificate)),
        client_key_data: Some(encode(&credentials.client_key).into()),
        ..AuthInfo::default()
    };
    Ok(Client::try_from(config)?)
}
