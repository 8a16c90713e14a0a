//! How long a container that keeps ending waits before it starts again. Pure.

const SECOND_NS: i128 = 1_000_000_000;
const DELAY_FIRST_NS: i128 = 10 * SECOND_NS;
const DELAY_MAX_NS: i128 = 300 * SECOND_NS;
/// A run this long forgives all earlier ones.
const FORGIVEN_AFTER_NS: i128 = 600 * SECOND_NS;

/// The back-off of one container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BackOff {
    /// The delay that applies after the latest end; zero before the first restart.
    delay_ns: i128,
}

impl BackOff {
    /// When a run that ended at `ended_ns` may be followed by the next.
    pub(crate) fn retry_at_ns(self, ended_ns: i128) -> i128 {
        ended_ns + self.delay_ns
    }

    /// The delay in whole seconds, as messages print it (`10s`, `2m40s`, `5m0s`).
    pub(crate) fn text(self) -> String {
        let seconds = self.delay_ns / SECOND_NS;
        match seconds / 60 {
            0 => format!("{seconds}s"),
            minutes => format!("{minutes}m{}s", seconds % 60),
        }
    }

    /// The back-off once a restart after a run of this length has happened.
    pub(crate) fn after_restart(self, run_ns: i128) -> Self {
        let delay_ns = match self.delay_ns {
            0 => DELAY_FIRST_NS,
            _ if run_ns > FORGIVEN_AFTER_NS => DELAY_FIRST_NS,
            delay => (delay * 2).min(DELAY_MAX_NS),
        };
        Self { delay_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_slow_down_to_five_minutes() {
        let mut back_off = BackOff::default();
        let mut delays = Vec::new();
        for _ in 0..8 {
            delays.push(back_off.text());
            back_off = back_off.after_restart(SECOND_NS);
        }
        assert_eq!(
            delays,
            ["0s", "10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]
        );
        assert_eq!(back_off.retry_at_ns(7), 7 + DELAY_MAX_NS);
    }

    #[test]
    fn a_long_run_is_forgiven() {
        let slow = BackOff {
            delay_ns: DELAY_MAX_NS,
        };
        assert_eq!(slow.after_restart(FORGIVEN_AFTER_NS + 1).text(), "10s");
        assert_eq!(slow.after_restart(FORGIVEN_AFTER_NS).text(), "5m0s");
    }
}
