//! Reads base chains of other tables, as far as it takes to see that one drops what passes. Changes none of them.

use std::fmt;

use super::{
    constant::{self as c, EXPRESSION_DATA, EXPRESSION_NAME, LIST_ITEM},
    socket::{Error, Socket},
};
use crate::{
    netlink::message::{Attributes, Message},
    nftables::TABLE,
};

const ALL_FAMILIES: u8 = 0;
const NF_DROP: u32 = 0;
const NF_ACCEPT: i32 = 1;

/// A base chain of somebody else's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignChain {
    /// Whose kind its table is of.
    pub keeper: Keeper,
    /// The table's family, as nft writes it.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub name: String,
    /// Which packets enter it.
    pub point: Point,
    /// Where a packet that no rule decides on ends.
    pub policy: Policy,
    /// What each rule does, in order.
    pub rules: Vec<Deed>,
}

/// What keeps a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeper {
    /// nf_tables, for whomever.
    Nftables,
    /// The kernel's older tables, for iptables-legacy.
    IptablesLegacy,
}

/// Which packets enter a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// Those that arrive.
    Prerouting,
    /// Those for this machine.
    Input,
    /// Those that pass through.
    Forward,
    /// This machine's own.
    Output,
    /// Those that leave.
    Postrouting,
}

/// Where a packet that no rule decides on ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// It goes on.
    Accept,
    /// It vanishes.
    Drop,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// Lets every packet go on.
    Accepts,
    /// Drops or rejects every packet.
    Drops,
    /// Something that depends on the packet.
    Depends,
    /// Counts or logs, at most.
    Nothing,
}

/// What a chain does to packets that nothing is known of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// No rule or policy that is sure to be reached drops them.
    Passes,
    /// They are dropped unless one of its rules lets them through.
    DropsTheRest,
    /// They are dropped, whatever they are.
    Drops,
}

impl fmt::Display for ForeignChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            keeper,
            family,
            table,
            name,
            ..
        } = self;
        write!(f, "chain {name} of table {family} {table}")?;
        match keeper {
            Keeper::Nftables => Ok(()),
            Keeper::IptablesLegacy => f.write_str(" of iptables-legacy"),
        }
    }
}

impl ForeignChain {
    /// What it does to packets that nothing is known of.
    #[must_use]
    pub fn fate(&self) -> Fate {
        let mut sure = true;
        for rule in &self.rules {
            match rule {
                Deed::Accepts => return Fate::Passes,
                Deed::Drops => return Self::dropping(sure),
                Deed::Depends => sure = false,
                Deed::Nothing => {}
            }
        }
        match self.policy {
            Policy::Accept => Fate::Passes,
            Policy::Drop => Self::dropping(sure),
        }
    }

    fn dropping(sure: bool) -> Fate {
        if sure {
            Fate::Drops
        } else {
            Fate::DropsTheRest
        }
    }
}

/// Every base chain that is not ours and may drop packets.
///
/// # Errors
/// When the kernel refuses.
pub fn foreign_chains(socket: &mut Socket) -> Result<Vec<ForeignChain>, Error> {
    let mut chains = Vec::new();
    let none = |_: &mut _| {};
    socket.dump_of(c::message::GETCHAIN, ALL_FAMILIES, none, |message| {
        chains.extend(chain(&message));
    })?;
    socket.dump_of(c::message::GETRULE, ALL_FAMILIES, none, |message| {
        let attributes = message.attributes();
        let text = |kind| attributes.text(kind);
        let (family, table, name) = (family(&message), text(c::rule::TABLE), text(c::rule::CHAIN));
        let mut own = chains.iter_mut().filter(|chain: &&mut ForeignChain| {
            (
                Some(chain.family),
                Some(chain.table.as_str()),
                Some(chain.name.as_str()),
            ) == (family, table, name)
        });
        if let Some(chain) = own.next() {
            chain.rules.push(deed(attributes));
        }
    })?;
    Ok(chains)
}

fn family(message: &Message<'_>) -> Option<&'static str> {
    match message.body.first()? {
        1 => Some("inet"),
        2 => Some("ip"),
        10 => Some("ip6"),
        _ => None,
    }
}

fn chain(message: &Message<'_>) -> Option<ForeignChain> {
    let attributes = message.attributes();
    let table = attributes.text(c::chain::TABLE)?;
    let hook = attributes.nested(c::chain::HOOK)?;
    if table == TABLE {
        return None;
    }
    let point = match hook.number(c::chain::HOOK_NUMBER)? {
        0 => Point::Prerouting,
        1 => Point::Input,
        2 => Point::Forward,
        3 => Point::Output,
        4 => Point::Postrouting,
        _ => return None,
    };
    let policy = match attributes.number(c::chain::POLICY) {
        Some(NF_DROP) => Policy::Drop,
        _ => Policy::Accept,
    };
    Some(ForeignChain {
        keeper: Keeper::Nftables,
        family: family(message)?,
        table: table.to_owned(),
        name: attributes.text(c::chain::NAME)?.to_owned(),
        point,
        policy,
        rules: Vec::new(),
    })
}

/// A rule decides for every packet only if nothing comes before its verdict but counting and logging.
fn deed(rule: Attributes<'_>) -> Deed {
    let list = rule.nested(c::rule::EXPRESSIONS);
    let items = list.into_iter().flatten();
    for (_, bytes) in items.filter(|(kind, _)| *kind == LIST_ITEM) {
        let expression = Attributes(bytes);
        match expression.text(EXPRESSION_NAME) {
            Some("counter" | "log") => {}
            Some("reject") => return Deed::Drops,
            Some("immediate") => {
                return match verdict(expression) {
                    Some(NF_ACCEPT) => Deed::Accepts,
                    Some(c::data::DROP) => Deed::Drops,
                    Some(_) | None => Deed::Depends,
                };
            }
            Some(_) | None => return Deed::Depends,
        }
    }
    Deed::Nothing
}

fn verdict(expression: Attributes<'_>) -> Option<i32> {
    let data = expression.nested(EXPRESSION_DATA)?;
    let verdict = data.nested(c::immediate::DATA)?.nested(c::data::VERDICT)?;
    let code = verdict.find(c::data::VERDICT_CODE)?;
    code.try_into().ok().map(i32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::own_netns::{run, sh};

    #[test]
    fn a_chain_drops_what_nothing_is_known_of_by_rule_or_by_policy() {
        for (body, expected) in [
            ("policy accept;", Fate::Passes),
            ("policy drop;", Fate::Drops),
            ("policy drop; counter", Fate::Drops),
            ("policy drop; accept", Fate::Passes),
            ("policy drop; tcp dport 22 accept", Fate::DropsTheRest),
            ("policy accept; tcp dport 22 drop", Fate::Passes),
            ("policy accept; counter drop", Fate::Drops),
            (
                "policy accept; reject with icmp type admin-prohibited",
                Fate::Drops,
            ),
            (
                "policy accept; tcp dport 22 accept; log drop",
                Fate::DropsTheRest,
            ),
        ] {
            run(|| {
                let body = body.replace("; ", ";\n");
                let hook = "type filter hook forward priority 0;";
                std::process::Command::new("nft")
                    .arg(format!(
                        "table ip wall {{ chain gate {{ {hook} {body}\n }}\n }}"
                    ))
                    .status()
                    .expect("nft runs");
                let mut socket = Socket::open().expect("netfilter");
                let chains = foreign_chains(&mut socket).expect("the kernel tells");
                let [chain] = chains.as_slice() else {
                    panic!("{body}: {chains:?}")
                };
                assert_eq!(chain.fate(), expected, "{body}");
                assert_eq!((chain.family, chain.point), ("ip", Point::Forward));
                sh("nft flush ruleset");
            });
        }
    }
}
