//! Follows the addresses that others reach this machine at, and those it has at all. Tells; changes nothing.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use knarr_nodeagent::Monitor;
use tokio::{sync::watch, time::sleep};

use crate::{
    host::{self, Choice, Found, Host},
    settings::Settings,
};

/// An address that goes may come back at once, as when a lease is renewed; no new one is taken for it for so long.
const PATIENCE: Duration = Duration::from_millis(600);
/// A change comes in many steps, and pods come and go: one look for all of them.
const SETTLE: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(1);

/// This machine's addresses, at any time.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    /// Where others reach it: those asked for, else the uplink's; none on a host without network.
    pub(crate) node: watch::Receiver<Vec<IpAddr>>,
    /// Every address that answers here.
    pub(crate) local: watch::Receiver<BTreeSet<IpAddr>>,
}

/// What becomes of an address that is gone and that none replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It is soon given up: on a node, its address among the pods does as well.
    Forgotten,
    /// Nothing else would lead here.
    Kept,
}

/// What keeps [`Addresses`] true.
pub(crate) struct Follower {
    monitor: Monitor,
    detects: bool,
    gone: Gone,
    node: watch::Sender<Vec<IpAddr>>,
    local: watch::Sender<BTreeSet<IpAddr>>,
}

/// The addresses as they are, and what follows them from here on.
pub(crate) async fn follow(settings: &Settings, gone: Gone) -> Result<(Addresses, Follower)> {
    // Opened first, so that no change falls between.
    let monitor = Monitor::open().context("cannot listen for changes of addresses")?;
    let host = host::observe().await?;
    let detects = settings.node_ip.is_empty();
    let found = host.uplink(&[]);
    let first = match detects {
        true => found.iter().map(|found| found.address).collect(),
        false => settings.node_ip.clone(),
    };
    let (node, node_receiver) = watch::channel(first);
    let (local, local_receiver) = watch::channel(host.local);
    let addresses = Addresses {
        node: node_receiver,
        local: local_receiver,
    };
    let follower = Follower {
        monitor,
        detects,
        gone,
        node,
        local,
    };
    Ok((addresses, follower))
}

impl Follower {
    /// Follows until dropped.
    pub(crate) async fn run(self) -> Result<()> {
        let mut missed_since = None;
        let mut pause = Duration::MAX;
        loop {
            tokio::select! {
                heard = self.monitor.changed() => {
                    heard.context("listening for changes of addresses")?;
                    sleep(SETTLE).await;
                }
                () = sleep(pause) => {}
            }
            pause = match host::observe().await {
                Ok(host) => self.take(host, &mut missed_since),
                Err(error) => {
                    tracing::warn!("looking at this machine's addresses: {error:#}");
                    RETRY
                }
            };
        }
    }

    /// Says when to look again without being told.
    fn take(&self, host: Host, missed_since: &mut Option<Instant>) -> Duration {
        let again = match self.detects {
            true => self.detect(&host, missed_since),
            false => Duration::MAX,
        };
        self.local.send_if_modified(|local| {
            let differs = *local != host.local;
            *local = host.local;
            differs
        });
        again
    }

    fn detect(&self, host: &Host, missed_since: &mut Option<Instant>) -> Duration {
        let known = self.node.borrow().clone();
        let found = host.uplink(&known);
        let mut settled = settle(&known, &found, Missed::Awaited);
        let mut again = Duration::MAX;
        match (settled.awaits, self.gone) {
            (false, _) | (true, Gone::Kept) => *missed_since = None,
            (true, Gone::Forgotten) => {
                let since = missed_since.get_or_insert_with(Instant::now);
                let left = PATIENCE.saturating_sub(since.elapsed());
                if left.is_zero() {
                    settled = settle(&known, &found, Missed::GivenUp);
                } else {
                    again = left;
                }
            }
        }
        if settled.addresses != known {
            tracing::info!("this machine's addresses are {:?}", settled.addresses);
            self.node.send_replace(settled.addresses);
        }
        again
    }
}

/// What is thought of addresses that were there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missed {
    Awaited,
    GivenUp,
}

struct Settled {
    addresses: Vec<IpAddr>,
    /// Whether any of them is there no longer.
    awaits: bool,
}

/// What stands for this machine after it was known by some addresses and others were found.
fn settle(known: &[IpAddr], found: &[Found], missed: Missed) -> Settled {
    let mut settled = Settled {
        addresses: Vec::new(),
        awaits: false,
    };
    for v4 in [true, false] {
        let known = known.iter().find(|ip| ip.is_ipv4() == v4).copied();
        let found = found.iter().find(|found| found.address.is_ipv4() == v4);
        let address = match (known, found, missed) {
            (
                _,
                Some(Found {
                    address,
                    choice: Choice::Sure,
                }),
                _,
            )
            | (
                None,
                Some(Found {
                    address,
                    choice: Choice::Guess,
                }),
                _,
            )
            | (
                Some(_),
                Some(Found {
                    address,
                    choice: Choice::Guess,
                }),
                Missed::GivenUp,
            ) => Some(*address),
            (Some(known), _, Missed::Awaited) => {
                settled.awaits = true;
                Some(known)
            }
            (Some(_), None, Missed::GivenUp) | (None, None, _) => None,
        };
        settled.addresses.extend(address);
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses found by a guess end in `?`; what is awaited is expected to end in `!`.
    fn check(known: &[&str], found: &[&str], missed: Missed, expected: &[&str]) {
        let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let found: Vec<Found> = found
            .iter()
            .map(|text| match text.strip_suffix('?') {
                Some(guess) => Found {
                    address: ip(guess),
                    choice: Choice::Guess,
                },
                None => Found {
                    address: ip(text),
                    choice: Choice::Sure,
                },
            })
            .collect();
        let known: Vec<IpAddr> = known.iter().map(|text| ip(text)).collect();
        let settled = settle(&known, &found, missed);
        let mut texts: Vec<String> = settled.addresses.iter().map(IpAddr::to_string).collect();
        if settled.awaits {
            texts.push("!".into());
        }
        assert_eq!(texts, expected, "{known:?} {found:?}");
    }

    const OLD: &str = "192.0.2.5";
    const NEW: &str = "198.51.100.7";
    const V6: &str = "2001:db8::7";

    #[test]
    fn a_new_address_is_taken_at_once() {
        for missed in [Missed::Awaited, Missed::GivenUp] {
            check(&[OLD], &[NEW], missed, &[NEW]);
            check(&[], &[NEW], missed, &[NEW]);
            check(&[], &["172.17.0.1?"], missed, &["172.17.0.1"]);
            check(&[OLD], &[OLD, V6], missed, &[OLD, V6]);
        }
    }

    #[test]
    fn an_address_that_is_gone_is_awaited_before_it_is_given_up() {
        check(&[OLD], &[], Missed::Awaited, &[OLD, "!"]);
        check(&[OLD], &[], Missed::GivenUp, &[]);
        check(&[OLD], &["172.17.0.1?"], Missed::Awaited, &[OLD, "!"]);
        check(&[OLD], &["172.17.0.1?"], Missed::GivenUp, &["172.17.0.1"]);
    }

    #[test]
    fn a_family_that_goes_takes_nothing_of_the_other_with_it() {
        check(&[OLD, V6], &[NEW], Missed::Awaited, &[NEW, V6, "!"]);
        check(&[OLD, V6], &[NEW], Missed::GivenUp, &[NEW]);
    }
}
