//! `knarr server`: the API server and its controllers, without a node.

use std::time::Duration;

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use crate::{
    cluster,
    parts::{self, Parts},
    settings::Settings,
};

const STOP_TIME_MAX: Duration = Duration::from_secs(10);

pub(crate) async fn run(settings: Settings, shutdown: CancellationToken) -> Result<()> {
    let ranges = cluster::ranges(&settings).await?;
    let api = parts::open_api(&settings, &ranges).await?;
    let mut parts = Parts::new(CancellationToken::new());
    parts.start_api(api);
    tracing::info!(
        "the API answers on port {}; kubeconfig: {}/kubeconfig.yaml",
        settings.port,
        settings.data_dir.display()
    );
    let outcome = tokio::select! {
        failed = parts.failure() => Err(failed),
        () = shutdown.cancelled() => Ok(()),
    };
    parts.stop(STOP_TIME_MAX).await;
    outcome
}
