//! Lets the host forward between pods and everyone else, and keeps what forwarding would take from the host.

use std::net::IpAddr;
use std::path::Path;

use crate::host::Host;
use crate::paths;
use crate::sysctl::{self, Error};

/// Turns forwarding on in the families that pods have.
pub(super) fn enable(host: &Host) {
    let addresses: Vec<IpAddr> = host
        .pod_cidrs
        .borrow()
        .iter()
        .map(ipnet::IpNet::addr)
        .collect();
    turn_on(&host.paths.sysctl_record(), &addresses);
}

/// Turns forwarding on in the families of these addresses, for a machine without pods; [`teardown`](crate::teardown)
/// puts back what was there.
///
/// Such a machine forwards to where packets came from, and must not tell anybody of the shorter way.
pub fn forward_packets(run_dir: &Path, addresses: &[IpAddr]) {
    let record = paths::sysctl_record(run_dir);
    turn_on(&record, addresses);
    for link in sysctl::names("net/ipv4/conf") {
        let outcome = sysctl::set(
            &record,
            &format!("net/ipv4/conf/{link}/send_redirects"),
            "0",
        );
        if let Err(error) = outcome {
            tracing::warn!("{link} may send redirects: {error}");
        }
    }
}

fn turn_on(record: &Path, addresses: &[IpAddr]) {
    let mut outcomes = Vec::new();
    if addresses.iter().any(IpAddr::is_ipv4) {
        outcomes.push(sysctl::set(record, "net/ipv4/ip_forward", "1"));
    }
    if addresses.iter().any(IpAddr::is_ipv6) {
        outcomes.extend(keep_router_advertisements(record));
        outcomes.push(sysctl::set(record, "net/ipv6/conf/all/forwarding", "1"));
    }
    for error in outcomes.into_iter().filter_map(Result::err) {
        tracing::warn!(
            error = format!("{:#}", anyhow::Error::from(error)),
            "packets may not be forwarded"
        );
    }
}

/// A link that forwards takes its default route from a router's advertisements only if told so beforehand;
/// and turning forwarding off again would turn it off on links that forwarded all along.
fn keep_router_advertisements(record: &Path) -> Vec<Result<(), Error>> {
    let is = |key: &str, value: &str| sysctl::get(key).is_ok_and(|found| found == value);
    let all_forward = is("net/ipv6/conf/all/forwarding", "1");
    let mut outcomes = Vec::new();
    for link in sysctl::names("net/ipv6/conf") {
        let (accept, forward) = (
            format!("net/ipv6/conf/{link}/accept_ra"),
            format!("net/ipv6/conf/{link}/forwarding"),
        );
        if !all_forward && is(&forward, "1") {
            outcomes.push(sysctl::keep(record, &forward));
        }
        // What `default` says would hold for pods' links too, whose advertisements nobody should believe.
        let is_real = !matches!(link.as_str(), "all" | "default" | "lo");
        if is_real && !crate::network::is_own_link(&link) && is(&accept, "1") {
            outcomes.push(sysctl::set(record, &accept, "2"));
        }
    }
    outcomes
}
