//! What is certain to have happened, gathered from every answer that any client got.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::history::record::{
    Action, Attempt, Change, Found, History, Outcome, Revision, Selection, State, Step, Tick, Value,
};

/// What one change left of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Put(Value),
    Gone,
}

/// When it was asked for, and when it was acknowledged.
type Deletion = (Tick, Option<Tick>);

#[derive(Default)]
pub(super) struct Facts {
    by_name: BTreeMap<String, BTreeMap<Revision, Kept>>,
    /// Deletions that happened or may have, by what they deleted.
    deletions: BTreeMap<(String, Revision), Vec<Deletion>>,
}

/// The bookkeeping while facts come in.
#[derive(Default)]
struct Gathering {
    facts: Facts,
    changes: BTreeMap<Revision, (String, Kept)>,
    revisions: BTreeMap<Value, Revision>,
    written: BTreeSet<(String, Value)>,
    found: Vec<Violation>,
}

impl Facts {
    pub(super) fn gather(history: &History) -> (Facts, Vec<Violation>) {
        let mut gathering = Gathering::default();
        for attempt in &history.attempts {
            gathering.promise(attempt);
        }
        for attempt in &history.attempts {
            gathering.acknowledged(attempt);
        }
        for read in &history.reads {
            match &read.found {
                Found::List { view, .. } => {
                    for (name, state) in view {
                        gathering.state(name, *state);
                    }
                }
                Found::One { name, state } => {
                    if let Some(state) = state {
                        gathering.state(name, *state);
                    }
                }
            }
        }
        for watch in &history.watches {
            for step in &watch.steps {
                gathering.told(watch.selection, step);
            }
        }
        (gathering.facts, gathering.found)
    }

    /// The change of an object before `revision`.
    pub(super) fn before(&self, name: &str, revision: Revision) -> Option<(Revision, Kept)> {
        let changes = self.by_name.get(name)?;
        let (at, kept) = changes.range(..revision).next_back()?;
        Some((*at, *kept))
    }

    /// Whether a deletion of this state or a later one was asked for and not refused.
    pub(super) fn may_be_deleted_since(&self, name: &str, revision: Revision) -> bool {
        let range = (name.to_owned(), revision)..=(name.to_owned(), Revision::MAX);
        self.deletions.range(range).next().is_some()
    }

    /// Each object's latest change that is not newer than `revision`.
    pub(super) fn latest_at(
        &self,
        revision: Revision,
    ) -> impl Iterator<Item = (&str, Revision, Kept)> {
        self.by_name.iter().filter_map(move |(name, changes)| {
            let (at, kept) = changes.range(..=revision).next_back()?;
            Some((name.as_str(), *at, *kept))
        })
    }

    /// Changes of all objects with `after < revision <= until`.
    pub(super) fn between(
        &self,
        after: Revision,
        until: Revision,
    ) -> impl Iterator<Item = (&str, Revision, Kept)> {
        self.by_name.iter().flat_map(move |(name, changes)| {
            let range = changes.range(after + 1..(until + 1).max(after + 1));
            range.map(move |(at, kept)| (name.as_str(), *at, *kept))
        })
    }

    /// Whether a deletion of exactly this state was asked for before `answered` and not refused.
    pub(super) fn may_be_deleted(&self, name: &str, revision: Revision, answered: Tick) -> bool {
        let asked = self.deletions.get(&(name.to_owned(), revision));
        asked.is_some_and(|asked| asked.iter().any(|(invoked, _)| *invoked < answered))
    }

    /// Whether the deletion of exactly this state was acknowledged before `invoked`.
    pub(super) fn was_deleted(&self, name: &str, revision: Revision, invoked: Tick) -> bool {
        let asked = self.deletions.get(&(name.to_owned(), revision));
        asked.is_some_and(|asked| {
            asked
                .iter()
                .any(|(_, done)| done.is_some_and(|done| done < invoked))
        })
    }
}

impl Gathering {
    /// Notes what a client asked for and was not refused.
    fn promise(&mut self, attempt: &Attempt) {
        if attempt.outcome == Outcome::Refused {
            return;
        }
        let name = attempt.name.clone();
        match attempt.action {
            Action::Create { value } | Action::Replace { value, .. } | Action::Patch { value } => {
                self.written.insert((name, value));
            }
            Action::Delete { expected } => {
                let done = matches!(attempt.outcome, Outcome::Acknowledged(_));
                let asked = (attempt.invoked, done.then_some(attempt.answered));
                let deletions = &mut self.facts.deletions;
                deletions.entry((name, expected)).or_default().push(asked);
            }
            Action::Volatile => {}
        }
    }

    fn acknowledged(&mut self, attempt: &Attempt) {
        let Outcome::Acknowledged(Some(revision)) = attempt.outcome else {
            return;
        };
        match attempt.action {
            Action::Create { value } | Action::Replace { value, .. } | Action::Patch { value } => {
                self.state(&attempt.name, State { revision, value })
            }
            Action::Delete { .. } => self.change(&attempt.name, revision, Kept::Gone),
            Action::Volatile => {
                if self.changes.contains_key(&revision) {
                    self.found.push(Violation::RevisionTwice { revision });
                }
                let place = (String::new(), Kept::Gone);
                self.changes.insert(revision, place);
            }
        }
    }

    fn told(&mut self, selection: Selection, step: &Step) {
        match step {
            Step::Listed { view, .. } => {
                for (name, state) in view {
                    self.state(name, *state);
                }
            }
            Step::Event {
                change: Change::Added | Change::Modified,
                name,
                state,
            } => self.state(name, *state),
            // With a selection, an object that only leaves it is told as deleted.
            Step::Event {
                change: Change::Deleted,
                name,
                state,
            } if selection == Selection::All => {
                self.change(name, state.revision, Kept::Gone);
            }
            Step::Event { .. } | Step::Resumed { .. } | Step::Reached { .. } | Step::Expired => {}
        }
    }

    fn state(&mut self, name: &str, State { revision, value }: State) {
        if !self.written.contains(&(name.to_owned(), value)) {
            let name = name.to_owned();
            self.found.push(Violation::Phantom { name, value });
        }
        if *self.revisions.entry(value).or_insert(revision) != revision {
            self.found.push(Violation::AppliedTwice { value });
        }
        self.change(name, revision, Kept::Put(value));
    }

    fn change(&mut self, name: &str, revision: Revision, kept: Kept) {
        let place = (name.to_owned(), kept);
        if *self.changes.entry(revision).or_insert(place.clone()) != place {
            self.found.push(Violation::RevisionTwice { revision });
        }
        let changes = self.facts.by_name.entry(place.0).or_default();
        changes.insert(revision, kept);
    }
}
