//! Reads what a request asks for from its method, path, query and body. Judges nothing against the store.

pub(crate) mod body;
mod deadline;
pub(crate) mod options;
pub(crate) mod path;
pub(crate) mod query;

pub(crate) use deadline::check_timeout;
pub(crate) use path::{RequestInfo, Route, Verb};
pub(crate) use query::Query;
