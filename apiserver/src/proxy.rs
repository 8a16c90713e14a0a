//! Requests passed on to someone else: a node agent, a pod, a Service. Bodies and upgraded streams are copied, never read.

mod connect;
mod exchange;
mod html;
pub(crate) mod node;
mod page;
pub(crate) mod trusting;

pub(crate) use connect::Backend;
pub(crate) use exchange::{Upstream, forward};
pub(crate) use page::{keep_inside, want_plain_page};
