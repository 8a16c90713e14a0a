//! Every kind of lie is caught, and honest histories pass.

use super::{Violation::*, *};
use crate::history::record::{Change, Read, Selection, Step, Watch};

/// Revisions are ticks here: what has revision 5 was asked for at tick 50 and answered at 51.
fn attempt(name: &str, action: Action, revision: Revision) -> Attempt {
    let known = match action {
        Action::Delete { .. } => None,
        _ => Some(revision),
    };
    Attempt {
        invoked: revision * 10,
        answered: revision * 10 + 1,
        name: name.into(),
        action,
        outcome: Outcome::Acknowledged(known),
    }
}

fn created(name: &str, revision: Revision, value: Value) -> Attempt {
    attempt(name, Action::Create { value }, revision)
}

fn replaced(name: &str, expected: Revision, revision: Revision, value: Value) -> Attempt {
    attempt(name, Action::Replace { value, expected }, revision)
}

fn deleted(name: &str, expected: Revision, revision: Revision) -> Attempt {
    attempt(name, Action::Delete { expected }, revision)
}

fn ending(outcome: Outcome, attempt: Attempt) -> Attempt {
    let answered = match outcome {
        Outcome::Unknown => Tick::MAX,
        Outcome::Acknowledged(_) | Outcome::Refused => attempt.answered,
    };
    Attempt {
        outcome,
        answered,
        ..attempt
    }
}

fn view(objects: &[(&str, Revision, Value)]) -> View {
    let entry = |&(name, revision, value): &(&str, Revision, Value)| {
        (name.to_owned(), State { revision, value })
    };
    objects.iter().map(entry).collect()
}

fn list(revision: Revision, objects: &[(&str, Revision, Value)]) -> Read {
    Read {
        invoked: revision * 10 + 5,
        answered: revision * 10 + 6,
        found: Found::List {
            revision,
            view: view(objects),
        },
    }
}

fn one(at: Revision, name: &str, state: Option<(Revision, Value)>) -> Read {
    Read {
        invoked: at * 10 + 5,
        answered: at * 10 + 6,
        found: Found::One {
            name: name.into(),
            state: state.map(|(revision, value)| State { revision, value }),
        },
    }
}

fn listed(revision: Revision, objects: &[(&str, Revision, Value)]) -> Step {
    Step::Listed {
        revision,
        view: view(objects),
    }
}

fn event(change: Change, name: &str, revision: Revision, value: Value) -> Step {
    Step::Event {
        change,
        name: name.into(),
        state: State { revision, value },
    }
}

fn check(attempts: Vec<Attempt>, reads: Vec<Read>, expected: &[Violation]) {
    check_all(attempts, reads, Vec::new(), expected);
}

fn check_watch(attempts: Vec<Attempt>, steps: Vec<Step>, expected: &[Violation]) {
    check_all(
        attempts,
        Vec::new(),
        vec![(Selection::All, steps)],
        expected,
    );
}

fn check_all(
    attempts: Vec<Attempt>,
    reads: Vec<Read>,
    watches: Vec<(Selection, Vec<Step>)>,
    expected: &[Violation],
) {
    let watches = watches
        .into_iter()
        .map(|(selection, steps)| Watch { selection, steps })
        .collect();
    let history = History {
        attempts,
        reads,
        watches,
    };
    assert_eq!(violations(&history), expected, "{history:#?}");
}

fn a(revision: Revision) -> (String, Revision) {
    ("a".into(), revision)
}

#[test]
fn an_honest_history_has_no_violation() {
    let attempts = vec![
        created("a", 1, 10),
        created("b", 2, 11),
        replaced("a", 1, 3, 12),
        attempt("", Action::Volatile, 4),
        deleted("b", 2, 5),
        created("b", 6, 13),
        ending(Outcome::Refused, replaced("a", 1, 7, 99)),
        ending(Outcome::Unknown, replaced("a", 3, 8, 14)),
    ];
    let reads = vec![
        list(3, &[("a", 3, 12), ("b", 2, 11)]),
        one(5, "b", None),
        list(9, &[("a", 8, 14), ("b", 6, 13)]),
    ];
    let all = vec![
        listed(2, &[("a", 1, 10), ("b", 2, 11)]),
        event(Change::Modified, "a", 3, 12),
        event(Change::Deleted, "b", 5, 11),
        Step::Resumed { from: 5 },
        event(Change::Added, "b", 6, 13),
        Step::Expired,
        listed(8, &[("a", 8, 14), ("b", 6, 13)]),
    ];
    let even = vec![
        listed(1, &[("a", 1, 10)]),
        event(Change::Modified, "a", 3, 12),
        Step::Reached { revision: 7 },
    ];
    let watches = vec![(Selection::All, all), (Selection::Even, even)];
    check_all(attempts, reads, watches, &[]);
}

#[test]
fn an_acknowledged_write_that_is_gone_is_lost() {
    let (name, revision) = a(1);
    let lost = [Lost { name, revision }];
    check(vec![created("a", 1, 10)], vec![list(2, &[])], &lost);
    check(vec![created("a", 1, 10)], vec![one(2, "a", None)], &lost);
    let (name, revision) = a(2);
    let lost = [Lost { name, revision }];
    let writes = vec![created("a", 1, 10), replaced("a", 1, 2, 11)];
    check(writes.clone(), vec![list(3, &[("a", 1, 10)])], &lost);
    check(writes, vec![one(3, "a", Some((1, 10)))], &lost);
}

#[test]
fn what_may_have_been_deleted_is_not_lost() {
    let unknown = ending(Outcome::Unknown, deleted("a", 1, 2));
    let writes = vec![created("a", 1, 10), unknown];
    check(writes.clone(), vec![list(3, &[]), one(3, "a", None)], &[]);
    check(writes, vec![list(3, &[("a", 1, 10)])], &[]);
    let (name, revision) = a(1);
    let refused = ending(Outcome::Refused, deleted("a", 1, 2));
    check(
        vec![created("a", 1, 10), refused],
        vec![list(3, &[])],
        &[Lost { name, revision }],
    );
}

#[test]
fn what_was_deleted_stays_deleted() {
    let (name, revision) = a(1);
    let writes = vec![created("a", 1, 10), deleted("a", 1, 2)];
    check(
        writes,
        vec![list(3, &[("a", 1, 10)])],
        &[Undead { name, revision }],
    );
}

#[test]
fn a_revision_names_one_change_and_a_change_one_revision() {
    check(
        vec![created("a", 1, 10), created("b", 1, 11)],
        vec![],
        &[RevisionTwice { revision: 1 }],
    );
    check(
        vec![created("a", 1, 10), attempt("", Action::Volatile, 1)],
        vec![],
        &[RevisionTwice { revision: 1 }],
    );
    check(
        vec![created("a", 1, 10)],
        vec![one(3, "a", Some((3, 10)))],
        &[AppliedTwice { value: 10 }],
    );
}

#[test]
fn states_that_nobody_wrote_are_phantoms() {
    let phantom = |value| Phantom {
        name: "a".into(),
        value,
    };
    check(vec![], vec![one(1, "a", Some((1, 10)))], &[phantom(10)]);
    let refused = ending(Outcome::Refused, created("a", 1, 10));
    check(
        vec![refused],
        vec![list(1, &[("a", 1, 10)])],
        &[phantom(10)],
    );
}

#[test]
fn revisions_follow_real_time() {
    let mut late = created("b", 2, 11);
    (late.invoked, late.answered) = (90, 91);
    let after = 5;
    check(
        vec![created("a", 5, 10), late.clone()],
        vec![],
        &[WentBack { revision: 2, after }],
    );
    check(
        vec![late],
        vec![list(5, &[])],
        &[
            WentBack { revision: 2, after },
            Lost {
                name: "b".into(),
                revision: 2,
            },
        ],
    );
}

#[test]
fn a_list_shows_nothing_newer_than_itself() {
    let mut early = list(1, &[("a", 2, 10)]);
    (early.invoked, early.answered) = (5, 30);
    let (name, revision) = a(2);
    check(
        vec![created("a", 2, 10)],
        vec![early],
        &[FromLater { name, revision }],
    );
}

#[test]
fn preconditions_are_kept() {
    let ignored = |revision| PreconditionIgnored {
        name: "a".into(),
        revision,
    };
    check(
        vec![
            created("a", 1, 10),
            replaced("a", 1, 2, 11),
            replaced("a", 1, 3, 12),
        ],
        vec![],
        &[ignored(3)],
    );
    check(
        vec![created("a", 1, 10), created("a", 2, 11)],
        vec![],
        &[ignored(2)],
    );
    check(
        vec![created("a", 1, 10), deleted("a", 1, 2), deleted("a", 1, 3)],
        vec![],
        &[ignored(0)],
    );
}

#[test]
fn watches_tell_each_change_once_and_in_order() {
    let writes = || {
        vec![
            created("a", 1, 10),
            created("b", 2, 11),
            replaced("a", 1, 3, 12),
        ]
    };
    let (name, revision) = a(3);
    check_watch(
        writes(),
        vec![
            listed(2, &[("a", 1, 10), ("b", 2, 11)]),
            event(Change::Modified, "a", 3, 12),
            event(Change::Modified, "a", 3, 12),
        ],
        &[OutOfOrder { name, revision }],
    );
    check_watch(
        writes(),
        vec![
            listed(0, &[]),
            event(Change::Added, "b", 2, 11),
            event(Change::Added, "a", 1, 10),
            event(Change::Modified, "a", 3, 12),
        ],
        &[OutOfOrder {
            name: "a".into(),
            revision: 1,
        }],
    );
    check_watch(
        writes(),
        vec![
            listed(1, &[("a", 1, 10)]),
            event(Change::Modified, "a", 3, 12),
        ],
        &[Missed {
            name: "b".into(),
            revision: 2,
        }],
    );
    check_watch(
        writes(),
        vec![Step::Resumed { from: 1 }, Step::Reached { revision: 2 }],
        &[Missed {
            name: "b".into(),
            revision: 2,
        }],
    );
}

#[test]
fn watches_tell_what_kind_of_change_it_was() {
    let writes = || vec![created("a", 1, 10), replaced("a", 1, 2, 12)];
    let (name, revision) = a(2);
    check_watch(
        writes(),
        vec![listed(1, &[("a", 1, 10)]), event(Change::Added, "a", 2, 12)],
        &[WrongChange { name, revision }],
    );
    let (name, revision) = a(2);
    check_watch(
        vec![created("a", 1, 10), deleted("a", 1, 2)],
        vec![listed(0, &[]), event(Change::Deleted, "a", 2, 10)],
        &[
            Missed {
                name: "a".into(),
                revision: 1,
            },
            WrongChange { name, revision },
        ],
    );
}

#[test]
fn a_selection_is_entered_and_left() {
    let writes = || vec![created("a", 1, 10), replaced("a", 1, 2, 11)];
    let even = |steps: Vec<Step>, expected: &[Violation]| {
        check_all(writes(), vec![], vec![(Selection::Even, steps)], expected);
    };
    even(
        vec![
            listed(1, &[("a", 1, 10)]),
            event(Change::Deleted, "a", 2, 10),
        ],
        &[],
    );
    let (name, revision) = a(2);
    even(
        vec![listed(1, &[("a", 1, 10)]), Step::Reached { revision: 2 }],
        &[Missed { name, revision }],
    );
    let (name, revision) = a(2);
    even(
        vec![
            listed(0, &[]),
            event(Change::Added, "a", 1, 10),
            event(Change::Modified, "a", 2, 11),
        ],
        &[NotSelected { name, revision }],
    );
}
