//! The one door to the kernel's nf_tables: encodes edits, sends batches, reads tables back.
//!
//! Never decides what a table should hold.

mod constant;
mod decode;
mod encode;
#[cfg(test)]
mod kernel;
mod observe;
mod socket;
mod userdata;

pub use encode::{Batch, encode};
pub use observe::{Observed, observe};
pub use socket::{Error, Socket, Watch};
