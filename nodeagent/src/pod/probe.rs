//! Probes: when to check next and what a result means (pure), and the checks themselves.

pub(crate) mod check;

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

const SECOND_NS: i128 = 1_000_000_000;
/// The first pause between checks of a container that has not answered yet; it doubles up to a second.
const QUICK_FIRST_NS: i128 = 10_000_000;

/// What a probe decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    /// The word that begins the probe's events.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// Whether a probe holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passing,
    Failing,
}

/// What one result means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The verdict, when this result changed it.
    pub(crate) verdict: Option<Verdict>,
    /// A failure that counts, so that it deserves an event.
    pub(crate) counted_failure: bool,
}

/// A probe's memory: thresholds, counts, and the time of the next check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    kind: Kind,
    first_at_ns: i128,
    period_ns: i128,
    success_threshold: u32,
    failure_threshold: u32,
    successes: u32,
    failures: u32,
    verdict: Option<Verdict>,
    quick_ns: i128,
}

impl Schedule {
    /// The schedule of a probe whose container began to run at `began_ns`.
    pub(crate) fn new(kind: Kind, probe: &Probe, began_ns: i128) -> Self {
        let seconds = |value: Option<i32>, fallback: i32| i128::from(value.unwrap_or(fallback));
        let count = |value: Option<i32>, fallback: u32| {
            value
                .and_then(|value| u32::try_from(value).ok())
                .filter(|value| *value > 0)
                .unwrap_or(fallback)
        };
        Self {
            kind,
            first_at_ns: began_ns + seconds(probe.initial_delay_seconds, 0) * SECOND_NS,
            period_ns: seconds(probe.period_seconds, 10).max(1) * SECOND_NS,
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
            successes: 0,
            failures: 0,
            verdict: None,
            quick_ns: QUICK_FIRST_NS,
        }
    }

    /// When the first check is due.
    pub(crate) fn first_at_ns(&self) -> i128 {
        self.first_at_ns
    }

    /// Takes a result and says what it means and when the next check is due.
    pub(crate) fn observe(&mut self, now_ns: i128, passed: bool) -> (Finding, i128) {
        let quick_until_ns = self.first_at_ns + self.period_ns;
        let is_quick = self.kind != Kind::Liveness
            && self.verdict != Some(Verdict::Passing)
            && now_ns < quick_until_ns;
        let finding = if passed {
            self.failures = 0;
            self.successes += 1;
            let reached = self.successes >= self.success_threshold;
            Finding {
                verdict: self.change(Verdict::Passing, reached),
                counted_failure: false,
            }
        } else if is_quick && now_ns != self.first_at_ns {
            self.successes = 0;
            Finding {
                verdict: None,
                counted_failure: false,
            }
        } else {
            self.successes = 0;
            self.failures += 1;
            let reached = self.failures >= self.failure_threshold;
            Finding {
                verdict: self.change(Verdict::Failing, reached),
                counted_failure: true,
            }
        };
        let pause_ns = if is_quick && self.verdict != Some(Verdict::Passing) {
            let pause = self.quick_ns;
            self.quick_ns = (pause * 2).min(SECOND_NS);
            pause.min(quick_until_ns - now_ns)
        } else {
            self.period_ns
        };
        (finding, now_ns + pause_ns)
    }

    fn change(&mut self, verdict: Verdict, reached: bool) -> Option<Verdict> {
        if !reached || self.verdict == Some(verdict) {
            return None;
        }
        self.verdict = Some(verdict);
        Some(verdict)
    }
}

/// How long one check may take.
pub(crate) fn timeout(probe: &Probe) -> Duration {
    Duration::from_secs(
        probe
            .timeout_seconds
            .and_then(|value| u64::try_from(value).ok())
            .unwrap_or(1)
            .max(1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i128 = 1_000_000;

    fn check(
        kind: Kind,
        probe: Probe,
        results: &[(i128, bool)],
        expected: &[(Option<Verdict>, i128)],
    ) {
        let mut schedule = Schedule::new(kind, &probe, 0);
        let found: Vec<_> = results
            .iter()
            .map(|(at_ms, passed)| {
                let (finding, next_ns) = schedule.observe(at_ms * MS, *passed);
                (finding.verdict, next_ns / MS)
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn readiness_is_found_within_milliseconds() {
        check(
            Kind::Readiness,
            Probe::default(),
            &[(1, false), (11, false), (31, true), (10_031, false)],
            &[
                (None, 11),
                (None, 31),
                (Some(Verdict::Passing), 10_031),
                (None, 20_031),
            ],
        );
    }

    #[test]
    fn thresholds_count_in_a_row() {
        let probe = Probe {
            failure_threshold: Some(2),
            success_threshold: Some(2),
            period_seconds: Some(1),
            ..Probe::default()
        };
        check(
            Kind::Readiness,
            probe,
            &[
                (0, true),
                (10, true),
                (1010, false),
                (2010, true),
                (3010, false),
                (4010, false),
            ],
            &[
                (None, 10),
                (Some(Verdict::Passing), 1010),
                (None, 2010),
                (None, 3010),
                (None, 4010),
                (Some(Verdict::Failing), 5010),
            ],
        );
    }

    #[test]
    fn liveness_never_hurries() {
        let probe = Probe {
            failure_threshold: Some(1),
            initial_delay_seconds: Some(5),
            ..Probe::default()
        };
        assert_eq!(
            Schedule::new(Kind::Liveness, &probe, 0).first_at_ns(),
            5 * SECOND_NS
        );
        check(
            Kind::Liveness,
            probe,
            &[(5000, false)],
            &[(Some(Verdict::Failing), 15_000)],
        );
    }

    #[test]
    fn quick_failures_do_not_use_up_a_startup_probe() {
        let probe = Probe {
            failure_threshold: Some(2),
            period_seconds: Some(1),
            ..Probe::default()
        };
        check(
            Kind::Startup,
            probe,
            &[
                (1, false),
                (11, false),
                (31, false),
                (1000, false),
                (2000, false),
            ],
            &[
                (None, 11),
                (None, 31),
                (None, 71),
                (None, 2000),
                (Some(Verdict::Failing), 3000),
            ],
        );
    }
}
