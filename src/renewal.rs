//! Keeps a machine's certificates fresh while it runs: the next ones are signed before the old ones end. Signs none itself.

use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use futures_util::future::BoxFuture;
use tokio::time::sleep;

use crate::join::{Credentials, Issued};

/// Has new certificates signed.
pub(crate) type Sign = Box<dyn Fn() -> BoxFuture<'static, Result<Issued>> + Send + Sync>;

/// Where nothing tells that the clock was set.
const LOOK_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);
/// A server refuses as long as it believes that another machine has this one's name.
const RETRY_PERIOD: Duration = Duration::from_secs(60);

/// Replaces certificates whenever that is due.
pub(crate) async fn keep_fresh(credentials: Credentials, sign: Sign) -> Infallible {
    let mut clock = knarr_clock::follow();
    loop {
        let left = credentials.due().duration_since(SystemTime::now());
        if let Ok(left) = left {
            tokio::select! {
                () = sleep(left.min(LOOK_PERIOD)) => {}
                Ok(()) = clock.changed() => {}
            }
            continue;
        }
        let replaced = sign().await.and_then(|issued| credentials.replace(&issued));
        match replaced {
            Ok(()) => tracing::info!("this machine has new certificates"),
            Err(error) => tracing::warn!("renewing this machine's certificates: {error:#}"),
        }
        sleep(RETRY_PERIOD).await;
    }
}

#[cfg(test)]
mod tests;
