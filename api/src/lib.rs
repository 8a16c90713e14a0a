//! The nouns: what each served kind is, may hold, defaults to and prints as.
//!
//! Everything here is pure: no I/O, no clock, no randomness. Objects are [`serde_json::Value`]s, kept as the client sent them.

pub mod apply;
pub mod cron;
pub mod decode;
pub mod field;
pub mod go;
pub mod kind;
pub mod kinds;
pub mod meta;
pub mod names;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;
pub mod value;
pub mod version;
pub mod walk;
pub mod yaml;
