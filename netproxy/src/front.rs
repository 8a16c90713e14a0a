//! The front: a machine outside the cluster that owns load-balancer IPs and spreads their connections over nodes.
//!
//! Follows the API and asks nodes for their health; which of several fronts announces is settled by a Lease. The
//! kernel alone forwards: with the front killed, connections go on.

mod election;
#[cfg(test)]
mod golden;
mod health;
mod lease;
mod link;
mod observe;
mod sync;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures_util::future::join_all;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Error, announce, events, nftables::Nftables, peer};

/// What a front is told when it starts; all else it learns from the API.
#[derive(Clone, Debug)]
pub struct Config {
    /// What its Events and its Lease call it.
    pub name: String,
}

/// Forwards until shutdown, and leaves packets forwarded; another front may announce from then on.
///
/// # Errors
/// When the kernel lacks what it takes.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let (recorder, happenings) = events::Recorder::new();
    let (asked, checks) = watch::channel(BTreeSet::new());
    let (found, surroundings) = watch::channel(health::Surroundings::default());
    let (owned, addresses) = watch::channel(BTreeSet::new());
    let (elected, leads) = watch::channel(false);
    let (announced, mine) = watch::channel(BTreeSet::new());
    let rivals = Arc::new(announce::Rivals::default());
    let front = sync::Front::new(Nftables::open()?);
    let channels = sync::Channels {
        surroundings,
        asked,
        owned,
        recorder,
    };
    tokio::try_join!(
        sync::run(client.clone(), front, channels, shutdown.clone()),
        health::run(checks, found, shutdown.clone()),
        async { Ok(announce::run(mine, rivals.clone(), shutdown.clone()).await?) },
        async {
            tokio::join!(
                lease::run(
                    client.clone(),
                    config.name.clone(),
                    elected,
                    rivals.clone(),
                    shutdown.clone()
                ),
                events::run(client, config.name.clone(), happenings, shutdown.clone()),
                hand_on(addresses, leads, announced, shutdown.clone()),
            );
            Ok(())
        },
    )?;
    Ok(())
}

/// Asks health checks once, all at the same time, and gives those that answered well.
pub async fn passing(checks: BTreeSet<SocketAddr>) -> BTreeSet<SocketAddr> {
    let answers = join_all(checks.iter().map(|check| peer::ask(*check))).await;
    let answered = checks.iter().zip(answers);
    let well = answered.filter(|(_, answer)| *answer == peer::Answer::Well);
    well.map(|(check, _)| *check).collect()
}

/// Has the announcer say what this front owns, for as long as it leads; each word of its lead has it said again.
async fn hand_on(
    mut addresses: watch::Receiver<BTreeSet<IpAddr>>,
    mut leads: watch::Receiver<bool>,
    announced: watch::Sender<BTreeSet<IpAddr>>,
    shutdown: CancellationToken,
) {
    loop {
        let all = addresses.borrow_and_update().clone();
        let wanted = if *leads.borrow_and_update() {
            all
        } else {
            BTreeSet::new()
        };
        announced.send_replace(wanted);
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = addresses.changed() => if changed.is_err() { return },
            changed = leads.changed() => if changed.is_err() { return },
        }
    }
}

/// Removes the front's own link; its tables are removed with those of every proxy.
pub(crate) async fn teardown() -> Result<(), Error> {
    Ok(link::Links::open()?.remove().await?)
}
