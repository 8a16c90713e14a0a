//! Brings the kernel's tables to a plan: whole at first and after trouble, change by change otherwise.

use std::{collections::BTreeMap, mem};

use knarr_netproxy_plan::{Changes, Family, FrontendKey, Plan};

use super::{
    edits::{Edit, Edits, edits},
    element::frontend_of,
    increment::Tally,
    ruleset::Ruleset,
    set::Set,
    wire::{Batch, Error, Observed, Socket, Watch, encode, observe},
};

/// Attempts to sync while others keep changing the ruleset.
const ATTEMPTS_MAX: usize = 10;
/// The kernel writes a notification for every element while anybody listens, which takes it longer than
/// programming them: batches from this size on are worth a moment without ears.
const UNHEARD_BYTES_MIN: usize = 64 * 1024;

/// The tables of one network namespace.
#[derive(Debug)]
pub struct Nftables {
    socket: Socket,
    watch: Watch,
    families: BTreeMap<Family, Tally>,
    /// Chains and sets that the kernel would not let go of yet.
    leftovers: BTreeMap<Family, Vec<Edit>>,
    /// Elements that the kernel is believed to have.
    element_counts: BTreeMap<Family, BTreeMap<Set, usize>>,
    /// Frontends that the kernel had when it was last read.
    departed: Vec<FrontendKey>,
}

/// What a sync did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Edits sent to the kernel.
    pub edit_count: usize,
    /// Their size on the wire.
    pub byte_count: usize,
}

impl Nftables {
    /// Opens the tables of this thread's network namespace; changes nothing.
    ///
    /// # Errors
    /// When netfilter is not there or not ours to use.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open()?;
        let watch = Watch::open(&socket)?;
        Ok(Self {
            socket,
            watch,
            families: BTreeMap::new(),
            leftovers: BTreeMap::new(),
            element_counts: BTreeMap::new(),
            departed: Vec::new(),
        })
    }

    /// How many elements each set is believed to have, in both families.
    #[must_use]
    pub fn element_counts(&self) -> BTreeMap<Set, usize> {
        let mut sum = BTreeMap::new();
        for (set, count) in self.element_counts.values().flatten() {
            *sum.entry(*set).or_default() += count;
        }
        sum
    }

    /// Frontends that the kernel had when whole syncs read it, and the plan no longer has.
    pub fn take_departed(&mut self) -> Vec<FrontendKey> {
        mem::take(&mut self.departed)
    }

    /// Where changes by others are heard.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Compares what the kernel has with the whole plan, and sends the difference.
    ///
    /// # Errors
    /// When the kernel refuses; then nothing is believed until the next whole sync.
    pub fn sync(&mut self, plan: &Plan) -> Result<Applied, Error> {
        self.families.clear();
        self.leftovers.clear();
        let mut applied = Applied::default();
        for family in Family::BOTH {
            let wanted = Ruleset::of(plan, family);
            self.sync_family(&wanted, &mut applied)?;
            let sets = wanted.elements.iter();
            let counts = sets.map(|(set, elements)| (*set, elements.len())).collect();
            self.element_counts.insert(family, counts);
            self.families.insert(family, Tally::of(plan, family));
        }
        Ok(applied)
    }

    fn sync_family(&mut self, wanted: &Ruleset, applied: &mut Applied) -> Result<(), Error> {
        let family = wanted.family;
        for _ in 0..ATTEMPTS_MAX {
            let (observed, generation) = observe(&mut self.socket, family)?;
            let wanted = match observed {
                Observed::Absent => edits(&Ruleset::absent(family), wanted),
                Observed::Table(table) => {
                    self.departed.extend(departed(&table, wanted));
                    edits(&table, wanted)
                }
                Observed::Foreign => {
                    let mut anew = edits(&Ruleset::absent(family), wanted);
                    anew.change.insert(0, Edit::RemoveTable);
                    anew
                }
            };
            match self.apply(family, wanted, Some(generation), applied) {
                Err(Error::Stale) => {}
                result => return result,
            }
        }
        Err(Error::Stale)
    }

    /// Sends what a plan's changes ask for, without looking at the kernel.
    ///
    /// # Errors
    /// When the kernel refuses, or no whole sync has succeeded since it last did.
    pub fn sync_changes(&mut self, changes: &Changes) -> Result<Applied, Error> {
        let mut applied = Applied::default();
        for family in Family::BOTH {
            let Some(mut tally) = self.families.remove(&family) else {
                return Err(Error::Stale);
            };
            let edits = tally.edits(changes, family);
            let counts = self.element_counts.entry(family).or_default();
            edits.change.iter().for_each(|edit| count(edit, counts));
            self.apply(family, edits, None, &mut applied)?;
            self.families.insert(family, tally);
        }
        Ok(applied)
    }

    fn apply(
        &mut self,
        family: Family,
        edits: Edits,
        generation: Option<u32>,
        applied: &mut Applied,
    ) -> Result<(), Error> {
        let Edits { change, sweep } = edits;
        if !change.is_empty() {
            let batch = encode(&change, family, generation);
            applied.edit_count += change.len();
            applied.byte_count += batch.byte_count();
            match generation.filter(|_| batch.byte_count() >= UNHEARD_BYTES_MIN) {
                Some(generation) => self.commit_unheard(&batch, generation)?,
                None => self.socket.commit(&batch)?,
            }
        }
        let leftovers = self.leftovers.entry(family).or_default();
        leftovers.retain(|edit| !change.iter().any(|change| recreates(change, edit)));
        leftovers.extend(sweep);
        if leftovers.is_empty() {
            return Ok(());
        }
        applied.edit_count += leftovers.len();
        match self.socket.commit(&encode(leftovers, family, None)) {
            Ok(()) => leftovers.clear(),
            // Some kernels let go of a chain only after a grace period; the next sync tries again.
            Err(Error::Refused { cause, .. }) if cause.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Commits without a notification; `Stale` when others may have changed something meanwhile.
    fn commit_unheard(&mut self, batch: &Batch, generation: u32) -> Result<(), Error> {
        self.watch.rest()?;
        let committed = self.socket.commit(batch);
        self.watch.listen()?;
        committed?;
        // A commit is one generation, and none is numbered zero.
        let ours = generation.checked_add(1).unwrap_or(1);
        match self.socket.generation()? {
            now if now == ours => Ok(()),
            _ => Err(Error::Stale),
        }
    }

    /// Removes our tables, and only those.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&mut self) -> Result<(), Error> {
        self.families.clear();
        self.leftovers.clear();
        for family in Family::BOTH {
            let (observed, _) = observe(&mut self.socket, family)?;
            if observed != Observed::Absent {
                self.socket
                    .commit(&encode(&[Edit::RemoveTable], family, None))?;
            }
        }
        Ok(())
    }
}

fn departed(from: &Ruleset, to: &Ruleset) -> Vec<FrontendKey> {
    let all = from.elements.iter().flat_map(|(set, elements)| {
        let gone = elements.iter().filter(|(key, _)| {
            let kept = to.elements.get(set);
            kept.and_then(|kept| kept.get(key)).is_none()
        });
        gone.filter_map(|(key, _)| frontend_of(*set, key, from.family))
    });
    all.collect()
}

fn count(edit: &Edit, counts: &mut BTreeMap<Set, usize>) {
    match edit {
        Edit::AddElements(set, elements) => *counts.entry(*set).or_default() += elements.len(),
        Edit::RemoveElements(set, elements) => {
            let count = counts.entry(*set).or_default();
            *count = count.saturating_sub(elements.len());
        }
        Edit::AddTable
        | Edit::RemoveTable
        | Edit::AddClientSet(_)
        | Edit::AddChain(..)
        | Edit::AddRule(..)
        | Edit::FlushChain(_)
        | Edit::RemoveChain(_)
        | Edit::RemoveClientSet(_) => {}
    }
}

fn recreates(change: &Edit, removal: &Edit) -> bool {
    match (change, removal) {
        (Edit::AddChain(new, _), Edit::RemoveChain(old))
        | (Edit::AddClientSet(new), Edit::RemoveClientSet(old)) => new == old,
        _ => false,
    }
}
