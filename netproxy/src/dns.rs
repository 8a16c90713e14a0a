//! Cluster DNS on every node: answers the cluster's zone from memory and hands every other name to the host's resolvers.
//!
//! What a name means is decided in `knarr_netproxy_plan::dns`; here are messages, sockets and the cache of other people's answers.

mod cache;
mod datagrams;
mod forward;
mod kept;
mod message;
pub(crate) mod resident;
mod resolv_conf;
mod serve;

use std::sync::{Arc, RwLock};

use knarr_netproxy_plan::dns::Zone;

pub use self::{
    forward::Forwarder,
    resolv_conf::upstreams,
    serve::{Error, Listeners, listen},
};

/// What the server answers from; written by the store's events, read by every query.
pub type SharedZone = Arc<RwLock<Zone>>;

/// A new, empty zone to share.
#[must_use]
pub fn shared(domain: &str) -> SharedZone {
    Arc::new(RwLock::new(Zone::new(domain)))
}
