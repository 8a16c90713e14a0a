//! Who of several fronts leads, as one of them sees it. Pure: the time comes in as an argument.

use std::time::{Duration, Instant};

/// How often a leader renews its Lease and the others look at it.
pub(super) const TICK: Duration = Duration::from_millis(300);
/// A Lease that has not changed for so long is nobody's; clocks of two machines are never compared.
pub(super) const EXPIRY: Duration = Duration::from_millis(900);

/// Between two defences, so that two machines that are sure of themselves do not fill the link (RFC 5227 section 2.4).
const DEFENCE_INTERVAL: Duration = Duration::from_secs(10);
/// Between two questions of a leader whose Lease has run out: announcements may be lost, so it does not wait for one.
const QUESTION_INTERVAL: Duration = Duration::from_secs(1);

/// The Lease as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Empty when it was given up.
    pub(super) holder: String,
    /// Another after every renewal.
    pub(super) revision: String,
}

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is ours already.
    Keep,
    /// It is nobody's.
    Take,
    /// It is another's.
    Wait,
}

/// What to do about another machine that announces the same addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rivalry {
    /// It has not heard who leads: announce again.
    Defend,
    /// It was told a moment ago.
    Bear,
    /// It may have the Lease by now: leave the addresses to it.
    Yield,
}

/// How long a leader's Lease is good for, as far as the leader knows.
#[derive(Clone, Debug)]
pub(super) struct Tenure {
    /// When the last renewal that was granted was asked for: nobody else counts from an earlier time.
    renewed_at: Instant,
    defended_at: Option<Instant>,
    wondered_at: Option<Instant>,
    yielded: bool,
}

impl Tenure {
    pub(super) fn since(asked_at: Instant) -> Self {
        Self {
            renewed_at: asked_at,
            defended_at: None,
            wondered_at: None,
            yielded: false,
        }
    }

    /// A renewal was granted.
    pub(super) fn renew(&mut self, asked_at: Instant) {
        self.renewed_at = asked_at;
        self.yielded = false;
    }

    /// Another machine announces the same addresses.
    pub(super) fn contested(&mut self, now: Instant) -> Rivalry {
        if self.has_run_out(now) {
            self.yielded = true;
            return Rivalry::Yield;
        }
        if is_recent(self.defended_at, DEFENCE_INTERVAL, now) {
            return Rivalry::Bear;
        }
        self.defended_at = Some(now);
        Rivalry::Defend
    }

    /// Whether to ask now if another machine has the same addresses.
    pub(super) fn wonders(&mut self, now: Instant) -> bool {
        if !self.has_run_out(now) || is_recent(self.wondered_at, QUESTION_INTERVAL, now) {
            return false;
        }
        self.wondered_at = Some(now);
        true
    }

    fn has_run_out(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.renewed_at) >= EXPIRY
    }

    pub(super) fn has_yielded(&self) -> bool {
        self.yielded
    }
}

fn is_recent(then: Option<Instant>, interval: Duration, now: Instant) -> bool {
    then.is_some_and(|then| now.saturating_duration_since(then) < interval)
}

/// What one front remembers of the Lease.
#[derive(Clone, Debug)]
pub(super) struct Election {
    identity: String,
    /// The revision last seen, nothing for no Lease, and since when.
    seen: Option<(Option<String>, Instant)>,
}

impl Election {
    pub(super) fn new(identity: String) -> Self {
        Self {
            identity,
            seen: None,
        }
    }

    /// Judges the Lease as it was just found.
    pub(super) fn step(&mut self, found: Option<&Held>, now: Instant) -> Step {
        match found {
            Some(held) if held.holder == self.identity => return Step::Keep,
            Some(held) if held.holder.is_empty() => return Step::Take,
            Some(_) | None => {}
        }
        let revision = found.map(|held| held.revision.clone());
        match &self.seen {
            Some((seen, since)) if *seen == revision => {
                if now.duration_since(*since) >= EXPIRY {
                    Step::Take
                } else {
                    Step::Wait
                }
            }
            Some(_) | None => {
                self.seen = Some((revision, now));
                Step::Wait
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each sighting is a time in milliseconds and the Lease then.
    fn check(sightings: &[(u64, Option<(&str, &str)>)], expected: &[Step]) {
        let (start, mut election) = (Instant::now(), Election::new("me".to_owned()));
        let steps: Vec<Step> = sightings
            .iter()
            .map(|(at_ms, lease)| {
                let held = lease.map(|(holder, revision)| Held {
                    holder: holder.to_owned(),
                    revision: revision.to_owned(),
                });
                election.step(held.as_ref(), start + Duration::from_millis(*at_ms))
            })
            .collect();
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_lease_that_is_renewed_is_left_alone() {
        let renewed = [
            (0, Some(("other", "1"))),
            (800, Some(("other", "2"))),
            (1600, Some(("other", "3"))),
        ];
        check(&renewed, &[Step::Wait, Step::Wait, Step::Wait]);
    }

    #[test]
    fn a_lease_that_nobody_renews_is_taken() {
        let stale = [
            (0, Some(("other", "1"))),
            (899, Some(("other", "1"))),
            (900, Some(("other", "1"))),
        ];
        check(&stale, &[Step::Wait, Step::Wait, Step::Take]);
    }

    #[test]
    fn a_lease_given_up_is_taken_at_once() {
        check(&[(0, Some(("", "1")))], &[Step::Take]);
        check(&[(0, Some(("me", "1")))], &[Step::Keep]);
    }

    /// A Lease granted at 0; then renewals and rivals, each with its time in milliseconds.
    fn contested(renewals: &[u64], rivals: &[(u64, Rivalry)]) -> Tenure {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut tenure = Tenure::since(start);
        for (now, expected) in rivals {
            let before = renewals.iter().filter(|renewal| *renewal <= now);
            before.for_each(|renewal| tenure.renew(at(*renewal)));
            assert_eq!(tenure.contested(at(*now)), *expected, "at {now}");
        }
        tenure
    }

    #[test]
    fn only_a_leader_whose_lease_has_run_out_yields() {
        use Rivalry::{Bear, Defend, Yield};
        let defends = contested(&[300, 600, 900], &[(1200, Defend), (1300, Bear)]);
        assert!(!defends.has_yielded());
        let mut yields = contested(&[300], &[(1199, Defend), (1200, Yield)]);
        assert!(yields.has_yielded());
        yields.renew(Instant::now());
        assert!(!yields.has_yielded(), "nobody else had the Lease");
        contested(
            &[9900, 10_500],
            &[(500, Defend), (10_499, Bear), (10_500, Defend)],
        );
    }

    #[test]
    fn only_a_leader_whose_lease_has_run_out_asks_the_link_and_not_too_often() {
        let start = Instant::now();
        let mut tenure = Tenure::since(start);
        let asked: Vec<u64> = (0..4000)
            .step_by(100)
            .filter(|ms| tenure.wonders(start + Duration::from_millis(*ms)))
            .collect();
        assert_eq!(asked, [900, 1900, 2900, 3900]);
        tenure.renew(start + Duration::from_secs(5));
        assert!(!tenure.wonders(start + Duration::from_millis(5100)));
    }

    #[test]
    fn a_missing_lease_gives_its_holder_time_to_renew() {
        let lost = [(0, Some(("other", "7"))), (300, None), (1200, None)];
        check(&lost, &[Step::Wait, Step::Wait, Step::Take]);
        let back = [
            (0, None),
            (600, Some(("other", "1"))),
            (900, Some(("other", "2"))),
        ];
        check(&back, &[Step::Wait, Step::Wait, Step::Wait]);
    }
}
