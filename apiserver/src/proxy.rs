//! Requests passed on to someone else: a node agent, a pod, a Service. Bodies and upgraded streams are copied, never read.

mod connect;
mod exchange;
pub(crate) mod node;

pub(crate) use connect::Backend;
pub(crate) use exchange::{Upstream, forward};
