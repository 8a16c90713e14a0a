//! A whole table as data.

use std::collections::{BTreeMap, BTreeSet};

use knarr_netproxy_plan::{Family, Plan, Policy, Ranges};

use super::{
    Name,
    chain::Chain,
    element,
    elements::Elements,
    set::{Element, Key, Set, Value},
    skeleton,
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
