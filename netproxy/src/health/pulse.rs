//! Whether the kernel keeps up with the API: when it last did, and since when it should have. Time is an argument.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// A change that is not programmed within this time makes the proxy unhealthy; kube-proxy allows two sync periods.
pub(crate) const PROGRAMMING_TIME_MAX: Duration = Duration::from_secs(60);

/// Written by the sync, read by whoever asks for health.
#[derive(Debug, Default)]
pub(crate) struct Pulse(Mutex<Beat>);

#[derive(Clone, Copy, Debug, Default)]
struct Beat {
    updated_at: Option<SystemTime>,
    pending_since: Option<Instant>,
}

/// How the proxy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    /// When the kernel last was as planned.
    pub(crate) updated_at: Option<SystemTime>,
    pub(crate) state: State,
}

/// Whether packets meet what the API says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing was programmed yet.
    Starting,
    /// They do, or will in a moment.
    Good,
    /// They should since too long ago.
    Late,
}

impl Pulse {
    /// A change waits to be programmed.
    pub(crate) fn queued(&self, now: Instant) {
        let mut beat = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        beat.pending_since.get_or_insert(now);
    }

    /// Every change is programmed.
    pub(crate) fn updated(&self, now: SystemTime) {
        let mut beat = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *beat = Beat {
            updated_at: Some(now),
            pending_since: None,
        };
    }

    pub(crate) fn health(&self, now: Instant) -> Health {
        let Beat {
            updated_at,
            pending_since,
        } = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = pending_since.map(|since| now.saturating_duration_since(since));
        let late = waits.is_some_and(|waits| waits >= PROGRAMMING_TIME_MAX);
        let state = match (late, updated_at) {
            (true, _) => State::Late,
            (false, None) => State::Starting,
            (false, Some(_)) => State::Good,
        };
        Health { updated_at, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_waits_too_long_is_unhealthy_until_it_is_programmed() {
        let pulse = Pulse::default();
        let start = Instant::now();
        let state = |after: Duration| pulse.health(start + after).state;
        assert_eq!(state(Duration::ZERO), State::Starting);
        pulse.queued(start);
        assert_eq!(state(PROGRAMMING_TIME_MAX / 2), State::Starting);
        pulse.updated(SystemTime::now());
        assert_eq!(state(10 * PROGRAMMING_TIME_MAX), State::Good);
        pulse.queued(start);
        pulse.queued(start + PROGRAMMING_TIME_MAX);
        assert_eq!(state(PROGRAMMING_TIME_MAX / 2), State::Good);
        assert_eq!(state(PROGRAMMING_TIME_MAX), State::Late);
        pulse.updated(SystemTime::now());
        assert_eq!(state(10 * PROGRAMMING_TIME_MAX), State::Good);
    }
}
