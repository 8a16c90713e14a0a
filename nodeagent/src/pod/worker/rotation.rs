//! Renews the service-account tokens in a running pod's volumes before they expire.

use std::time::Duration;

use super::Worker;
use super::act::Preparation;
use crate::pod::sources;

/// Pause after a renewal that failed.
const RETRY: Duration = Duration::from_secs(30);

/// When a pod's tokens are renewed for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// They are as old as an earlier agent left them.
    Now,
    /// They are about to be written.
    Later,
}

impl Worker {
    /// Begins to renew the pod's tokens, if it has any and that is not under way.
    pub(super) fn rotate_tokens(&mut self, first: First) {
        let Some(lifetime) = sources::token_lifetime(&self.spec) else {
            return;
        };
        if !self.rotation.is_empty() {
            return;
        }
        let preparation = self.preparation();
        self.rotation
            .spawn(rotate(preparation, interval(lifetime), first));
    }
}

/// Four fifths of the lifetime, as kubelets do.
fn interval(lifetime: Duration) -> Duration {
    lifetime * 4 / 5
}

async fn rotate(preparation: Preparation, interval: Duration, first: First) {
    let mut pause = match first {
        First::Now => Duration::ZERO,
        First::Later => interval,
    };
    loop {
        tokio::time::sleep(pause).await;
        pause = match preparation.clone().refresh().await {
            Ok(()) => interval,
            Err(error) => {
                let pod = &preparation.identity.name;
                tracing::warn!(pod, error = format!("{error:#}"), "renewing tokens");
                RETRY
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_well_before_they_expire() {
        let lifetime = Duration::from_secs(3600);
        assert_eq!(interval(lifetime), Duration::from_secs(2880));
    }
}
