//! Keeps a running pod's volumes current: tokens before they expire, ConfigMaps and Secrets as they change.

use std::time::Duration;

use k8s_openapi::api::core::v1::PodSpec;

use super::Worker;
use super::act::Preparation;
use crate::pod::sources;

/// Pause between looks at a pod's ConfigMaps and Secrets; kubelets take a minute or more.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
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
    /// Begins to keep the pod's volumes current, if they need it and that is not under way.
    pub(super) fn keep_volumes(&mut self, first: First) {
        if !self.rotation.is_empty() {
            return;
        }
        if let Some(lifetime) = sources::token_lifetime(&self.spec) {
            let every = interval(lifetime);
            let preparation = self.preparation();
            self.rotation
                .spawn(repeat(preparation, self.spec.clone(), every, first));
        }
        if let Some(spec) = sources::only_objects(&self.spec) {
            let preparation = self.preparation();
            self.rotation
                .spawn(repeat(preparation, spec, LOOK_INTERVAL, first));
        }
    }
}

/// Four fifths of the lifetime, as kubelets do.
fn interval(lifetime: Duration) -> Duration {
    lifetime * 4 / 5
}

async fn repeat(preparation: Preparation, spec: PodSpec, interval: Duration, first: First) {
    let mut clock = preparation.host.clock.clone();
    let mut pause = match first {
        First::Now => Duration::ZERO,
        First::Later => interval,
    };
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Tokens end by the calendar, and some may have ended while the machine slept.
            Ok(()) = clock.changed() => {}
        }
        pause = match preparation.clone().refresh(spec.clone()).await {
            Ok(()) => interval,
            Err(error) => {
                let pod = &preparation.identity.name;
                tracing::warn!(
                    pod,
                    error = format!("{error:#}"),
                    "bringing volumes up to date"
                );
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
