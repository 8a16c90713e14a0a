//! Lets the host forward between pods and everyone else, and keeps what forwarding would take from the host.

use crate::host::Host;
use crate::sysctl::{self, Error};

/// Turns forwarding on in the families that pods have.
pub(super) fn enable(host: &Host) {
    let record = host.paths.sysctl_record();
    let is_v6 = |cidr: &ipnet::IpNet| cidr.addr().is_ipv6();
    let (v6, v4): (Vec<_>, Vec<_>) = host.pod_cidrs.borrow().iter().copied().partition(is_v6);
    let mut outcomes = Vec::new();
    if !v4.is_empty() {
        outcomes.push(sysctl::set(&record, "net/ipv4/ip_forward", "1"));
    }
    if !v6.is_empty() {
        outcomes.extend(keep_router_advertisements(&record));
        outcomes.push(sysctl::set(&record, "net/ipv6/conf/all/forwarding", "1"));
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
fn keep_router_advertisements(record: &std::path::Path) -> Vec<Result<(), Error>> {
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
