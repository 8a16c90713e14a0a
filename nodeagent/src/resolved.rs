//! Has the host's own resolver, where it is systemd-resolved, ask cluster DNS for the cluster's names.
//!
//! What resolved is told belongs to knarr's own link and goes when the link goes. Edits no file and starts no service.

mod bus;
#[cfg(test)]
mod tests;
mod watch;

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use bus::{Call, Connection, Error};
pub(crate) use watch::Watch;

use crate::network::ANCHOR;

const BUS: &str = "/run/dbus/system_bus_socket";
/// Where resolved keeps its view of the resolvers while it runs.
const RESOLVED: &str = "/run/systemd/resolve";
const NAME: &str = "org.freedesktop.resolve1";
const INTERFACE: &str = "org.freedesktop.resolve1.Manager";

/// Whether the host's resolver is systemd-resolved, and this process is in its network.
#[must_use]
pub fn is_in_charge() -> bool {
    is_in_network_of_host() && Path::new(RESOLVED).exists() && Path::new(BUS).exists()
}

/// A namespace of one's own has no business with the host's resolver.
fn is_in_network_of_host() -> bool {
    let of = |process: &str| fs::read_link(Path::new("/proc").join(process).join("ns/net")).ok();
    let own = of("self");
    own.is_some() && own == of("1")
}

/// Which names to ask whom for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) servers: Vec<IpAddr>,
    pub(crate) domain: String,
}

/// Remembers what resolved was told last, so that it is told once.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    told: Option<(i32, Wish)>,
}

impl Teller {
    /// Resolved knows nothing any more.
    pub(crate) fn forget(&mut self) {
        self.told = None;
    }

    /// Tells resolved what differs from last time; a host without it is left alone.
    pub(crate) fn tell(&mut self, wish: Wish) {
        if wish.servers.is_empty() || wish.domain.is_empty() || !is_in_charge() {
            return;
        }
        let Some(link) = index_of(ANCHOR) else { return };
        let wanted = Some((link, wish));
        if self.told == wanted {
            return;
        }
        let outcome = wanted
            .as_ref()
            .map(|(link, wish)| tell(Path::new(BUS), *link, wish));
        if let Some(Err(error)) = outcome {
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::warn!(error, "this host does not look up names of Services");
        }
        // What it refused it would refuse again until something changes.
        self.told = wanted;
    }
}

/// Tells resolved over this bus to ask a link's servers for the names of a domain, and for no other.
fn tell(bus: &Path, link: i32, wish: &Wish) -> Result<(), Error> {
    let mut bus = Connection::open(bus)?;
    for call in calls(link, wish) {
        bus.call(&call)?;
    }
    Ok(())
}

fn calls(link: i32, wish: &Wish) -> Vec<Call> {
    let call = |member, signature| {
        Call::new(
            NAME,
            "/org/freedesktop/resolve1",
            INTERFACE,
            member,
            signature,
        )
    };
    let mut servers = call("SetLinkDNS", "ia(iay)");
    servers.body.integer(link);
    servers
        .body
        .structs(&wish.servers, |body, server| match server {
            IpAddr::V4(ip) => {
                body.integer(libc::AF_INET);
                body.bytes(&ip.octets());
            }
            IpAddr::V6(ip) => {
                body.integer(libc::AF_INET6);
                body.bytes(&ip.octets());
            }
        });
    let mut domains = call("SetLinkDomains", "ia(sb)");
    domains.body.integer(link);
    domains.body.structs(&[&wish.domain], |body, domain| {
        body.text(domain);
        body.truth();
    });
    // Cluster DNS neither signs nor encrypts, whatever the host asks of its other resolvers.
    let off = [
        "SetLinkDNSSEC",
        "SetLinkDNSOverTLS",
        "SetLinkLLMNR",
        "SetLinkMulticastDNS",
    ]
    .map(|member| {
        let mut off = call(member, "is");
        off.body.integer(link);
        off.body.text("no");
        off
    });
    [servers, domains].into_iter().chain(off).collect()
}

fn index_of(link: &str) -> Option<i32> {
    let index = nix::net::if_::if_nametoindex(link).ok()?;
    i32::try_from(index).ok()
}
