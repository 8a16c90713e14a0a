//! What clients of one store did and saw, as data. Judges nothing.

use std::collections::BTreeMap;

/// Orders what clients did: an answer with a lower tick than a request came before it.
pub(crate) type Tick = u64;
pub(crate) type Revision = u64;
/// Written once in a whole history, so that a state names the write that made it.
pub(crate) type Value = u64;

/// Objects by name, as one read shows them.
pub(crate) type View = BTreeMap<String, State>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) revision: Revision,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) reads: Vec<Read>,
    pub(crate) watches: Vec<Watch>,
}

impl History {
    pub(crate) fn append(&mut self, other: History) {
        let History {
            attempts,
            reads,
            watches,
        } = other;
        self.attempts.extend(attempts);
        self.reads.extend(reads);
        self.watches.extend(watches);
    }
}

/// One write that a client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) invoked: Tick,
    pub(crate) answered: Tick,
    pub(crate) name: String,
    pub(crate) action: Action,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Create {
        value: Value,
    },
    Replace {
        value: Value,
        expected: Revision,
    },
    Patch {
        value: Value,
    },
    Delete {
        expected: Revision,
    },
    /// A write of a kind that does not outlive the server; only its revision counts.
    Volatile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done; the answer to a deletion names no revision.
    Acknowledged(Option<Revision>),
    /// Refused for a reason, so nothing happened.
    Refused,
    /// The server went away first: it happened or it did not.
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) invoked: Tick,
    pub(crate) answered: Tick,
    pub(crate) found: Found,
}

#[derive(Clone, Debug)]
pub(crate) enum Found {
    List { revision: Revision, view: View },
    One { name: String, state: Option<State> },
}

/// One watcher's life: what it was told, in order.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) selection: Selection,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    All,
    /// Objects whose value is even.
    Even,
}

impl Selection {
    pub(crate) fn selects(self, value: Value) -> bool {
        match self {
            Selection::All => true,
            Selection::Even => value.is_multiple_of(2),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The watcher starts over from what is there.
    Listed { revision: Revision, view: View },
    /// The watcher asks for what follows a revision, of which it need not know the objects.
    Resumed { from: Revision },
    Event {
        change: Change,
        name: String,
        state: State,
    },
    /// Everything up to this revision was told.
    Reached { revision: Revision },
    /// 410: the watcher has to list.
    Expired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}
