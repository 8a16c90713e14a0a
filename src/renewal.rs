//! Keeps a machine's certificates fresh while it runs: the next ones are signed before the old ones end, and when the
//! machine has other addresses. Signs none itself.

use std::{
    convert::Infallible,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use futures_util::future::BoxFuture;
use tokio::{sync::watch, time::sleep};

use crate::join::{Credentials, Issued};

/// Has new certificates signed, good for these addresses.
pub(crate) type Sign = Box<dyn Fn(Vec<IpAddr>) -> BoxFuture<'static, Result<Issued>> + Send + Sync>;

/// Where nothing tells that the clock was set.
const LOOK_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);
const RETRY_PERIOD_FIRST: Duration = Duration::from_secs(1);
const RETRY_PERIOD_MAX: Duration = Duration::from_secs(10 * 60);

/// Replaces certificates whenever that is due.
pub(crate) async fn keep_fresh(
    credentials: Credentials,
    sign: Sign,
    mut node_ips: watch::Receiver<Vec<IpAddr>>,
) -> Infallible {
    let mut clock = knarr_clock::follow();
    let mut retry = RETRY_PERIOD_FIRST;
    loop {
        let ips = node_ips.borrow_and_update().clone();
        let left = credentials.due().duration_since(SystemTime::now());
        let pause = match left {
            Ok(left) if credentials.are_good_for(&ips) => {
                retry = RETRY_PERIOD_FIRST;
                left.min(LOOK_PERIOD)
            }
            Ok(_) | Err(_) => {
                let replaced = sign(ips).await;
                match replaced.and_then(|issued| credentials.replace(&issued)) {
                    Ok(()) => tracing::info!("this machine has new certificates"),
                    Err(error) => {
                        tracing::warn!("renewing this machine's certificates: {error:#}");
                    }
                }
                retry = (retry * 2).min(RETRY_PERIOD_MAX);
                retry
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            Ok(()) = clock.changed() => {}
            Ok(()) = node_ips.changed() => retry = RETRY_PERIOD_FIRST,
        }
    }
}

#[cfg(test)]
mod tests;
