//! The lab: network namespaces as machines, the real binary, real clients, real packets. Needs root.

pub(crate) mod client;
pub(crate) mod family;
pub(crate) mod machine;
pub(crate) mod netns;
pub(crate) mod outage;
pub(crate) mod probe;
pub(crate) mod wait;
pub(crate) mod world;
