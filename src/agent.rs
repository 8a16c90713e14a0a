//! `knarr agent`: the node agent and the netproxy of one node. Stopping it leaves pods and packets alone.

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
    } = joined::join(&args, &settings, Part::Node, "agent").await?;
    let mut parts = Parts::default();
    parts.start_following(follower);
    parts.keep_fresh(credentials.clone(), sign, addresses.node.clone());
    parts.start_node(client, &settings, addresses.node, credentials);
    parts.run(&shutdown).await
}
