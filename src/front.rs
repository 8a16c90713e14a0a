//! `knarr front`: owns load-balancer IPs on a machine outside the cluster. Stopping it leaves packets forwarded.

use std::{net::IpAddr, time::Duration};

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use crate::{
    cli,
    join::{self, Newcomer, Part},
    parts::{self, Parts},
    rundir,
    settings::Settings,
};

const STOP_TIME_MAX: Duration = Duration::from_secs(5);

pub(crate) async fn run(
    args: cli::Join,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<()> {
    let cli::Join { server, token } = args;
    rundir::require_root()?;
    let _held = rundir::hold(&settings)?;
    let ips: Vec<IpAddr> = parts::node_ips(&settings).await?;
    let dir = settings.data_dir.join("front");
    let newcomer = Newcomer {
        part: Part::Front,
        name: &settings.node_name,
        ips: &ips,
    };
    let credentials = join::credentials(&dir, &server, &token, newcomer).await?;
    let client = join::client(&server, &credentials)?;
    knarr_nodeagent::forward_packets(&settings.run_dir, &ips);
    let mut parts = Parts::new(CancellationToken::new());
    parts.start_front(client, &settings);
    tracing::info!("front {} joined {server}", settings.node_name);
    let outcome = tokio::select! {
        failed = parts.failure() => Err(failed),
        () = shutdown.cancelled() => Ok(()),
    };
    parts.stop(STOP_TIME_MAX).await;
    outcome
}
