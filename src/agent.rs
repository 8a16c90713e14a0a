//! `knarr agent`: the node agent and the netproxy of one node. Stopping it leaves pods and packets alone.

use std::time::Duration;

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use crate::{
    cli,
    join::{self, Newcomer, Part},
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
    let newcomer = Newcomer {
        part: Part::Node,
        name: &settings.node_name,
        ips: &node_ips,
    };
    let credentials = join::credentials(&dir, &server, &token, newcomer).await?;
    let client = join::client(&server, &credentials)?;
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
