//! Judges what one watcher was told against everything that is certain.

use std::collections::BTreeSet;

use super::{
    Violation,
    facts::{Facts, Kept},
};
use crate::history::record::{Change, Revision, Selection, State, Step, View, Watch};

/// One watcher between two lists.
struct Watcher<'f> {
    facts: &'f Facts,
    selection: Selection,
    /// Everything after `began` and up to `position` was to be told.
    began: Revision,
    position: Revision,
    told: BTreeSet<Revision>,
    /// What the watcher believes is there, if it ever listed.
    view: Option<View>,
    found: Vec<Violation>,
}

pub(super) fn violations(watch: &Watch, facts: &Facts) -> Vec<Violation> {
    let mut watcher = Watcher {
        facts,
        selection: watch.selection,
        began: 0,
        position: 0,
        told: BTreeSet::new(),
        view: None,
        found: Vec::new(),
    };
    for step in &watch.steps {
        watcher.step(step);
    }
    watcher.settle();
    watcher.found
}

impl Watcher<'_> {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Listed { revision, view } => {
                self.settle();
                self.begin(*revision, Some(view.clone()));
                self.missing_from_list();
            }
            Step::Resumed { from } if *from != self.position => {
                self.settle();
                self.begin(*from, None);
            }
            Step::Resumed { .. } | Step::Expired => {}
            Step::Reached { revision } => self.position = self.position.max(*revision),
            Step::Event {
                change,
                name,
                state,
            } => self.event(*change, name, *state),
        }
    }

    fn begin(&mut self, revision: Revision, view: Option<View>) {
        self.began = revision;
        self.position = revision;
        self.told.clear();
        self.view = view;
    }

    fn event(&mut self, change: Change, name: &str, state: State) {
        let State { revision, value } = state;
        let place = || (name.to_owned(), revision);
        if revision <= self.position {
            let (name, revision) = place();
            self.found.push(Violation::OutOfOrder { name, revision });
        }
        self.position = self.position.max(revision);
        self.told.insert(revision);
        if !self.selection.selects(value) {
            let (name, revision) = place();
            self.found.push(Violation::NotSelected { name, revision });
        }
        let Some(view) = &mut self.view else {
            return;
        };
        let was_there = match change {
            Change::Added | Change::Modified => view.insert(name.to_owned(), state).is_some(),
            Change::Deleted => view.remove(name).is_some(),
        };
        if was_there != (change != Change::Added) {
            let (name, revision) = place();
            self.found.push(Violation::WrongChange { name, revision });
        }
    }

    /// A list that opens a watch shows the latest of everything selected.
    fn missing_from_list(&mut self) {
        let Some(view) = &self.view else {
            return;
        };
        for (name, revision, kept) in self.facts.latest_at(self.position) {
            let Kept::Put(value) = kept else { continue };
            let shown = view.get(name).map_or(0, |state| state.revision);
            let may_be_gone = self.facts.may_be_deleted(name, revision, u64::MAX);
            let is_certain = shown > 0 || !may_be_gone;
            if self.selection.selects(value) && shown < revision && is_certain {
                let name = name.to_owned();
                self.found.push(Violation::Lost { name, revision });
            }
        }
    }

    /// Ends the span since the last list: nothing in it may be untold.
    fn settle(&mut self) {
        for (name, revision, kept) in self.facts.between(self.began, self.position) {
            let is_due = match kept {
                Kept::Put(value) => self.selection.selects(value),
                Kept::Gone => self.selection == Selection::All,
            };
            if is_due && !self.told.contains(&revision) {
                let name = name.to_owned();
                self.found.push(Violation::Missed { name, revision });
            }
        }
        // What left the selection was to be told too.
        for (name, state) in self.view.iter().flatten() {
            if let Some((revision, _)) = self.facts.before(name, self.position + 1)
                && revision > state.revision
            {
                let name = name.clone();
                self.found.push(Violation::Missed { name, revision });
            }
        }
    }
}
