//! `knarr front`: owns load-balancer IPs on a machine outside the cluster. Stopping it leaves packets forwarded.

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use crate::{
    cli,
    join::Part,
    joined::{self, Joined},
    parts::Parts,
    settings::Settings,
};

pub(crate) async fn run(
    args: cli::Join,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<()> {
    let Joined {
        client,
        credentials,
        ips,
        sign,
        held: _held,
    } = joined::join(&args, &settings, Part::Front, "front").await?;
    knarr_nodeagent::forward_packets(&settings.run_dir, &ips);
    let mut parts = Parts::default();
    parts.keep_fresh(credentials, sign);
    parts.start_front(client, &settings);
    parts.run(&shutdown).await
}
