//! The nftables dataplane: a constant skeleton of rules, and Services as map elements.
//!
//! Owns the tables named `knarr`, one a family. Never touches another table, never runs `nft`.

pub mod chain;
pub mod dataplane;
pub mod edits;
pub mod element;
pub mod elements;
pub mod expression;
#[cfg(test)]
mod golden;
pub mod increment;
#[cfg(test)]
mod increment_test;
pub mod octets;
pub mod ruleset;
pub mod set;
pub mod skeleton;
pub mod statement;
pub mod target;
pub mod text;
pub mod trace;
pub mod wire;

use std::{fmt, sync::Arc};

pub use dataplane::{Applied, Nftables};
pub use edits::Edit;
pub use ruleset::Ruleset;
pub use wire::Error;

/// The name of our table in each family.
pub const TABLE: &str = "knarr";

/// A name of a chain, set or map.
pub type Name = Arc<str>;

/// Where a packet goes next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Back to the calling chain.
    Return,
    /// Nowhere, silently.
    Drop,
    /// Through a chain, and back.
    Jump(Name),
    /// To a chain, for good.
    Goto(Name),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Return => f.write_str("return"),
            Self::Drop => f.write_str("drop"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}
