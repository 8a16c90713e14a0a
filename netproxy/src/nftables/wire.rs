//! The one door to the kernel's nf_tables: encodes edits, sends batches, reads tables back.
//!
//! Never decides what a table should hold.

mod clients;
mod connections;
mod constant;
mod decode;
mod encode;
mod foreign;
#[cfg(test)]
mod kernel;
mod observe;
#[cfg(test)]
mod round_trip;
mod shape;
mod socket;
mod userdata;

pub use clients::{Remembered, clients};
pub use connections::connections;
pub use encode::{Batch, encode};
pub use foreign::{Deed, Fate, ForeignChain, Keeper, Point, Policy, foreign_chains};
pub use observe::{Observed, observe};
pub use socket::{Error, Socket, Touched, Watch};
