//! The edits that lead from one table to another.

use super::{
    Name,
    chain::{Hook, Rule},
    elements::Elements,
    ruleset::Ruleset,
    set::{Key, Set, Value},
};

/// One step from a table to another; a list of them is one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Creates the table with its sets and maps.
    AddTable,
    /// Removes the table and all in it.
    RemoveTable,
    /// Creates a set of clients.
    AddClientSet(Name),
    /// Creates a chain without rules.
    AddChain(Name, Option<Hook>),
    /// Appends a rule.
    AddRule(Name, Rule),
    /// Removes a chain's rules.
    FlushChain(Name),
    /// Adds elements of one set.
    AddElements(Set, Vec<(Key, Value)>),
    /// Removes elements of one set.
    RemoveElements(Set, Vec<(Key, Value)>),
    /// Removes a chain that nothing refers to.
    RemoveChain(Name),
    /// Removes a set of clients that nothing refers to.
    RemoveClientSet(Name),
}

/// Two transactions: what packets meet, then what nothing refers to any longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// What packets meet.
    pub change: Vec<Edit>,
    /// Chains and sets to remove, in a transaction of their own, because before 6.2 the kernel
    /// holds on to what the same transaction stopped referring to.
    pub sweep: Vec<Edit>,
}

impl Edits {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.change.is_empty() && self.sweep.is_empty()
    }
}

/// The edits that lead from one table to another.
#[must_use]
pub fn edits(from: &Ruleset, to: &Ruleset) -> Edits {
    let mut edits = Edits::default();
    if from.elements.is_empty() {
        edits.change.push(Edit::AddTable);
    }
    chain_edits(from, to, &mut edits);
    let nothing = Elements::default();
    let (mut gone, mut added) = (Vec::new(), Vec::new());
    for set in Set::ALL {
        let from = from.elements.get(&set).unwrap_or(&nothing);
        let to = to.elements.get(&set).unwrap_or(&nothing);
        gone.push((set, from.missing_in(to)));
        added.push((set, to.missing_in(from)));
    }
    let some = |(_, elements): &(Set, Vec<(Key, Value)>)| !elements.is_empty();
    let gone = gone.into_iter().filter(some);
    edits
        .change
        .extend(gone.map(|(set, elements)| Edit::RemoveElements(set, elements)));
    let added = added.into_iter().filter(some);
    edits
        .change
        .extend(added.map(|(set, elements)| Edit::AddElements(set, elements)));
    edits
}

fn chain_edits(from: &Ruleset, to: &Ruleset, edits: &mut Edits) {
    let new_sets = to.client_sets.difference(&from.client_sets);
    edits
        .change
        .extend(new_sets.map(|name| Edit::AddClientSet(name.clone())));
    for (name, chain) in &to.chains {
        if !from.chains.contains_key(name) {
            edits.change.push(Edit::AddChain(name.clone(), chain.hook));
        }
    }
    for (name, chain) in &to.chains {
        let known = from.chains.get(name);
        if known.is_some_and(|known| known.rules == chain.rules) {
            continue;
        }
        if known.is_some_and(|known| !known.rules.is_empty()) {
            edits.change.push(Edit::FlushChain(name.clone()));
        }
        let rules = chain
            .rules
            .iter()
            .map(|rule| Edit::AddRule(name.clone(), rule.clone()));
        edits.change.extend(rules);
    }
    for (name, chain) in &from.chains {
        if to.chains.contains_key(name) {
            continue;
        }
        if !chain.rules.is_empty() {
            edits.change.push(Edit::FlushChain(name.clone()));
        }
        edits.sweep.push(Edit::RemoveChain(name.clone()));
    }
    let old_sets = from.client_sets.difference(&to.client_sets);
    edits
        .sweep
        .extend(old_sets.map(|name| Edit::RemoveClientSet(name.clone())));
}
