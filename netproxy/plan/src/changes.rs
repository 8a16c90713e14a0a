//! The difference of two plans.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    frontend::{Affinity, AffinityKey, Frontend, Hairpin, Plan, Ranges},
    key::FrontendKey,
};

/// How one entry differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// It is new.
    Added(T),
    /// It is gone.
    Removed(T),
    /// It was one thing and is another.
    Changed {
        /// What it was.
        from: T,
        /// What it is.
        to: T,
    },
}

impl<T: PartialEq> Change<T> {
    /// The change between two states of an entry, if any.
    pub fn between(from: Option<T>, to: Option<T>) -> Option<Self> {
        match (from, to) {
            (None, None) => None,
            (None, Some(to)) => Some(Self::Added(to)),
            (Some(from), None) => Some(Self::Removed(from)),
            (Some(from), Some(to)) => (from != to).then_some(Self::Changed { from, to }),
        }
    }

    /// What the entry was, if it was.
    pub fn from(&self) -> Option<&T> {
        match self {
            Self::Added(_) => None,
            Self::Removed(from) | Self::Changed { from, .. } => Some(from),
        }
    }

    /// What the entry is, if it is.
    pub fn to(&self) -> Option<&T> {
        match self {
            Self::Removed(_) => None,
            Self::Added(to) | Self::Changed { to, .. } => Some(to),
        }
    }
}

/// Everything about packets in which two plans differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Frontends.
    pub frontends: BTreeMap<FrontendKey, Change<Frontend>>,
    /// Cluster IPs.
    pub cluster_ips: BTreeMap<IpAddr, Change<()>>,
    /// Hairpins.
    pub hairpins: BTreeMap<Hairpin, Change<()>>,
    /// Affinities.
    pub affinities: BTreeMap<AffinityKey, Change<Affinity>>,
    /// Ranges that rules refer to.
    pub ranges: Option<Change<Ranges>>,
}

impl Changes {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            frontends,
            cluster_ips,
            hairpins,
            affinities,
            ranges,
        } = self;
        frontends.is_empty()
            && cluster_ips.is_empty()
            && hairpins.is_empty()
            && affinities.is_empty()
            && ranges.is_none()
    }
}

/// The changes that lead from one plan to another.
#[must_use]
pub fn diff(from: &Plan, to: &Plan) -> Changes {
    Changes {
        frontends: maps(&from.frontends, &to.frontends),
        cluster_ips: sets(
            &from.cluster_ips.keys().copied().collect(),
            &to.cluster_ips.keys().copied().collect(),
        ),
        hairpins: sets(&from.hairpins, &to.hairpins),
        affinities: maps(&from.affinities, &to.affinities),
        ranges: Change::between(Some(from.ranges.clone()), Some(to.ranges.clone())),
    }
}

fn maps<K: Ord + Clone, V: Clone + PartialEq>(
    from: &BTreeMap<K, V>,
    to: &BTreeMap<K, V>,
) -> BTreeMap<K, Change<V>> {
    let gone = from.iter().filter(|(key, _)| !to.contains_key(key));
    let gone = gone.map(|(key, value)| (key.clone(), Change::Removed(value.clone())));
    let other = to.iter().filter_map(|(key, value)| {
        let change = match from.get(key) {
            None => Change::Added(value.clone()),
            Some(was) if was == value => return None,
            Some(was) => Change::Changed {
                from: was.clone(),
                to: value.clone(),
            },
        };
        Some((key.clone(), change))
    });
    gone.chain(other).collect()
}

fn sets<K: Ord + Copy>(from: &BTreeSet<K>, to: &BTreeSet<K>) -> BTreeMap<K, Change<()>> {
    let gone = from.difference(to).map(|key| (*key, Change::Removed(())));
    let added = to.difference(from).map(|key| (*key, Change::Added(())));
    gone.chain(added).collect()
}
