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
        addresses,
        follower,
        sign,
        held: _held,
    } = joined::join(&args, &settings, Part::Front, "front").await?;
    let mut parts = Parts::default();
    parts.start_following(follower);
    parts.keep_fresh(credentials, sign, addresses.node.clone());
    parts.start_forwarding(&settings, addresses.node);
    parts.start_front(client, &settings);
    parts.run(&shutdown).await
}
