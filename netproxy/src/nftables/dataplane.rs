//! Brings the kernel's tables to a plan: whole at first and after trouble, change by change otherwise.

use std::collections::BTreeMap;

use knarr_netproxy_plan::{Changes, Family, Plan};

use super::{
    increment::Tally,
    ruleset::{Edit, Edits, Ruleset, edits},
    wire::{Error, Observed, Socket, Watch, encode, observe},
};

/// Attempts to sync while others keep changing the ruleset.
const ATTEMPTS_MAX: usize = 10;

/// The tables of one network namespace.
#[derive(Debug)]
pub struct Nftables {
    socket: Socket,
    watch: Watch,
    families: BTreeMap<Family, Tally>,
    /// Chains and sets that the kernel would not let go of yet.
    leftovers: BTreeMap<Family, Vec<Edit>>,
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
        })
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
                Observed::Table(table) => edits(&table, wanted),
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
            self.socket.commit(&batch)?;
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

fn recreates(change: &Edit, removal: &Edit) -> bool {
    match (change, removal) {
        (Edit::AddChain(new, _), Edit::RemoveChain(old))
        | (Edit::AddClientSet(new), Edit::RemoveClientSet(old)) => new == old,
        _ => false,
    }
}
