//! The lab: network namespaces as machines, the real binary, real clients, real packets. Needs root.

pub mod netns;
pub mod probe;
pub mod wait;
pub mod world;
