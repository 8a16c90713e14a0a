//! `knarr server`: the API server and its controllers, without a node.

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use crate::{
    addresses::{self, Gone},
    parts::{self, Parts},
    settings::Settings,
};

pub(crate) async fn run(settings: Settings, shutdown: CancellationToken) -> Result<()> {
    let (addresses, follower) = addresses::follow(&settings, Gone::Kept).await?;
    let api = parts::open_api(&settings, &addresses).await?;
    let mut parts = Parts::default();
    parts.start_following(follower);
    parts.start_api(api);
    tracing::info!(
        "the API answers on port {}; kubeconfig: {}/kubeconfig.yaml",
        settings.port,
        settings.data_dir.display()
    );
    parts.run(&shutdown).await
}
