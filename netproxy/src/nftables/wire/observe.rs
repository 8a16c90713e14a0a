//! Reads one family's table back from the kernel, as data.

use std::collections::{BTreeMap, BTreeSet};

use knarr_netproxy_plan::Family;

use super::{
    constant as c,
    decode::{self, Listed},
    shape::Shape,
    socket::{Error, Socket},
};
use crate::netlink::message::Writer;
use crate::nftables::{
    Name, TABLE,
    chain::{Chain, Hook, Rule},
    elements::Elements,
    expression::Expression,
    ruleset::Ruleset,
    set::{Matching, Set, Value},
};

/// Attempts to read a ruleset that others keep changing.
const ATTEMPTS_MAX: usize = 10;

/// What the kernel has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// No table of ours.
    Absent,
    /// A table that edits can lead from.
    Table(Ruleset),
    /// A table of our name that sleeps, or whose sets or base chains have another shape.
    Foreign,
}

/// Reads one family's table, all of one generation, which it returns beside.
///
/// # Errors
/// When the kernel refuses, or others change the ruleset faster than it can be read.
pub fn observe(socket: &mut Socket, family: Family) -> Result<(Observed, u32), Error> {
    for _ in 0..ATTEMPTS_MAX {
        let generation = socket.generation()?;
        match read(socket, family) {
            Ok(observed) if socket.generation()? == generation => {
                return Ok((observed, generation));
            }
            Ok(_) | Err(Error::Stale) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::Stale)
}

fn read(socket: &mut Socket, family: Family) -> Result<Observed, Error> {
    let (mut present, mut as_meant) = (false, true);
    socket.dump(
        c::message::GETTABLE,
        family,
        |_| {},
        |message| {
            let attributes = message.attributes();
            if attributes.text(c::table::NAME) == Some(TABLE) {
                present = true;
                // A dormant table has chains, and packets meet none of them.
                as_meant = attributes.number(c::table::FLAGS).unwrap_or(0) == 0;
            }
        },
    )?;
    if !present {
        return Ok(Observed::Absent);
    }
    if !as_meant {
        return Ok(Observed::Foreign);
    }
    let Some(client_sets) = read_sets(socket, family)? else {
        return Ok(Observed::Foreign);
    };
    let Some(mut chains) = read_chains(socket, family)? else {
        return Ok(Observed::Foreign);
    };
    read_rules(socket, family, &mut chains)?;
    let mut elements = BTreeMap::new();
    for set in Set::ALL {
        let Some(own) = read_elements(socket, family, set)? else {
            return Ok(Observed::Foreign);
        };
        elements.insert(set, own);
    }
    Ok(Observed::Table(Ruleset {
        family,
        chains,
        elements,
        client_sets,
    }))
}

fn read_sets(socket: &mut Socket, family: Family) -> Result<Option<BTreeSet<Name>>, Error> {
    let mut known: BTreeMap<Set, bool> = BTreeMap::new();
    let mut client_sets = BTreeSet::new();
    let filter = |writer: &mut Writer| writer.text(c::set::TABLE, TABLE);
    socket.dump(c::message::GETSET, family, filter, |message| {
        let attributes = message.attributes();
        let Some(name) = attributes.text(c::set::NAME) else {
            return;
        };
        match Set::named(name) {
            Some(set) => {
                let as_meant = decode::shape(attributes) == Some(Shape::of(set, family));
                known.insert(set, as_meant);
            }
            None => {
                client_sets.insert(name.into());
            }
        }
    })?;
    let whole = Set::ALL.iter().all(|set| known.get(set) == Some(&true));
    Ok(whole.then_some(client_sets))
}

fn read_chains(
    socket: &mut Socket,
    family: Family,
) -> Result<Option<BTreeMap<Name, Chain>>, Error> {
    let mut chains: BTreeMap<Name, Chain> = BTreeMap::new();
    let mut as_meant = true;
    socket.dump(
        c::message::GETCHAIN,
        family,
        |_| {},
        |message| {
            let attributes = message.attributes();
            if attributes.text(c::chain::TABLE) != Some(TABLE) {
                return;
            }
            let Some(name) = attributes.text(c::chain::NAME) else {
                return;
            };
            let hook = decode::hook(attributes);
            let is_base = attributes.find(c::chain::HOOK).is_some();
            as_meant &= is_base == hook.is_some() && hook == meant_hook(name, family);
            chains.insert(
                name.into(),
                Chain {
                    hook,
                    rules: Vec::new(),
                },
            );
        },
    )?;
    Ok(as_meant.then_some(chains))
}

fn meant_hook(name: &str, family: Family) -> Option<Hook> {
    crate::nftables::skeleton::chain(name, family).and_then(|chain| chain.hook)
}

/// A rule that is not of our kind reads as one without expressions, which equals none of ours.
fn read_rules(
    socket: &mut Socket,
    family: Family,
    chains: &mut BTreeMap<Name, Chain>,
) -> Result<(), Error> {
    let filter = |writer: &mut Writer| writer.text(c::rule::TABLE, TABLE);
    socket.dump(c::message::GETRULE, family, filter, |message| {
        let attributes = message.attributes();
        let ours = attributes.text(c::rule::TABLE) == Some(TABLE);
        let chain = attributes
            .text(c::rule::CHAIN)
            .and_then(|name| chains.get_mut(name));
        let Some(chain) = chain.filter(|_| ours) else {
            return;
        };
        let list = attributes.nested(c::rule::EXPRESSIONS);
        let expressions: Vec<Expression> = list
            .and_then(|list| decode::expressions(list, family))
            .unwrap_or_default();
        chain.rules.push(Rule {
            statements: Vec::new(),
            expressions,
        });
    })
}

fn read_elements(socket: &mut Socket, family: Family, set: Set) -> Result<Option<Elements>, Error> {
    let mut elements = Vec::new();
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    let mut readable = true;
    let filter = |writer: &mut Writer| {
        writer.text(c::element::TABLE, TABLE);
        writer.text(c::element::SET, set.name());
    };
    socket.dump(c::message::GETELEMENT, family, filter, |message| {
        for listed in decode::elements(set, message.attributes()) {
            match listed {
                Some(Listed::Whole(key, value)) => elements.push((key, value)),
                Some(Listed::Start(key)) => starts.push(key),
                Some(Listed::End(key)) => ends.push(key),
                None => readable = false,
            }
        }
    })?;
    if set.matching() == Matching::Ranges && set.key().len() == 1 {
        let ranges = decode::ranges(starts, ends).into_iter();
        elements.extend(ranges.map(|key| (key, Value::Present)));
    }
    Ok(readable.then(|| elements.into()))
}
