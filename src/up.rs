//! `knarr up`: everything in one process, in the foreground.

mod names;
mod ready;
mod table;

use std::time::Duration;

use anyhow::Result;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    addresses::{self, Gone},
    cli,
    join::Credentials,
    parts::{self, Parts},
    rundir,
    settings::Settings,
    verbs::apply::{self, read_all},
};

pub(crate) async fn run(
    args: cli::Up,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<()> {
    let cli::Up { files, timeout } = args;
    rundir::require_root()?;
    // A typo in a manifest must show before anything is started.
    let items = read_all(&files, "default")?;
    let _held = rundir::hold(&settings)?;
    let (addresses, follower) = addresses::follow(&settings, Gone::Forgotten).await?;
    let api = parts::open_api(&settings, &addresses).await?;
    let admin = api.client_of_admin();
    let sign = api.signs_for_node(&settings);
    let node_ips = addresses.node.borrow().clone();
    let credentials = Credentials::new(&sign(node_ips).await?)?;

    let mut parts = Parts::default();
    parts.start_following(follower);
    parts.keep_fresh(credentials.clone(), sign, addresses.node.clone());
    parts.start_node(
        api.client_of_node(&settings.node_name),
        &settings,
        addresses.node,
        credentials,
    );
    parts.start_api(api);
    let outcome = tokio::select! {
        outcome = parts.until(&shutdown) => outcome,
        Err(error) = serve_user(&admin, &items, Duration::from_secs(timeout), &settings) => Err(error),
    };
    eprintln!(
        "stopping pods and restoring the host; data stays in {}",
        settings.data_dir.display()
    );
    parts.stop().await;
    outcome.and(rundir::restore_host(&settings).await)
}

async fn serve_user(
    client: &Client,
    items: &[apply::Item],
    limit: Duration,
    settings: &Settings,
) -> Result<()> {
    for item in items {
        eprintln!("{} {}", item.label(), apply::apply(client, item).await?);
    }
    ready::wait_for_agent(client, &settings.node_name).await?;
    ready::wait(client, items, limit).await?;
    print!("{}", table::of_services(client).await?);
    if let Some(hint) = names::hint(client).await? {
        eprintln!("{hint}");
    }
    eprintln!(
        "kubectl --kubeconfig {}/kubeconfig.yaml …; Ctrl-C stops",
        settings.data_dir.display()
    );
    Ok(())
}
