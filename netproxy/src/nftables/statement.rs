//! The sentences that rules are written in: each reads as nft's text and compiles to expressions.

use std::{fmt, net::SocketAddr};

use knarr_netproxy_plan::{Family, Protocol};

use super::{
    Name, Verdict,
    expression::{Base, Comparison, Expression, Meta, Presence, Register, Side},
};

/// The mark bit that asks for masquerade.
pub const MASQUERADE_MARK: u32 = 0x4000;
/// The routing type of an address that is the host's own.
const RTN_LOCAL: u32 = 2;

/// A part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The source address.
    Source,
    /// The destination address.
    Destination,
    /// The transport protocol.
    Protocol,
    /// The destination port.
    Port,
    /// A random number below the bound.
    Slot { below: u32 },
}

/// Destination address, protocol and port: where a client knocks.
pub const FRONTEND: [Field; 3] = [Field::Destination, Field::Protocol, Field::Port];

/// One sentence of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Goes on only for keys in a set, or only for others.
    Lookup {
        key: Vec<Field>,
        set: Name,
        presence: Presence,
    },
    /// Goes on only if an address is the host's own, or only if not.
    Local { side: Side, how: Comparison },
    /// Goes on only for one protocol.
    Protocol(Protocol),
    /// Goes on for one in so many.
    OneIn(u32),
    /// Goes on only if masquerade was asked for.
    Marked,
    /// Asks for masquerade.
    Mark,
    /// Takes the question for masquerade back.
    Unmark,
    /// Obeys the verdict of a key's element.
    Obey { key: Vec<Field>, map: Name },
    /// Remembers the source address.
    Remember { set: Name, timeout_seconds: u32 },
    /// Rewrites the destination to a key's element.
    DnatToElement { key: Vec<Field>, map: Name },
    /// Rewrites the destination.
    Dnat(SocketAddr),
    /// Rewrites the source to the outgoing address.
    Masquerade,
    /// Refuses.
    Reject,
    /// Refuses a connection of TCP as a closed port does, and goes on for other protocols.
    Reset,
    /// Decides.
    Verdict(Verdict),
}

impl Statement {
    /// Goes on only for keys in a set.
    pub fn present(key: &[Field], set: &str) -> Self {
        Self::Lookup {
            key: key.to_vec(),
            set: set.into(),
            presence: Presence::Present,
        }
    }

    /// Goes on only for keys that are not in a set.
    pub fn absent(key: &[Field], set: &str) -> Self {
        Self::Lookup {
            key: key.to_vec(),
            set: set.into(),
            presence: Presence::Absent,
        }
    }

    /// Obeys the verdict of a key's element.
    pub fn obey(key: &[Field], map: &str) -> Self {
        Self::Obey {
            key: key.to_vec(),
            map: map.into(),
        }
    }

    /// Passes through a chain, and goes on.
    pub fn jump(chain: &str) -> Self {
        Self::Verdict(Verdict::Jump(chain.into()))
    }

    /// Goes to a chain, for good.
    pub fn goto(chain: &str) -> Self {
        Self::Verdict(Verdict::Goto(chain.into()))
    }

    /// Appends the statement's expressions.
    #[expect(clippy::too_many_lines, reason = "one arm a statement")]
    pub fn compile(&self, family: Family, into: &mut Vec<Expression>) {
        let first = Register(0);
        match self {
            Self::Lookup { key, set, presence } => {
                load(key, family, into);
                into.push(Expression::Lookup {
                    set: set.clone(),
                    key: first,
                    presence: *presence,
                });
            }
            Self::Local { side, how } => {
                into.push(Expression::AddressType {
                    side: *side,
                    into: first,
                });
                into.push(compare(*how, RTN_LOCAL));
            }
            Self::Protocol(protocol) => {
                into.push(Expression::Meta {
                    key: Meta::Protocol,
                    into: first,
                });
                let with = vec![protocol.number()];
                into.push(Expression::Compare {
                    how: Comparison::Equal,
                    register: first,
                    with,
                });
            }
            Self::OneIn(below) => {
                into.push(Expression::Random {
                    below: *below,
                    into: first,
                });
                into.push(compare(Comparison::Equal, 0));
            }
            Self::Marked => {
                into.push(Expression::Meta {
                    key: Meta::Mark,
                    into: first,
                });
                into.push(Expression::Bitwise {
                    register: first,
                    mask: MASQUERADE_MARK,
                    xor: 0,
                });
                into.push(compare(Comparison::Equal, MASQUERADE_MARK));
            }
            Self::Mark => set_mark(!MASQUERADE_MARK, into),
            Self::Unmark => set_mark(u32::MAX, into),
            Self::Obey { key, map } => {
                load(key, family, into);
                into.push(Expression::Obey {
                    map: map.clone(),
                    key: first,
                });
            }
            Self::Remember {
                set,
                timeout_seconds,
            } => {
                load(&[Field::Source], family, into);
                let timeout_seconds = *timeout_seconds;
                into.push(Expression::Update {
                    set: set.clone(),
                    key: first,
                    timeout_seconds,
                });
            }
            Self::DnatToElement { key, map } => {
                load(key, family, into);
                into.push(Expression::Load {
                    map: map.clone(),
                    key: first,
                    into: first,
                });
                into.push(Expression::Dnat {
                    address: first,
                    port: after_address(family),
                });
            }
            Self::Dnat(to) => {
                let address = match to {
                    SocketAddr::V4(to) => to.ip().octets().to_vec(),
                    SocketAddr::V6(to) => to.ip().octets().to_vec(),
                };
                let port = after_address(family);
                into.push(Expression::Immediate {
                    into: first,
                    bytes: address,
                });
                let bytes = to.port().to_be_bytes().to_vec();
                into.push(Expression::Immediate { into: port, bytes });
                into.push(Expression::Dnat {
                    address: first,
                    port,
                });
            }
            Self::Masquerade => into.push(Expression::Masquerade),
            Self::Reject => into.push(Expression::Reject),
            Self::Reset => {
                Self::Protocol(Protocol::Tcp).compile(family, into);
                into.push(Expression::Reset);
            }
            Self::Verdict(verdict) => into.push(Expression::Verdict(verdict.clone())),
        }
    }
}

fn after_address(family: Family) -> Register {
    match family {
        Family::V4 => Register(1),
        Family::V6 => Register(4),
    }
}

fn compare(how: Comparison, with: u32) -> Expression {
    Expression::Compare {
        how,
        register: Register(0),
        with: with.to_ne_bytes().to_vec(),
    }
}

fn set_mark(mask: u32, into: &mut Vec<Expression>) {
    let register = Register(0);
    into.push(Expression::Meta {
        key: Meta::Mark,
        into: register,
    });
    into.push(Expression::Bitwise {
        register,
        mask,
        xor: MASQUERADE_MARK,
    });
    into.push(Expression::SetMark { from: register });
}

/// Loads a key's parts into consecutive registers, from the first.
fn load(key: &[Field], family: Family, into: &mut Vec<Expression>) {
    let mut next = 0;
    for field in key {
        let register = Register(next);
        let expression = match (field, family) {
            (Field::Source, Family::V4) => network(12, 4, register),
            (Field::Destination, Family::V4) => network(16, 4, register),
            (Field::Source, Family::V6) => network(8, 16, register),
            (Field::Destination, Family::V6) => network(24, 16, register),
            (Field::Protocol, _) => Expression::Meta {
                key: Meta::Protocol,
                into: register,
            },
            (Field::Port, _) => Expression::Payload {
                base: Base::Transport,
                offset: 2,
                length: 2,
                into: register,
            },
            (Field::Slot { below }, _) => Expression::Random {
                below: *below,
                into: register,
            },
        };
        into.push(expression);
        next += match field {
            Field::Source | Field::Destination => after_address(family).0,
            Field::Protocol | Field::Port | Field::Slot { .. } => 1,
        };
    }
}

fn network(offset: u32, length: u32, into: Register) -> Expression {
    Expression::Payload {
        base: Base::Network,
        offset,
        length,
        into,
    }
}

/// Writes a statement as nft prints it.
pub struct Text<'a>(pub &'a Statement, pub Family);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(statement, family) = self;
        let key = |key: &[Field]| key_text(key, *family);
        match statement {
            Statement::Lookup {
                key: fields,
                set,
                presence: Presence::Present,
            } => {
                write!(f, "{} @{set}", key(fields))
            }
            Statement::Lookup {
                key: fields,
                set,
                presence: Presence::Absent,
            } => {
                write!(f, "{} != @{set}", key(fields))
            }
            Statement::Local { side, how } => {
                let side = match side {
                    Side::Source => "saddr",
                    Side::Destination => "daddr",
                };
                let unless = match how {
                    Comparison::Equal => "",
                    Comparison::Unequal => "!= ",
                };
                write!(f, "fib {side} type {unless}local")
            }
            Statement::Protocol(protocol) => write!(f, "meta l4proto {protocol}"),
            Statement::OneIn(count) => write!(f, "numgen random mod {count} 0"),
            Statement::Marked => {
                write!(
                    f,
                    "meta mark & {MASQUERADE_MARK:#010x} == {MASQUERADE_MARK:#010x}"
                )
            }
            Statement::Mark => write!(f, "meta mark set meta mark | {MASQUERADE_MARK:#010x}"),
            Statement::Unmark => write!(f, "meta mark set meta mark ^ {MASQUERADE_MARK:#010x}"),
            Statement::Obey { key: fields, map } => write!(f, "{} vmap @{map}", key(fields)),
            Statement::Remember {
                set,
                timeout_seconds,
            } => {
                let timeout = timeout_text(*timeout_seconds);
                write!(
                    f,
                    "update @{set} {{ {} timeout {timeout} }}",
                    key(&[Field::Source])
                )
            }
            Statement::DnatToElement { key: fields, map } => {
                write!(f, "dnat {} to {} map @{map}", ip(*family), key(fields))
            }
            Statement::Dnat(to) => write!(f, "dnat to {to}"),
            Statement::Masquerade => f.write_str("masquerade fully-random"),
            Statement::Reject => f.write_str("reject"),
            Statement::Reset => f.write_str("reject with tcp reset"),
            Statement::Verdict(verdict) => write!(f, "{verdict}"),
        }
    }
}

/// The family's name in nft's language.
#[must_use]
pub fn ip(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// A key as nft prints it.
#[must_use]
pub fn key_text(key: &[Field], family: Family) -> String {
    let parts: Vec<String> = key
        .iter()
        .map(|field| match field {
            Field::Source => format!("{} saddr", ip(family)),
            Field::Destination => format!("{} daddr", ip(family)),
            Field::Protocol => "meta l4proto".to_owned(),
            Field::Port => "th dport".to_owned(),
            Field::Slot { below } => format!("numgen random mod {below}"),
        })
        .collect();
    parts.join(" . ")
}

/// Seconds as nft prints them.
fn timeout_text(seconds: u32) -> String {
    let parts = [
        (seconds / 86_400, 'd'),
        (seconds / 3_600 % 24, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    parts
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect()
}
