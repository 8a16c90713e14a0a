//! The hands: runs the pods bound to this node, and keeps the node's links and routes.
//! Every pod is observed, planned and applied by a worker of its own; the parts meet only at the API.

mod agent;
mod capability;
mod cgroup;
mod events;
mod host;
pub mod hostile;
mod ipam;
mod logs;
mod netlink;
mod netns;
mod network;
mod node;
mod paths;
mod pod;
pub mod pod_init;
mod process;
mod protocol;
pub mod resolved;
mod server;
mod services;
mod spdy;
mod sysctl;
mod teardown;

pub use agent::{Config, Error, forward_packets, run};
pub use netlink::{Error as MonitorError, Monitor};
pub use server::ServingIdentity;
pub use teardown::{Error as TeardownError, teardown};
