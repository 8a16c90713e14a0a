//! A whole table as data, and the edits that lead from one to another.

use std::collections::{BTreeMap, BTreeSet};

use knarr_netproxy_plan::{Family, Plan, Policy, Ranges};

use super::{
    Name,
    element::{self, Element, Key, Set, Value},
    elements::Elements,
    expression::Expression,
    skeleton,
    statement::Statement,
    target::{Target, of_affinity},
};

/// One family's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// The family.
    pub family: Family,
    /// Chains by name.
    pub chains: BTreeMap<Name, Chain>,
    /// Elements of the skeleton's sets and maps.
    pub elements: BTreeMap<Set, Elements>,
    /// Sets of clients that keep their backend.
    pub client_sets: BTreeSet<Name>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where the kernel enters it; nowhere, for a regular chain.
    pub hook: Option<Hook>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// Where the kernel enters a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `nat` or `filter`.
    pub kind: &'static str,
    /// The hook.
    pub point: HookPoint,
    /// Lower comes first.
    pub priority: i32,
}

/// A hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// Packets that arrive.
    Prerouting,
    /// Packets of the host's own.
    Output,
    /// Packets that leave.
    Postrouting,
}

/// A rule; two are equal when their expressions are.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it says; empty when it was read from the kernel.
    pub statements: Vec<Statement>,
    /// What the kernel runs.
    pub expressions: Vec<Expression>,
}

impl Rule {
    /// Compiles a rule.
    #[must_use]
    pub fn new(statements: Vec<Statement>, family: Family) -> Self {
        let mut expressions = Vec::new();
        for statement in &statements {
            statement.compile(family, &mut expressions);
        }
        Self {
            statements,
            expressions,
        }
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.expressions == other.expressions
    }
}

impl Eq for Rule {}

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

impl Ruleset {
    /// The table that makes a plan true in one family.
    #[must_use]
    pub fn of(plan: &Plan, family: Family) -> Self {
        let mut chains: BTreeMap<Name, Chain> = skeleton::CHAINS
            .iter()
            .filter_map(|name| Some(((*name).into(), skeleton::chain(name, family)?)))
            .collect();
        let mut client_sets = BTreeSet::new();
        let mut elements: BTreeMap<Set, Vec<(Key, Value)>> =
            Set::ALL.into_iter().map(|set| (set, Vec::new())).collect();
        let mut add = |element: Element| {
            let own = elements.entry(element.set).or_default();
            own.push((element.key, element.value));
        };
        let mut targets = BTreeSet::new();
        for (key, frontend) in plan
            .frontends
            .iter()
            .filter(|(key, _)| key.address.family() == family)
        {
            element::of_frontend(key, frontend)
                .into_iter()
                .for_each(&mut add);
            targets.extend(Target::of(frontend, &frontend.answer, Policy::Cluster));
            let outside = frontend.from_outside.as_ref();
            targets.extend(outside.and_then(|answer| Target::of(frontend, answer, Policy::Local)));
        }
        let of_family = |address: &std::net::IpAddr| Family::of(address) == family;
        let cluster_ips = plan.cluster_ips.keys().filter(|address| of_family(address));
        cluster_ips.for_each(|address| add(element::of_cluster_ip(*address)));
        let hairpins = plan
            .hairpins
            .iter()
            .filter(|hairpin| of_family(&hairpin.endpoint.ip()));
        hairpins.for_each(|hairpin| add(element::of_hairpin(hairpin)));
        range_elements(&plan.ranges, family)
            .into_iter()
            .for_each(&mut add);
        for target in &targets {
            chains.extend(target.chains(family));
        }
        for (key, affinity) in plan
            .affinities
            .iter()
            .filter(|(key, _)| key.family == family)
        {
            let remembered = of_affinity(key, affinity);
            chains.extend(remembered.chains);
            client_sets.extend(remembered.sets);
        }
        let elements = elements.into_iter();
        Self {
            family,
            chains,
            elements: elements.map(|(set, own)| (set, own.into())).collect(),
            client_sets,
        }
    }

    /// A table that does not exist yet.
    #[must_use]
    pub fn absent(family: Family) -> Self {
        Self {
            family,
            chains: BTreeMap::new(),
            elements: BTreeMap::new(),
            client_sets: BTreeSet::new(),
        }
    }
}

/// The elements of the ranges that rules refer to.
#[must_use]
pub fn range_elements(ranges: &Ranges, family: Family) -> Vec<Element> {
    let Ranges {
        cluster_cidrs,
        pod_cidrs,
        service_cidrs,
        node_addresses,
        node_port_addresses,
        non_masquerade_cidrs,
    } = ranges;
    [
        (Set::ClusterCidrs, cluster_cidrs),
        (Set::PodCidrs, pod_cidrs),
        (Set::ServiceCidrs, service_cidrs),
        (Set::NodeAddresses, node_addresses),
        (Set::NodePortAddresses, node_port_addresses),
        (Set::NonMasqueradeCidrs, non_masquerade_cidrs),
    ]
    .into_iter()
    .flat_map(|(set, ranges)| element::of_ranges(set, ranges, family))
    .collect()
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
