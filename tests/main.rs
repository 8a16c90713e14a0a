//! The proof: the real binary in real namespaces, asked by real clients.

#[expect(dead_code, reason = "the lab is shared with the benches")]
mod lab;
mod scenario;
mod streams;
mod trace;

mod accounts;
mod churn;
mod clients;
mod counts;
mod examples;
mod explain;
mod families;
mod faults;
mod firewalls;
mod flows;
mod fronts;
mod health;
mod history;
mod host;
mod hostile;
mod localhost;
mod model;
mod names;
mod outside;
mod packets;
mod pods;
mod proxies;
mod refusals;
mod roaming;
mod takeover;
mod tunnels;
