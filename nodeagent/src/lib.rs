//! The hands: runs the pods bound to this node, and keeps the node's links and routes.

mod capability;
mod cgroup;
mod ipam;
mod netlink;
mod netns;
mod network;
pub mod pod_init;
mod process;
mod protocol;
mod sysctl;
