//! The pure heart of the post office: which address, port and protocol is answered by which
//! backends from this node, and how its packets are treated.
//!
//! Owns the meaning of Services. Never reads a clock, a socket or the kernel.

mod changes;
mod check;
pub mod dns;
mod endpoint;
mod few;
mod front;
mod frontend;
mod key;
pub mod localhost;
mod planner;
mod policy;
#[cfg(test)]
mod properties;
mod service;
mod settings;
mod warning;

pub use changes::{Change, Changes, diff};
pub use check::{Flaw, check};
pub use endpoint::{Endpoint, Joined, NOT_PROXIED_LABELS, Place, State, join};
pub use front::{
    EXCLUDED_LABEL, FrontNode, FrontNotice, FrontPlan, FrontSnapshot, Lot, PROXY_HEALTH_PORT,
    Standing, front_checks, front_lots, plan_front,
};
pub use frontend::{
    Affinity, AffinityKey, Announced, Answer, Frontend, FrontendKind, Hairpin, HealthCheck,
    Masquerade, Plan, Policy, Ranges,
};
pub use key::{Address, Family, FrontendKey, PortKey, Protocol, ServiceKey};
pub use planner::{Planner, Snapshot, plan};
pub use policy::{Answered, Chosen};
pub use settings::{NodePortAddresses, Settings, pod_cidrs};
pub use warning::Warning;
