//! The kernel's expressions: what a rule is made of after compilation. Owns no meaning.

use super::{Name, Verdict};

/// A 32-bit register, counted from the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Register(pub u8);

/// One kernel expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Loads bytes of a header.
    Payload {
        base: Base,
        offset: u32,
        length: u32,
        into: Register,
    },
    /// Loads a fact about the packet.
    Meta { key: Meta, into: Register },
    /// Sets the packet's mark.
    SetMark { from: Register },
    /// Loads the type of an address, as the routing tables see it.
    AddressType { side: Side, into: Register },
    /// Goes on only if a register compares.
    Compare {
        how: Comparison,
        register: Register,
        with: Vec<u8>,
    },
    /// Computes `(register & mask) ^ xor`.
    Bitwise {
        register: Register,
        mask: u32,
        xor: u32,
    },
    /// Goes on only if a key is in a set.
    Lookup {
        set: Name,
        key: Register,
        presence: Presence,
    },
    /// Goes on only if a key is in a map, and loads its value.
    Load {
        map: Name,
        key: Register,
        into: Register,
    },
    /// Goes on only if a key is in a verdict map, and obeys its verdict.
    Obey { map: Name, key: Register },
    /// Adds a key to a dynamic set, or renews its timeout.
    Update {
        set: Name,
        key: Register,
        timeout_seconds: u32,
    },
    /// Loads constant bytes.
    Immediate { into: Register, bytes: Vec<u8> },
    /// Decides.
    Verdict(Verdict),
    /// Loads a random number below a bound.
    Random { below: u32, into: Register },
    /// Rewrites the destination.
    Dnat { address: Register, port: Register },
    /// Rewrites the source to the outgoing address, with a random port.
    Masquerade,
    /// Refuses with port-unreachable.
    Reject,
    /// Refuses a connection of TCP as a closed port does.
    Reset,
}

/// Where a payload's offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The IP header.
    Network,
    /// The transport header.
    Transport,
}

/// A fact about the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    /// The transport protocol's number.
    Protocol,
    /// The packet's mark.
    Mark,
}

/// One end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Whether a key must be in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It must.
    Present,
    /// It must not.
    Absent,
}

/// How a register compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Equal.
    Equal,
    /// Not equal.
    Unequal,
}
