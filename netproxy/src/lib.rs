//! The post office: turns Services into rewritten packets on this node.
//!
//! Owns the nftables tables `knarr`, conntrack entries of Services, and announcements of
//! load-balancer IPs. Never touches links, routes or pods.

pub mod announce;
pub mod dns;
pub mod nftables;
#[cfg(test)]
mod own_netns;
