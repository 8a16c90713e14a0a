//! Load-balancer IPs on a link: one elected node says "that is me" by ARP (RFC 826, RFC 5227) and NDP (RFC 4861).
//!
//! No address is added to any link and no interface is made promiscuous: a filtered packet socket hears only the
//! questions that this node answers.

mod election;
mod filter;
mod fronts;
mod links;
mod socket;
mod vigil;
mod wire;

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::{election::rank, socket::Error};
pub(crate) use self::{
    fronts::{LEASE_NAME, LEASE_NAMESPACE, run as follow_fronts},
    vigil::run as keep_vigil,
};
use self::{
    links::Link,
    socket::Ears,
    wire::{Announcement, Question},
};

/// Neighbours may miss one frame; Linux' own bonding and VRRP repeat as well.
const REPEAT_COUNT: usize = 3;
const REPEAT_INTERVAL: Duration = Duration::from_millis(300);

/// Answers for the IPs in `mine`, and tells the neighbours whenever one is added.
///
/// # Errors
/// When packet sockets cannot be had.
pub async fn run(
    mut mine: watch::Receiver<BTreeSet<IpAddr>>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let ears = Ears::open()?;
    let mut links = links::Changes::open().map_err(Error::Netlink)?;
    let mut announced = BTreeSet::new();
    let mut repeats = 0;
    loop {
        let wanted = mine.borrow_and_update().clone();
        if wanted != announced {
            ears.listen_for(&wanted, &links.uplinks())?;
            announced = wanted;
            repeats = REPEAT_COUNT;
        }
        if repeats > 0 {
            announce(&ears, &announced, &links.uplinks());
            repeats -= 1;
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            changed = mine.changed() => if changed.is_err() { return Ok(()) },
            () = links.changed() => {
                // A link that came up has neighbours who know nothing yet.
                ears.listen_for(&announced, &links.uplinks())?;
                repeats = REPEAT_COUNT;
            }
            () = tokio::time::sleep(REPEAT_INTERVAL), if repeats > 0 => {}
            question = ears.next() => if let Some((link, question)) = question {
                answer(&ears, &announced, &links, link, &question);
            },
        }
    }
}

fn answer(
    ears: &Ears,
    mine: &BTreeSet<IpAddr>,
    links: &links::Changes,
    link_index: u32,
    question: &Question,
) {
    let Some(link) = links.uplink(link_index) else {
        return;
    };
    if mine.contains(&question.target()) {
        ears.send(link_index, &wire::answer(link.mac, question));
    }
}

fn announce(ears: &Ears, mine: &BTreeSet<IpAddr>, uplinks: &[Link]) {
    for link in uplinks {
        for ip in mine {
            ears.send(
                link.index,
                &wire::unsolicited(&Announcement {
                    mac: link.mac,
                    ip: *ip,
                }),
            );
        }
    }
}
