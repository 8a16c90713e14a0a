//! The proof: the real binary in real namespaces, asked by real clients.

mod lab;
mod scenario;
mod trace;

mod examples;
mod faults;
mod host;
mod packets;
