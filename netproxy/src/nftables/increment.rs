//! Turns a plan's changes into edits without looking at anything that did not change.

use std::collections::BTreeMap;

use knarr_netproxy_plan::{Change, Changes, Family, Frontend, FrontendKey, Plan, Policy, Ranges};

use super::{
    Name,
    chain::Chain,
    edits::{Edit, Edits},
    element,
    ruleset::range_elements,
    set::{Element, Key, Set, Value},
    target::{Remembered, Target, of_affinity},
};

/// How many frontends lead to each shared chain of one family's table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    uses: BTreeMap<Name, usize>,
}

/// Edits in the making.
#[derive(Default)]
struct Draft {
    new_chains: BTreeMap<Name, Chain>,
    new_sets: Vec<Name>,
    old_chains: Vec<Name>,
    old_sets: Vec<Name>,
    removed: BTreeMap<Set, BTreeMap<Key, Value>>,
    added: BTreeMap<Set, BTreeMap<Key, Value>>,
    rewritten: BTreeMap<Name, Chain>,
}

impl Tally {
    /// Counts a whole plan.
    #[must_use]
    pub fn of(plan: &Plan, family: Family) -> Self {
        // Many frontends lead to few targets, and names cost more than counting.
        let mut counts: BTreeMap<Target, usize> = BTreeMap::new();
        for (key, frontend) in &plan.frontends {
            if key.address.family() == family {
                for target in targets(frontend) {
                    *counts.entry(target).or_default() += 1;
                }
            }
        }
        let mut tally = Self::default();
        for (target, count) in counts {
            for name in target.chain_names() {
                *tally.uses.entry(name).or_default() += count;
            }
        }
        tally
    }

    /// The edits that follow a plan's changes in one family.
    pub fn edits(&mut self, changes: &Changes, family: Family) -> Edits {
        let Changes {
            frontends,
            cluster_ips,
            hairpins,
            affinities,
            ranges,
        } = changes;
        let mut draft = Draft::default();
        for (key, change) in frontends {
            if key.address.family() == family {
                self.frontend(key, change, family, &mut draft);
            }
        }
        for (address, change) in cluster_ips {
            if Family::of(address) == family {
                draft.element(element::of_cluster_ip(*address), change);
            }
        }
        for (hairpin, change) in hairpins {
            if Family::of(&hairpin.endpoint.ip()) == family {
                draft.element(element::of_hairpin(hairpin), change);
            }
        }
        for (key, change) in affinities.iter().filter(|(key, _)| key.family == family) {
            let remembered = |affinity| of_affinity(key, affinity);
            let from = change.from().map(remembered).unwrap_or_default();
            let to = change.to().map(remembered).unwrap_or_default();
            draft.affinity(from, to);
        }
        if let Some(change) = ranges {
            let elements = |ranges: &Ranges| range_elements(ranges, family);
            let from = change.from().map(elements).unwrap_or_default();
            let to = change.to().map(elements).unwrap_or_default();
            draft.elements(from, to);
        }
        draft.edits()
    }

    fn frontend(
        &mut self,
        key: &FrontendKey,
        change: &Change<Frontend>,
        family: Family,
        draft: &mut Draft,
    ) {
        let elements = |frontend| element::of_frontend(key, frontend);
        let from = change.from().map(elements).unwrap_or_default();
        let to = change.to().map(elements).unwrap_or_default();
        draft.elements(from, to);
        for target in change.to().map(targets).unwrap_or_default() {
            for (name, chain) in target.chains(family) {
                let uses = self.uses.entry(name.clone()).or_default();
                *uses += 1;
                if *uses == 1 {
                    draft.add_chain(name, chain);
                }
            }
        }
        for target in change.from().map(targets).unwrap_or_default() {
            for name in target.chain_names() {
                let Some(uses) = self.uses.get_mut(&name) else {
                    continue;
                };
                *uses -= 1;
                if *uses == 0 {
                    self.uses.remove(&name);
                    draft.remove_chain(name);
                }
            }
        }
    }
}

fn targets(frontend: &Frontend) -> Vec<Target> {
    let inside = Target::of(frontend, &frontend.answer, Policy::Cluster);
    let outside = frontend.from_outside.as_ref();
    let outside = outside.and_then(|answer| Target::of(frontend, answer, Policy::Local));
    inside.into_iter().chain(outside).collect()
}

impl Draft {
    fn element(&mut self, element: Element, change: &Change<()>) {
        let Element { set, key, value } = element;
        match change {
            Change::Added(()) => self.added.entry(set).or_default().insert(key, value),
            Change::Removed(()) => self.removed.entry(set).or_default().insert(key, value),
            Change::Changed { .. } => None,
        };
    }

    fn elements(&mut self, from: Vec<Element>, to: Vec<Element>) {
        for element in &from {
            if !to.contains(element) {
                let Element { set, key, value } = element.clone();
                self.removed.entry(set).or_default().insert(key, value);
            }
        }
        for element in to {
            if !from.contains(&element) {
                self.added
                    .entry(element.set)
                    .or_default()
                    .insert(element.key, element.value);
            }
        }
    }

    /// A chain that was about to go may stay after all.
    fn add_chain(&mut self, name: Name, chain: Chain) {
        match self.old_chains.iter().position(|old| *old == name) {
            Some(index) => {
                self.old_chains.swap_remove(index);
            }
            None => {
                self.new_chains.insert(name, chain);
            }
        }
    }

    fn remove_chain(&mut self, name: Name) {
        if self.new_chains.remove(&name).is_none() {
            self.old_chains.push(name);
        }
    }

    fn affinity(&mut self, from: Remembered, to: Remembered) {
        self.new_sets.extend(
            to.sets
                .iter()
                .filter(|set| !from.sets.contains(set))
                .cloned(),
        );
        self.old_sets
            .extend(from.sets.into_iter().filter(|set| !to.sets.contains(set)));
        let mut before: BTreeMap<Name, Chain> = from.chains.into_iter().collect();
        for (name, chain) in to.chains {
            match before.remove(&name) {
                None => {
                    self.new_chains.insert(name, chain);
                }
                Some(known) if known == chain => {}
                Some(_) => {
                    self.rewritten.insert(name, chain);
                }
            }
        }
        self.old_chains.extend(before.into_keys());
    }

    fn edits(self) -> Edits {
        let Self {
            new_chains,
            new_sets,
            old_chains,
            old_sets,
            removed,
            added,
            rewritten,
        } = self;
        let mut change: Vec<Edit> = new_sets.into_iter().map(Edit::AddClientSet).collect();
        change.extend(
            new_chains
                .keys()
                .map(|name| Edit::AddChain(name.clone(), None)),
        );
        for (name, chain) in new_chains {
            change.extend(
                chain
                    .rules
                    .into_iter()
                    .map(|rule| Edit::AddRule(name.clone(), rule)),
            );
        }
        for (name, chain) in rewritten {
            change.push(Edit::FlushChain(name.clone()));
            change.extend(
                chain
                    .rules
                    .into_iter()
                    .map(|rule| Edit::AddRule(name.clone(), rule)),
            );
        }
        let listed = |elements: BTreeMap<Key, Value>| elements.into_iter().collect();
        let removed = removed.into_iter();
        change.extend(removed.map(|(set, gone)| Edit::RemoveElements(set, listed(gone))));
        let added = added.into_iter();
        change.extend(added.map(|(set, new)| Edit::AddElements(set, listed(new))));
        change.extend(old_chains.iter().cloned().map(Edit::FlushChain));
        let mut sweep: Vec<Edit> = old_chains.into_iter().map(Edit::RemoveChain).collect();
        sweep.extend(old_sets.into_iter().map(Edit::RemoveClientSet));
        Edits { change, sweep }
    }
}
