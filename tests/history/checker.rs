//! Judges a history: finds every acknowledged write that is lost, every revision that lies, every watch that does. Pure.

mod facts;
mod watches;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::facts::{Facts, Kept};
use super::record::{Action, Attempt, Found, History, Outcome, Revision, State, Tick, Value, View};

/// Something that no correct store lets a client see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Violation {
    /// One revision names two changes.
    RevisionTwice { revision: Revision },
    /// One write shows at two revisions.
    AppliedTwice { value: Value },
    /// A state that nobody wrote, or whose write was refused.
    Phantom { name: String, value: Value },
    /// A write that began after another was acknowledged, or after a read, has a lower revision.
    WentBack { revision: Revision, after: Revision },
    /// A write went through although what it expected was no longer there.
    PreconditionIgnored { name: String, revision: Revision },
    /// A read leaves out what was there, or shows an older state.
    Lost { name: String, revision: Revision },
    /// A read shows what was deleted before it began.
    Undead { name: String, revision: Revision },
    /// A list shows a state newer than the list says it is.
    FromLater { name: String, revision: Revision },
    /// A watch told a change twice, or later than a newer one.
    OutOfOrder { name: String, revision: Revision },
    /// A watch went past a change without telling it.
    Missed { name: String, revision: Revision },
    /// A watch told of an addition of what is there, or a change of what is not.
    WrongChange { name: String, revision: Revision },
    /// A watch told of an object outside its selection.
    NotSelected { name: String, revision: Revision },
}

/// Everything that is wrong with a history, each once.
pub(crate) fn violations(history: &History) -> Vec<Violation> {
    let (facts, mut found) = Facts::gather(history);
    found.extend(out_of_real_time(history));
    found.extend(ignored_preconditions(history, &facts));
    for read in &history.reads {
        match &read.found {
            Found::List { revision, view } => {
                found.extend(facts.untrue(view, *revision, read.invoked, read.answered));
            }
            Found::One { name, state } => {
                found.extend(stale(history, &facts, name, *state, read.invoked));
            }
        }
    }
    for watch in &history.watches {
        found.extend(watches::violations(watch, &facts));
    }
    found.sort();
    found.dedup();
    found
}

/// Revisions follow the order in which writes and lists were answered and begun.
fn out_of_real_time(history: &History) -> Vec<Violation> {
    let writes = history
        .attempts
        .iter()
        .filter_map(|attempt| match attempt.outcome {
            Outcome::Acknowledged(Some(revision)) => {
                Some((attempt.invoked, attempt.answered, revision, revision))
            }
            Outcome::Acknowledged(None) | Outcome::Refused | Outcome::Unknown => None,
        });
    let lists = history.reads.iter().filter_map(|read| match &read.found {
        // A list may show the revision that was reached before it, a write may not have it again.
        Found::List { revision, .. } => {
            Some((read.invoked, read.answered, *revision, revision + 1))
        }
        Found::One { .. } => None,
    });
    let steps: Vec<(Tick, Tick, Revision, Revision)> = writes.chain(lists).collect();
    let mut by_answer: Vec<(Tick, Revision)> = steps.iter().map(|s| (s.1, s.2)).collect();
    let mut by_start: Vec<(Tick, Revision, Revision)> =
        steps.iter().map(|s| (s.0, s.2, s.3)).collect();
    by_answer.sort_unstable();
    by_start.sort_unstable();
    let mut answered = by_answer.into_iter().peekable();
    let mut reached = 0;
    let mut found = Vec::new();
    for (invoked, revision, bound) in by_start {
        while let Some((_, earlier)) = answered.next_if(|(tick, _)| *tick < invoked) {
            reached = reached.max(earlier);
        }
        if bound <= reached {
            found.push(Violation::WentBack {
                revision,
                after: reached,
            });
        }
    }
    found
}

fn ignored_preconditions(history: &History, facts: &Facts) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut deleted: BTreeMap<(&str, Revision), usize> = BTreeMap::new();
    for attempt in &history.attempts {
        let Outcome::Acknowledged(revision) = attempt.outcome else {
            continue;
        };
        let name = attempt.name.as_str();
        let holds = match (attempt.action, revision) {
            (Action::Replace { expected, .. }, Some(revision)) => facts
                .before(name, revision)
                .is_some_and(|(at, kept)| at == expected && matches!(kept, Kept::Put(_))),
            (Action::Create { .. }, Some(revision)) => match facts.before(name, revision) {
                Some((at, Kept::Put(_))) => facts.may_be_deleted(name, at, attempt.answered),
                Some((_, Kept::Gone)) | None => true,
            },
            (Action::Delete { expected }, _) => {
                let times = deleted.entry((name, expected)).or_default();
                *times += 1;
                *times == 1
            }
            (Action::Patch { .. } | Action::Volatile, _)
            | (Action::Create { .. } | Action::Replace { .. }, None) => true,
        };
        if !holds {
            found.push(Violation::PreconditionIgnored {
                name: name.to_owned(),
                revision: revision.unwrap_or_default(),
            });
        }
    }
    found
}

/// A read of one object shows at least what was acknowledged before it began.
fn stale(
    history: &History,
    facts: &Facts,
    name: &str,
    state: Option<State>,
    invoked: Tick,
) -> Option<Violation> {
    let acknowledged = |attempt: &Attempt| match attempt.outcome {
        Outcome::Acknowledged(Some(revision))
            if attempt.name == name
                && attempt.answered < invoked
                && attempt.action != Action::Volatile =>
        {
            Some(revision)
        }
        _ => None,
    };
    let revision = history.attempts.iter().filter_map(acknowledged).max()?;
    let name = name.to_owned();
    match state {
        Some(state) if state.revision < revision => Some(Violation::Lost { name, revision }),
        Some(_) => None,
        None => {
            let may_be_gone = facts.may_be_deleted_since(&name, revision);
            (!may_be_gone).then_some(Violation::Lost { name, revision })
        }
    }
}

/// What a list shows, against what is known.
impl Facts {
    fn untrue(
        &self,
        view: &View,
        revision: Revision,
        invoked: Tick,
        answered: Tick,
    ) -> Vec<Violation> {
        let mut found = Vec::new();
        for (name, last, kept) in self.latest_at(revision) {
            let shown = view.get(name).map(|state| state.revision);
            let name = name.to_owned();
            let is_lost = match (shown, kept) {
                (Some(shown), Kept::Put(_)) => shown < last,
                (None, Kept::Put(_)) => !self.may_be_deleted(&name, last, answered),
                (_, Kept::Gone) => false,
            };
            if is_lost {
                let revision = last;
                found.push(Violation::Lost { name, revision });
            }
        }
        for (name, state) in view {
            let last = self.before(name, revision + 1);
            let is_gone = last.is_some_and(|(_, kept)| kept == Kept::Gone);
            let name = name.clone();
            if is_gone || self.was_deleted(&name, state.revision, invoked) {
                let revision = state.revision;
                found.push(Violation::Undead { name, revision });
            } else if state.revision > revision {
                let revision = state.revision;
                found.push(Violation::FromLater { name, revision });
            }
        }
        found
    }
}
