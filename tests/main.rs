//! The proof: the real binary in real namespaces, asked by real clients.

mod scenario;
