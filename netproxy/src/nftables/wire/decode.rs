//! Decodes expressions, elements and sets as the kernel dumps them. Hostile bytes decode to nothing.

use knarr_netproxy_plan::Family;

use super::{
    constant::{self as c, EXPRESSION_DATA, EXPRESSION_NAME, LIST_ITEM},
    encode::address_family,
    shape::Shape,
};
use crate::netlink::message::Attributes;
use crate::nftables::{
    Verdict,
    chain::{Hook, HookPoint},
    expression::{Base, Comparison, Expression, Meta, Presence, Register, Side},
    set::{Counting, Key, Matching, Set, Value},
};

/// A rule's expressions, if every one of them is of our kind.
pub(super) fn expressions(list: Attributes<'_>, family: Family) -> Option<Vec<Expression>> {
    let items = list.filter(|(kind, _)| *kind == LIST_ITEM);
    items
        .map(|(_, bytes)| expression(Attributes(bytes), family))
        .collect()
}

fn expression(attributes: Attributes<'_>, family: Family) -> Option<Expression> {
    let data = attributes.nested(EXPRESSION_DATA)?;
    match attributes.text(EXPRESSION_NAME)? {
        "payload" => Some(Expression::Payload {
            base: match data.number(c::payload::BASE)? {
                c::payload::NETWORK => Base::Network,
                c::payload::TRANSPORT => Base::Transport,
                _ => return None,
            },
            offset: data.number(c::payload::OFFSET)?,
            length: data.number(c::payload::LENGTH)?,
            into: register(data.number(c::payload::INTO)?)?,
        }),
        "meta" => meta(data),
        "fib" if data.number(c::fib::RESULT)? == c::fib::ADDRESS_TYPE => {
            let side = match data.number(c::fib::FLAGS)? {
                c::fib::SOURCE => Side::Source,
                c::fib::DESTINATION => Side::Destination,
                _ => return None,
            };
            Some(Expression::AddressType {
                side,
                into: register(data.number(c::fib::INTO)?)?,
            })
        }
        "cmp" => Some(Expression::Compare {
            how: match data.number(c::compare::HOW)? {
                c::compare::EQUAL => Comparison::Equal,
                c::compare::UNEQUAL => Comparison::Unequal,
                _ => return None,
            },
            register: register(data.number(c::compare::FROM)?)?,
            with: value(data.nested(c::compare::DATA)?)?.to_vec(),
        }),
        "bitwise" => bitwise(data),
        "lookup" => lookup(data),
        "dynset" if data.number(c::dynset::OPERATION)? == c::dynset::UPDATE => {
            let timeout: [u8; 8] = data.find(c::dynset::TIMEOUT)?.try_into().ok()?;
            Some(Expression::Update {
                set: data.text(c::dynset::SET)?.into(),
                key: register(data.number(c::dynset::KEY)?)?,
                timeout_seconds: u32::try_from(u64::from_be_bytes(timeout) / 1_000).ok()?,
            })
        }
        "immediate" => immediate(data),
        "numgen" if data.number(c::numgen::TYPE)? == c::numgen::RANDOM => {
            Some(Expression::Random {
                below: data.number(c::numgen::MODULUS)?,
                into: register(data.number(c::numgen::INTO)?)?,
            })
        }
        "nat" => nat(data, family),
        "masq" => {
            let flags = data.number(c::masquerade::FLAGS)?;
            (flags == c::masquerade::FULLY_RANDOM).then_some(Expression::Masquerade)
        }
        "reject" => match data.number(c::reject::TYPE)? {
            c::reject::TCP_RESET => Some(Expression::Reset),
            c::reject::ICMP => {
                let ours = data.find(c::reject::CODE)? == [c::reject::port_unreachable(family)];
                ours.then_some(Expression::Reject)
            }
            _ => None,
        },
        _ => None,
    }
}

fn meta(data: Attributes<'_>) -> Option<Expression> {
    let key = match data.number(c::meta::KEY)? {
        c::meta::PROTOCOL => Meta::Protocol,
        c::meta::MARK => Meta::Mark,
        _ => return None,
    };
    match (data.number(c::meta::INTO), data.number(c::meta::FROM), key) {
        (Some(into), None, key) => Some(Expression::Meta {
            key,
            into: register(into)?,
        }),
        (None, Some(from), Meta::Mark) => Some(Expression::SetMark {
            from: register(from)?,
        }),
        _ => None,
    }
}

fn bitwise(data: Attributes<'_>) -> Option<Expression> {
    let from = register(data.number(c::bitwise::FROM)?)?;
    let into = register(data.number(c::bitwise::INTO)?)?;
    let word = |kind| -> Option<u32> {
        value(data.nested(kind)?)?
            .try_into()
            .ok()
            .map(u32::from_ne_bytes)
    };
    let (mask, xor) = (word(c::bitwise::MASK)?, word(c::bitwise::XOR)?);
    (from == into).then_some(Expression::Bitwise {
        register: from,
        mask,
        xor,
    })
}

fn lookup(data: Attributes<'_>) -> Option<Expression> {
    let set = data.text(c::lookup::SET)?.into();
    let key = register(data.number(c::lookup::FROM)?)?;
    match data.number(c::lookup::INTO) {
        Some(0) => Some(Expression::Obey { map: set, key }),
        Some(into) => Some(Expression::Load {
            map: set,
            key,
            into: register(into)?,
        }),
        None => {
            let presence = match data.number(c::lookup::FLAGS).unwrap_or(0) {
                0 => Presence::Present,
                c::lookup::INVERTED => Presence::Absent,
                _ => return None,
            };
            Some(Expression::Lookup { set, key, presence })
        }
    }
}

fn immediate(data: Attributes<'_>) -> Option<Expression> {
    let into = data.number(c::immediate::INTO)?;
    let nested = data.nested(c::immediate::DATA)?;
    if into == 0 {
        return verdict(nested).map(Expression::Verdict);
    }
    Some(Expression::Immediate {
        into: register(into)?,
        bytes: value(nested)?.to_vec(),
    })
}

fn nat(data: Attributes<'_>, family: Family) -> Option<Expression> {
    let ours = data.number(c::nat::TYPE)? == c::nat::DNAT
        && data.number(c::nat::FAMILY)? == u32::from(address_family(family));
    let address = register(data.number(c::nat::ADDRESS)?)?;
    let port = register(data.number(c::nat::PORT)?)?;
    ours.then_some(Expression::Dnat { address, port })
}

fn register(number: u32) -> Option<Register> {
    let index = match number {
        1..=4 => (number - 1) * 4,
        8..=23 => number - 8,
        _ => return None,
    };
    u8::try_from(index).ok().map(Register)
}

fn value(data: Attributes<'_>) -> Option<&[u8]> {
    data.find(c::data::VALUE)
}

fn verdict(data: Attributes<'_>) -> Option<Verdict> {
    let verdict = data.nested(c::data::VERDICT)?;
    let code = verdict
        .find(c::data::VERDICT_CODE)?
        .try_into()
        .ok()
        .map(i32::from_be_bytes)?;
    let chain = || verdict.text(c::data::VERDICT_CHAIN).map(Into::into);
    match code {
        c::data::DROP => Some(Verdict::Drop),
        c::data::RETURN => Some(Verdict::Return),
        c::data::JUMP => Some(Verdict::Jump(chain()?)),
        c::data::GOTO => Some(Verdict::Goto(chain()?)),
        _ => None,
    }
}

/// A base chain's hook, if it is one of ours with the policy to accept.
pub(super) fn hook(chain: Attributes<'_>) -> Option<Hook> {
    const NF_ACCEPT: u32 = 1;
    let hook = chain.nested(c::chain::HOOK)?;
    let kind = match chain.text(c::chain::TYPE)? {
        "nat" => "nat",
        "filter" => "filter",
        _ => return None,
    };
    let point = match hook.number(c::chain::HOOK_NUMBER)? {
        0 => HookPoint::Prerouting,
        3 => HookPoint::Output,
        4 => HookPoint::Postrouting,
        _ => return None,
    };
    let priority = hook
        .find(c::chain::HOOK_PRIORITY)?
        .try_into()
        .ok()
        .map(i32::from_be_bytes)?;
    (chain.number(c::chain::POLICY)? == NF_ACCEPT).then_some(Hook {
        kind,
        point,
        priority,
    })
}

/// What the kernel says of a set.
pub(super) fn shape(set: Attributes<'_>) -> Option<Shape> {
    let data_type = set.number(c::set::DATA_TYPE);
    Some(Shape {
        flags: set.number(c::set::FLAGS).unwrap_or(0),
        key_type: set.number(c::set::KEY_TYPE)?,
        key_length: set.number(c::set::KEY_LENGTH)?,
        data_type,
        data_length: match data_type {
            None | Some(c::set::VERDICT_TYPE) => 0,
            Some(_) => set.number(c::set::DATA_LENGTH)?,
        },
        counting: match set.nested(c::set::EXPRESSION) {
            None => Counting::Nothing,
            Some(own) if own.text(EXPRESSION_NAME) == Some(c::counter::NAME) => Counting::Lookups,
            Some(_) => return None,
        },
    })
}

/// One element as the kernel lists it.
pub(super) enum Listed {
    /// A key, or a range of concatenated keys.
    Whole(Key, Value),
    /// Where a range of a plain key starts.
    Start(Vec<u8>),
    /// The key after a range's last.
    End(Vec<u8>),
}

/// The elements in one message of a dump.
pub(super) fn elements(set: Set, message: Attributes<'_>) -> Vec<Option<Listed>> {
    let list = message.nested(c::element::LIST);
    let items = list
        .into_iter()
        .flatten()
        .filter(|(kind, _)| *kind == LIST_ITEM);
    items
        .map(|(_, bytes)| element(set, Attributes(bytes)))
        .collect()
}

fn element(set: Set, item: Attributes<'_>) -> Option<Listed> {
    let first = value(item.nested(c::element::KEY)?)?;
    let plain_range = set.matching() == Matching::Ranges && set.key().len() == 1;
    if plain_range {
        let end = item.number(c::element::FLAGS).unwrap_or(0) & c::element::INTERVAL_END != 0;
        return Some(if end {
            Listed::End(first.to_vec())
        } else {
            Listed::Start(first.to_vec())
        });
    }
    let key = match item.nested(c::element::KEY_END).and_then(value) {
        None => Key::exactly(first),
        Some(last) => Key::range(first, last),
    };
    let value = match item.nested(c::element::DATA) {
        None => Value::Present,
        Some(data) => match value(data) {
            Some(bytes) => Value::Backend(bytes.try_into().ok()?),
            None => Value::Verdict(verdict(data)?),
        },
    };
    Some(Listed::Whole(key.ok()?, value))
}

/// The keys and packet counts in one message of a dump of a set that counts.
pub(super) fn counts(message: Attributes<'_>) -> impl Iterator<Item = (Key, u64)> {
    let list = message.nested(c::element::LIST).into_iter().flatten();
    let items = list.filter(|(kind, _)| *kind == LIST_ITEM);
    items.filter_map(|(_, bytes)| count(Attributes(bytes)))
}

fn count(item: Attributes<'_>) -> Option<(Key, u64)> {
    let key = Key::exactly(value(item.nested(c::element::KEY)?)?).ok()?;
    let counter = item.nested(c::element::EXPRESSION)?;
    if counter.text(EXPRESSION_NAME)? != c::counter::NAME {
        return None;
    }
    let packets = counter
        .nested(EXPRESSION_DATA)?
        .find(c::counter::PACKETS)?
        .try_into()
        .ok()
        .map(u64::from_be_bytes)?;
    Some((key, packets))
}

/// Joins starts and ends of ranges.
pub(super) fn ranges(starts: Vec<Vec<u8>>, ends: Vec<Vec<u8>>) -> Vec<Key> {
    const END: u8 = 0;
    const START: u8 = 1;
    let mut edges: Vec<(Vec<u8>, u8)> = starts.into_iter().map(|key| (key, START)).collect();
    edges.extend(ends.into_iter().map(|key| (key, END)));
    edges.sort();
    let mut keys = Vec::new();
    let mut open: Option<Vec<u8>> = None;
    for (key, edge) in edges {
        if let Some(first) = open.take() {
            keys.push(Key::range(&first, &predecessor(&key)));
        }
        if edge == START {
            open = Some(key);
        }
    }
    keys.extend(open.map(|first| Key::range(&first, &vec![u8::MAX; first.len()])));
    keys.into_iter().flatten().collect()
}

fn predecessor(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let borrow = *byte == 0;
        *byte = byte.wrapping_sub(1);
        if !borrow {
            break;
        }
    }
    key
}
