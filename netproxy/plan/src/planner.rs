//! Keeps a plan up to date Service by Service: one change replans one Service.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};

use crate::{
    changes::{Change, Changes},
    few::FewSet,
    frontend::{Affinity, AffinityKey, Frontend, Hairpin, Plan, Ranges},
    key::{FrontendKey, ServiceKey},
    service::{ServicePlan, plan_service},
    settings::Settings,
    warning::Warning,
};

/// Everything a planner needs, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The cluster's ranges and this node.
    pub settings: Settings,
    /// Services with their slices.
    pub services: BTreeMap<ServiceKey, (Arc<core::Service>, Vec<Arc<discovery::EndpointSlice>>)>,
}

/// Plans a snapshot from scratch.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> (Plan, Vec<Warning>) {
    let mut planner = Planner::new(snapshot.settings.clone());
    for (key, (service, slices)) in &snapshot.services {
        planner.put(key, service, slices.iter().map(AsRef::as_ref));
    }
    let warnings = planner.warnings();
    (planner.plan, warnings)
}

/// Who claims what, in the order of names.
type Owners<K> = BTreeMap<K, FewSet<Arc<ServiceKey>>>;

/// A plan, and what it takes to change it by one Service.
#[derive(Debug, Default)]
pub struct Planner {
    settings: Settings,
    services: BTreeMap<Arc<ServiceKey>, Arc<ServicePlan>>,
    claimants: Owners<FrontendKey>,
    cluster_ip_owners: Owners<IpAddr>,
    load_balancer_ip_owners: Owners<IpAddr>,
    health_check_owners: Owners<u16>,
    hairpin_uses: BTreeMap<Hairpin, usize>,
    /// Services with warnings of their own, and frontends that several Services claim.
    troubled: BTreeSet<Arc<ServiceKey>>,
    contested: BTreeSet<FrontendKey>,
    plan: Plan,
    before: Before,
}

/// What entries were when they were first touched since the changes were last taken.
#[derive(Debug, Default)]
struct Before {
    frontends: BTreeMap<FrontendKey, Option<Frontend>>,
    cluster_ips: BTreeMap<IpAddr, Option<()>>,
    hairpins: BTreeMap<Hairpin, Option<()>>,
    affinities: BTreeMap<AffinityKey, Option<Affinity>>,
    ranges: Ranges,
}

impl Planner {
    /// A planner without Services.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let plan = Plan {
            ranges: settings.ranges(),
            ..Plan::default()
        };
        Self {
            settings,
            plan,
            ..Self::default()
        }
    }

    /// The plan as it stands.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the plan was made for.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes other settings, if every Service is planned alike under them; else gives them back.
    ///
    /// # Errors
    /// With the settings, when every Service needs a new plan.
    pub fn relearn(&mut self, settings: Settings) -> Result<(), Settings> {
        if !self.settings.plans_alike(&settings) {
            return Err(settings);
        }
        self.plan.ranges = settings.ranges();
        self.settings = settings;
        Ok(())
    }

    /// Plans one Service anew.
    pub fn put<'a>(
        &mut self,
        key: &ServiceKey,
        service: &core::Service,
        slices: impl IntoIterator<Item = &'a discovery::EndpointSlice>,
    ) {
        let key = self.known(key);
        let new = plan_service(&self.settings, &key, service, slices);
        self.replace(&key, Some(Arc::new(new)));
    }

    /// Forgets one Service.
    pub fn remove(&mut self, key: &ServiceKey) {
        let key = self.known(key);
        self.replace(&key, None);
    }

    /// What the plan had to leave out.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let troubled = self
            .troubled
            .iter()
            .filter_map(|key| self.services.get(key));
        let mut warnings: BTreeSet<Warning> = troubled
            .flat_map(|service| service.warnings.iter().cloned())
            .collect();
        for frontend in &self.contested {
            let Some(holder) = self.plan.frontends.get(frontend) else {
                continue;
            };
            let holder = &holder.service_port.service;
            let claimants = self.claimants.get(frontend).into_iter();
            let claimants = claimants.flat_map(FewSet::keys);
            let losers = claimants.filter(|service| *service != holder);
            warnings.extend(losers.map(|service| Warning::FrontendTaken {
                service: service.clone(),
                frontend: *frontend,
                holder: holder.clone(),
            }));
        }
        warnings.into_iter().collect()
    }

    /// The changes since they were last taken.
    pub fn take_changes(&mut self) -> Changes {
        let before = self.forget_changes();
        let plan = &self.plan;
        Changes {
            frontends: settle(before.frontends, |key| plan.frontends.get(key).cloned()),
            cluster_ips: settle(before.cluster_ips, |key| {
                plan.cluster_ips.get(key).map(|_| ())
            }),
            hairpins: settle(before.hairpins, |key| plan.hairpins.get(key).map(|_| ())),
            affinities: settle(before.affinities, |key| plan.affinities.get(key).cloned()),
            ranges: Change::between(Some(before.ranges), Some(self.plan.ranges.clone())),
        }
    }

    /// Counts changes from here on; gives back what was counted so far.
    fn forget_changes(&mut self) -> Before {
        let ranges = self.plan.ranges.clone();
        let from_here = Before {
            ranges,
            ..Before::default()
        };
        std::mem::replace(&mut self.before, from_here)
    }

    /// Calls the plan as it stands the one that changes are counted from.
    pub fn settle(&mut self) {
        self.forget_changes();
    }

    fn known(&self, key: &ServiceKey) -> Arc<ServiceKey> {
        let known = self.services.get_key_value(key).map(|(key, _)| key.clone());
        known.unwrap_or_else(|| Arc::new(key.clone()))
    }

    fn replace(&mut self, key: &Arc<ServiceKey>, new: Option<Arc<ServicePlan>>) {
        let old = match &new {
            Some(new) => self.services.insert(key.clone(), new.clone()),
            None => self.services.remove(key),
        }
        .unwrap_or_default();
        let new = new.unwrap_or_default();
        if old == new {
            return;
        }
        if new.warnings.is_empty() {
            self.troubled.remove(key);
        } else {
            self.troubled.insert(key.clone());
        }
        self.replace_frontends(key, &old, &new);
        self.replace_addresses(key, &old, &new);
        self.replace_hairpins(&old, &new);
        self.replace_affinities(&old, &new);
        self.replace_health_checks(key, &old, &new);
    }

    fn replace_frontends(&mut self, key: &Arc<ServiceKey>, old: &ServicePlan, new: &ServicePlan) {
        for frontend in old.frontends.keys_without(&new.frontends) {
            withdraw(&mut self.claimants, *frontend, key);
            self.settle_frontend(*frontend);
        }
        for (frontend, value) in new.frontends.iter() {
            if old.frontends.get(frontend) != Some(value) {
                enrol(&mut self.claimants, *frontend, key);
                self.settle_frontend(*frontend);
            }
        }
    }

    /// Gives a frontend to the claimant with the strongest kind, then the first name.
    fn settle_frontend(&mut self, key: FrontendKey) {
        let claimants = self.claimants.get(&key);
        if claimants.is_some_and(|all| all.len() > 1) {
            self.contested.insert(key);
        } else {
            self.contested.remove(&key);
        }
        let claimants = claimants.into_iter().flat_map(FewSet::keys);
        let claims =
            claimants.filter_map(|service| self.services.get(service)?.frontends.get(&key));
        let winner = claims.min_by_key(|frontend| frontend.kind).cloned();
        let was = put(&mut self.plan.frontends, key, winner);
        self.before.frontends.entry(key).or_insert(was);
    }

    fn replace_addresses(&mut self, key: &Arc<ServiceKey>, old: &ServicePlan, new: &ServicePlan) {
        let gone = old.cluster_ips.keys_without(&new.cluster_ips);
        for address in new.cluster_ips.keys().chain(gone) {
            if new.cluster_ips.contains(address) {
                enrol(&mut self.cluster_ip_owners, *address, key);
            } else {
                withdraw(&mut self.cluster_ip_owners, *address, key);
            }
            let owner = first(&self.cluster_ip_owners, address);
            let was = put(&mut self.plan.cluster_ips, *address, owner);
            self.before
                .cluster_ips
                .entry(*address)
                .or_insert(was.map(|_| ()));
        }
        let addresses = old
            .load_balancer_ips
            .keys()
            .chain(new.load_balancer_ips.keys());
        for address in addresses {
            if new.load_balancer_ips.contains(address) {
                enrol(&mut self.load_balancer_ip_owners, *address, key);
            } else {
                withdraw(&mut self.load_balancer_ip_owners, *address, key);
            }
            let owner = first(&self.load_balancer_ip_owners, address);
            let owner = owner.and_then(|owner| self.services.get(&owner));
            let announced = owner.and_then(|owner| owner.load_balancer_ips.get(address).cloned());
            put(&mut self.plan.load_balancer_ips, *address, announced);
        }
    }

    fn replace_health_checks(
        &mut self,
        key: &Arc<ServiceKey>,
        old: &ServicePlan,
        new: &ServicePlan,
    ) {
        let port = |plan: &ServicePlan| plan.health_check.as_ref().map(|(port, _)| *port);
        if let Some(port) = port(old) {
            withdraw(&mut self.health_check_owners, port, key);
        }
        if let Some(port) = port(new) {
            enrol(&mut self.health_check_owners, port, key);
        }
        for port in [port(old), port(new)].into_iter().flatten() {
            let owner = first(&self.health_check_owners, &port);
            let owner = owner.and_then(|owner| self.services.get(&owner));
            let check = owner.and_then(|owner| owner.health_check.clone());
            put(
                &mut self.plan.health_checks,
                port,
                check.map(|(_, check)| check),
            );
        }
    }

    fn replace_hairpins(&mut self, old: &ServicePlan, new: &ServicePlan) {
        for hairpin in new.hairpins.keys_without(&old.hairpins) {
            *self.hairpin_uses.entry(*hairpin).or_default() += 1;
            let added = self.plan.hairpins.insert(*hairpin);
            self.before
                .hairpins
                .entry(*hairpin)
                .or_insert((!added).then_some(()));
        }
        for hairpin in old.hairpins.keys_without(&new.hairpins) {
            let Some(uses) = self.hairpin_uses.get_mut(hairpin) else {
                continue;
            };
            *uses -= 1;
            if *uses == 0 {
                self.hairpin_uses.remove(hairpin);
                self.plan.hairpins.remove(hairpin);
                self.before.hairpins.entry(*hairpin).or_insert(Some(()));
            }
        }
    }

    fn replace_affinities(&mut self, old: &ServicePlan, new: &ServicePlan) {
        for key in old.affinities.keys().chain(new.affinities.keys()) {
            let was = put(
                &mut self.plan.affinities,
                key.clone(),
                new.affinities.get(key).cloned(),
            );
            self.before.affinities.entry(key.clone()).or_insert(was);
        }
    }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}

fn enrol<K: Ord>(owners: &mut Owners<K>, place: K, key: &Arc<ServiceKey>) {
    let all = owners.entry(place).or_default();
    all.insert_new(key.clone(), ());
    all.shrink();
}

fn withdraw<K: Ord>(owners: &mut Owners<K>, place: K, key: &Arc<ServiceKey>) {
    if let Some(all) = owners.get_mut(&place) {
        all.remove(key);
        if all.is_empty() {
            owners.remove(&place);
        }
    }
}

fn first<K: Ord>(owners: &Owners<K>, place: &K) -> Option<Arc<ServiceKey>> {
    owners.get(place)?.keys().next().cloned()
}

fn settle<K: Ord, V: PartialEq>(
    before: BTreeMap<K, Option<V>>,
    now: impl Fn(&K) -> Option<V>,
) -> BTreeMap<K, Change<V>> {
    before
        .into_iter()
        .filter_map(|(key, was)| {
            let change = Change::between(was, now(&key))?;
            Some((key, change))
        })
        .collect()
}
